"""Every loss and the mean IoU are the same on TensorFlow, JAX and torch, in value and gradient.

In every mode; on JAX by default in one.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from test_losses import IGNORE, gradient, number

from segzoo import losses
from segzoo.data import with_distances
from segzoo.losses import LOSSES
from segzoo.metrics import MeanIoU

# One process for each backend, since Keras binds to one when it is imported.
SCRIPT = """
import sys
backend, given, out, ignore, modes = sys.argv[1:]
for other in {"tensorflow", "jax"} - {backend}:
    sys.modules[other] = None  # not torch: SciPy would take the None for the module
import keras
import numpy as np
from segzoo.losses import LOSSES
from segzoo.metrics import MeanIoU

assert keras.backend.backend() == backend
arrays, results = np.load(given), {}
for name in LOSSES:
    for mode in LOSSES[name].modes[: int(modes)]:
        loss = LOSSES[name](ignore_index=int(ignore), mode=mode)
        target, logits = (keras.ops.convert_to_tensor(arrays[f"{what} {mode}"]) for what in ("target", "logits"))
        target = target if loss.takes_distances else target[..., : -logits.shape[-1] - 1]
        if backend == "jax":
            import jax
            value, slope = jax.jit(jax.value_and_grad(lambda z: loss(target, z)))(logits)
        else:
            logits.requires_grad_(True)
            value = loss(target, logits)
            value.backward()
            slope = logits.grad
        results[f"{name} {mode}"] = keras.ops.convert_to_numpy(value)
        results[f"{name} {mode} gradient"] = keras.ops.convert_to_numpy(slope)
metric = MeanIoU(4, int(ignore))
metric.update_state(arrays["target multiclass"][..., 0].astype("int32"), arrays["logits multiclass"])
results["mean_iou"] = keras.ops.convert_to_numpy(metric.result())
np.savez(out, **results)
"""


@pytest.fixture(scope="module")
def arrays():
    """Targets with distances, and logits, for every mode."""
    rng = np.random.default_rng(11)
    labels = np.kron(rng.integers(0, 4, (2, 3, 3)), np.ones((4, 3), int))
    labels[:, :2, 4:] = IGNORE
    distances = np.stack([with_distances(mask, 4, IGNORE) for mask in labels])
    made = {"target multiclass": distances}
    for mode, classes in (("binary", 1), ("multilabel", 4)):
        values = (rng.uniform(size=(*labels.shape, classes)) < 0.4).astype("float32")
        values[labels == IGNORE] = IGNORE
        made[f"target {mode}"] = np.concatenate([values, distances[..., 1 : 1 + classes], distances[..., -1:]], axis=-1)
    for mode, classes in (("multiclass", 4), ("binary", 1), ("multilabel", 4)):
        made[f"logits {mode}"] = rng.normal(0, 2, (*labels.shape, classes)).astype("float32")
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "modes"),
    [("jax", 1), ("torch", 3), pytest.param("jax", 3, marks=pytest.mark.nightly)],  # JAX compiles each for a second
)
def test_losses_and_metric_are_those_of_tensorflow(backend, modes, arrays, tmp_path):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("compares with TensorFlow")
    np.savez(tmp_path / "given.npz", **arrays)
    environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiling takes far longer than what is computed once
    command = [
        sys.executable,
        "-c",
        SCRIPT,
        backend,
        tmp_path / "given.npz",
        tmp_path / "found.npz",
        str(IGNORE),
        str(modes),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found = dict(np.load(tmp_path / "found.npz"))
    for name in LOSSES:
        for mode in LOSSES[name].modes[:modes]:
            loss = losses.LOSSES[name](ignore_index=IGNORE, mode=mode)
            target, logits = arrays[f"target {mode}"], arrays[f"logits {mode}"]
            target = target if loss.takes_distances else target[..., : -logits.shape[-1] - 1]
            assert found.pop(f"{name} {mode}") == pytest.approx(number(loss(target, logits)), rel=1e-5), (name, mode)
            slope = found.pop(f"{name} {mode} gradient")
            np.testing.assert_allclose(slope, gradient(loss, target, logits), atol=1e-6, err_msg=f"{name} {mode}")
    metric = MeanIoU(4, IGNORE)
    metric.update_state(arrays["target multiclass"][..., 0].astype("int32"), arrays["logits multiclass"])
    assert found.pop("mean_iou") == pytest.approx(float(metric.result()))
    assert not found


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_leaves_the_graph(name, arrays):
    """Computation in Python or on the host shows as such an operation, and would stall a GPU in every step."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("reads TensorFlow's graph")
    import tensorflow as tf

    mode = LOSSES[name].modes[0]
    loss = LOSSES[name](ignore_index=IGNORE, mode=mode)
    target, logits = (tf.constant(arrays[f"{what} {mode}"]) for what in ("target", "logits"))
    target = target if loss.takes_distances else target[..., : -logits.shape[-1] - 1]

    @tf.function
    def step(target, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(target, logits)
        return tape.gradient(value, logits)

    kinds = {operation.type for operation in step.get_concrete_function(target, logits).graph.get_operations()}
    assert not {kind for kind in kinds if "PyFunc" in kind or kind.startswith(("Host", "Print", "Where"))}

"""TensorFlow, JAX and torch, whichever are installed, agree: logits of one set of weights, losses, the mean IoU.

Losses in value and gradient, in every mode; on JAX by default in one.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segzoo.backbones import BACKBONES
from segzoo.backbones.figures import figures
from segzoo.decoders import DECODERS
from segzoo.losses import LOSSES

BACKENDS = ("tensorflow", "jax", "torch")
INSTALLED = [name for name in BACKENDS if importlib.util.find_spec(name)]


def smallest_of_families() -> list[str]:
    """The smallest backbone of every family whose package is installed."""
    smallest = {}
    for name in sorted(BACKBONES, key=lambda name: figures(name).parameters, reverse=True):
        package = BACKBONES[name].package
        if not package or importlib.util.find_spec(package.replace("-", "_")):
            smallest[BACKBONES[name].family] = name
    return sorted(smallest.values(), key=lambda name: BACKBONES[name].package == "keras-cv")


# By default two decoders with layers of their own, of attention and of pooled and dilated maps, the latter also in
# training; on JAX, which compiles every operation of a network, the latter alone. The marker `nightly` has every
# decoder on five convolutions and a network of each kind: dilated, with squeeze-and-excitation, layer normalization,
# attention; `zoo` has the smallest network of every family.
FEW = ["manet+shallow", "deeplabv3plus+small"]
KINDS = [f"{decoder}+small" for decoder in DECODERS] + ["deeplabv3plus+resnet18"]
KINDS += ["linknet+mobilenetv3_small", "linknet+convnext_tiny", "linknet+hub_mit_b0"]

# Each backend runs in a process of its own, since Keras binds to one when it is imported; the others are hidden from
# it, so that nothing leans on TensorFlow by accident. The first process writes the weights, the others read them.
SCRIPT = """
import sys
from pathlib import Path
folder, backend, amount, *pairs = sys.argv[1:]
brief = amount == "brief"
# Keras imports the last two where it finds them, for wrappers and pictures, in three seconds.
hidden = {"tensorflow", "jax", "torch", "sklearn", "matplotlib"} - {backend}
class Without:  # None in sys.modules would do, if SciPy did not take it for the module
    def __init__(self, finder):
        self.finder = finder
    def __getattr__(self, name):
        return getattr(self.finder, name)
    def find_spec(self, name, path=None, target=None):
        return None if name in hidden else self.finder.find_spec(name, path, target)
sys.meta_path[:] = map(Without, sys.meta_path)
import numpy as np
import keras
import segzoo
from loss_arrays import IGNORE, loss_arrays
from networks import small_for
from segzoo.losses import LOSSES
from segzoo.metrics import MeanIoU
from segzoo.weights import load_file, save_file

assert keras.backend.backend() == backend

def trained(model, images):  # JAX compiles the whole faster than operation by operation
    if backend != "jax":
        return model(images, training=True)
    import jax
    values = [[weight.value for weight in kind] for kind in (model.trainable_variables, model.non_trainable_variables)]
    found, moved = jax.jit(lambda *given: model.stateless_call(*given, training=True))(*values, images)
    for weight, value in zip(model.non_trainable_variables, moved, strict=True):
        weight.assign(value)
    return found

def value_and_gradient(loss, target, logits):
    target, logits = map(keras.ops.convert_to_tensor, (target, logits))
    if backend == "jax":
        import jax
        return jax.jit(jax.value_and_grad(lambda z: loss(target, z)))(logits)
    if backend == "torch":
        logits.requires_grad_(True)
        value = loss(target, logits)
        value.backward()
        return value, logits.grad
    import tensorflow as tf
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(target, logits)
    return value, tape.gradient(value, logits)

folder, results = Path(folder), {}
keras.utils.set_random_seed(0)
if any(folder.iterdir()):  # all weights are read, so none is drawn: JAX compiles an initializer for every shape
    for kind in (keras.initializers.VarianceScaling, keras.initializers.Zeros, keras.initializers.Ones):
        kind.__call__ = lambda self, shape, dtype=None: keras.ops.convert_to_tensor(np.zeros(shape, dtype))
images = np.random.default_rng(0).uniform(0, 255, (2, 33, 47, 3)).astype("float32")
for pair in pairs:
    decoder, backbone = pair.split("+")
    options = {"taps": "output"} if backbone.startswith("efficientnet") else {}
    if backbone == "shallow":  # two levels of it, which JAX compiles in a third of the time
        options["depth"] = 2
    if backbone in ("small", "shallow"):
        backbone = small_for(decoder)
    else:  # no dropout of any kind: it draws other numbers on every backend
        options["drop_path"] = 0.0
        if backbone.startswith("kcv_"):
            hidden.clear()  # keras-cv reads data with TensorFlow on every backend
    model = segzoo.build_model(decoder, backbone, 3, weights="none", dropout=0.0, **options)
    path = folder / f"{pair}.weights.h5"
    if path.exists():
        report = load_file(model, path)
        assert len(report.loaded) == len(model.weights) and not report.skipped, report
    else:
        save_file(model, path)
    # JAX compiles the whole faster than layer by layer; tracing costs TensorFlow more than it saves.
    results[pair] = model.predict_on_batch(images) if backend == "jax" else model(images, training=False)
    if decoder == "deeplabv3plus":  # batch normalisation in training, the pooled branch of one image too
        for count in (1,) if brief else (1, 2):
            results[f"{pair} trained on {count}"] = trained(model, images[:count])
            moved = [keras.ops.reshape(weight, (-1,)) for weight in model.non_trainable_weights]
            results[f"{pair} statistics of {count}"] = keras.ops.concatenate(moved)
arrays = loss_arrays()
for name in LOSSES:
    for mode in LOSSES[name].modes[: 1 if brief else None]:
        loss = LOSSES[name](ignore_index=IGNORE, mode=mode)
        target, logits = arrays[f"target {mode}"], arrays[f"logits {mode}"]
        target = target if loss.takes_distances else target[..., : -logits.shape[-1] - 1]
        value, slope = value_and_gradient(loss, target, logits)
        results |= {f"loss {name} {mode}": value, f"gradient {name} {mode}": slope}
metric = MeanIoU(4, IGNORE)
metric.update_state(arrays["target multiclass"][..., 0].astype("int32"), arrays["logits multiclass"])
results["mean_iou"] = metric.result()
if backend == "torch":
    results = {key: value.detach() for key, value in results.items()}
np.savez(folder / f"{backend}.npz", **{key: keras.ops.convert_to_numpy(value) for key, value in results.items()})
"""


@pytest.fixture(
    scope="module",
    params=[
        "few",
        pytest.param("kinds", marks=pytest.mark.nightly),
        pytest.param("families", marks=pytest.mark.zoo),
    ],
)
def reference(request, tmp_path_factory, forked) -> tuple[Path, str, list[str]]:
    """Folder and name of the first installed backend, after it has run these networks."""
    if len(INSTALLED) < 2:
        pytest.skip(f"compares backends, and only {', '.join(INSTALLED) or 'none'} is installed")
    folder = tmp_path_factory.mktemp("backends")
    families = [f"linknet+{name}" for name in smallest_of_families()]
    pairs = {"few": FEW, "kinds": KINDS, "families": families}[request.param]
    if INSTALLED[0] == os.environ.get("KERAS_BACKEND", "tensorflow"):
        forked(SCRIPT, folder, INSTALLED[0], "whole", *pairs, path=(Path(__file__).parent,))
    else:
        run(INSTALLED[0], folder, "whole", pairs)
    return folder, INSTALLED[0], pairs


def run(backend: str, folder: Path, amount: str, pairs: list[str]) -> None:
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parent), os.getenv("PYTHONPATH"))))
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # of XLA: compiling takes far longer than what is computed once
    command = [sys.executable, "-c", SCRIPT, str(folder), backend, amount, *pairs]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module", params=BACKENDS)
def results(request, reference: tuple[Path, str, list[str]]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Results of a backend, and those of the reference under the same names."""
    folder, first, pairs = reference
    backend = request.param
    if backend == first:
        pytest.skip(f"{backend} is the one that the others are compared with")
    if backend not in INSTALLED:
        pytest.skip(f"{backend} is not installed")
    brief = backend == "jax" and pairs == FEW  # JAX compiles each loss, mode and training for a second and more
    pairs = pairs[-1:] if brief else pairs
    run(backend, folder, "brief" if brief else "whole", pairs)
    expected, found = (dict(np.load(folder / f"{name}.npz")) for name in (first, backend))
    modes = [(name, mode) for name in LOSSES for mode in LOSSES[name].modes[: 1 if brief else None]]
    assert set(found) >= {*pairs, "mean_iou", *(f"gradient {name} {mode}" for name, mode in modes)}
    assert set(found) <= set(expected) and (brief or set(found) == set(expected))
    return found, expected


@pytest.mark.slow
def test_logits_are_the_same_on_every_backend(results) -> None:
    found, expected = results
    apart = {}
    for name in (name for name in found if "+" in name):
        # Untrained networks have logits of any size, some of 1e-5, where 1e-4 would say nothing.
        largest = np.abs(expected[name]).max()
        assert expected[name].std() > 0, name
        difference = np.abs(found[name] - expected[name]).max()
        # A batch of two has two pooled values per channel; where they are close, normalising them magnifies rounding.
        relative = 1e-3 if name.endswith("trained on 2") else 1e-4
        if not difference <= min(relative * max(1.0, largest), 1e-2 * largest):
            apart[name] = (difference, largest)
    assert not apart


@pytest.mark.slow
def test_losses_and_metric_are_the_same_on_every_backend(results) -> None:
    found, expected = results
    for name in (name for name in found if "+" not in name):
        gradient = name.startswith("gradient")
        rtol = 0 if gradient else 1e-6 if name == "mean_iou" else 1e-5
        np.testing.assert_allclose(found[name], expected[name], rtol=rtol, atol=1e-6 if gradient else 0, err_msg=name)

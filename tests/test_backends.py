"""One set of weights gives the same logits on TensorFlow, JAX and torch, whichever are installed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from segzoo.decoders import DECODERS

BACKENDS = ("tensorflow", "jax", "torch")
INSTALLED = [name for name in BACKENDS if importlib.util.find_spec(name)]
# Every decoder with one backbone, and one backbone of every family, with small decoders.
FAMILIES = (
    "efficientnet_b0",
    "efficientnetv2_b0",
    "resnet50",
    "resnet50v2",
    "vgg16",
    "densenet121",
    "mobilenet",
    "mobilenetv2",
)
FAMILIES += ("mobilenetv3_small", "convnext_tiny", "xception", "inceptionv3", "inceptionresnetv2", "nasnet_mobile")
PAIRS = [f"{decoder}+resnet18" for decoder in DECODERS] + [f"linknet+{backbone}" for backbone in FAMILIES]

# Each backend runs in a process of its own, since Keras binds to one when it is imported; the others are hidden from
# it, so that nothing leans on TensorFlow by accident. The first process writes the weights, the others read them.
SCRIPT = """
import sys
from pathlib import Path
folder, backend, *pairs = sys.argv[1:]
hidden = {"tensorflow", "jax", "torch"} - {backend}
class Hide:  # None in sys.modules would do, if SciPy did not take it for the module
    def find_spec(self, name, path=None, target=None):
        if name in hidden:
            raise ModuleNotFoundError(f"{name} is hidden", name=name)
sys.meta_path.insert(0, Hide())
import numpy as np
import keras
import segzoo
from segzoo.weights import load_file, save_file

assert keras.backend.backend() == backend
folder, results = Path(folder), {}
keras.utils.set_random_seed(0)
if any(folder.iterdir()):  # all weights are read, so none is drawn: JAX compiles an initializer for every shape
    keras.initializers.VarianceScaling.__call__ = lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype)
images = np.random.default_rng(0).uniform(0, 255, (2, 33, 47, 3)).astype("float32")
for pair in pairs:
    decoder, backbone = pair.split("+")
    taps = "output" if backbone.startswith("efficientnet") else None
    # No dropout of any kind: it draws other numbers on every backend.
    model = segzoo.build_model(decoder, backbone, 3, weights="none", taps=taps, drop_path=0.0, dropout=0.0)
    path = folder / f"{pair}.weights.h5"
    if path.exists():
        report = load_file(model, path)
        assert len(report.loaded) == len(model.weights) and not report.skipped, report
    else:
        save_file(model, path)
    results[pair] = model.predict_on_batch(images)  # compiled as a whole, which JAX does faster than layer by layer
    if decoder == "deeplabv3plus":  # batch normalisation in training, the pooled branch of one image too
        results["trained on two"] = model(images, training=True)
        results["trained on one"] = model(images[:1], training=True)
        moved = [keras.ops.reshape(weight, (-1,)) for weight in model.non_trainable_weights]
        results["statistics"] = keras.ops.concatenate(moved)
np.savez(folder / f"{backend}.npz", **{key: keras.ops.convert_to_numpy(value) for key, value in results.items()})
"""


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> tuple[Path, str]:
    """Folder and name of the first installed backend, after it has run."""
    if len(INSTALLED) < 2:
        pytest.skip(f"compares backends, and only {', '.join(INSTALLED) or 'none'} is installed")
    folder = tmp_path_factory.mktemp("backends")
    run(INSTALLED[0], folder)
    return folder, INSTALLED[0]


def run(backend: str, folder: Path) -> None:
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # of XLA: compiling takes far longer than what is computed once
    command = [sys.executable, "-c", SCRIPT, str(folder), backend, *PAIRS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_logits_are_the_same_on_every_backend(backend: str, reference: tuple[Path, str]) -> None:
    folder, first = reference
    if backend == first:
        pytest.skip(f"{backend} is the one that the others are compared with")
    if backend not in INSTALLED:
        pytest.skip(f"{backend} is not installed")
    run(backend, folder)
    expected, found = np.load(folder / f"{first}.npz"), np.load(folder / f"{backend}.npz")
    assert set(found) == set(expected) > set(PAIRS)
    for name in expected:
        # Untrained networks have logits of any size, some of 1e-5, where 1e-4 would say nothing.
        largest = np.abs(expected[name]).max()
        assert expected[name].std() > 0, name
        tolerance = min(1e-4 * max(1.0, largest), 1e-2 * largest)
        np.testing.assert_allclose(found[name], expected[name], atol=tolerance, err_msg=name)

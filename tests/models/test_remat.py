"""Gradient checkpointing changes what is held in memory and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import segzoo
from segzoo.config import load_config
from segzoo.engine.builders import build_network
from segzoo.models.remat import RematModel, cuts

pytestmark = pytest.mark.usefixtures("one_structure")
NETWORKS = {
    "dropout and stochastic depth": ("unet", "efficientnet_b0", {"depth": 2, "dropout": 0.3, "taps": "output"}),
    "several outputs": (
        "unetplusplus",
        "mobilenetv2",
        {
            "depth": 3,
            "channels": [8, 8, 8],
            "deep_supervision": True,
            "auxiliary": ("P3",),
            "classification": True,
        },
    ),
    "a frozen part": ("linknet", "mobilenet", {"depth": 2, "trainable": "P1"}),
}


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients by tf.GradientTape")
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_has_the_same_gradients_statistics_and_random_numbers(name: str, pixels) -> None:
    decoder, backbone, options = NETWORKS[name]
    images = pixels(64, 64, batch=2)

    def step(remat: bool):
        keras.utils.set_random_seed(0)
        model = segzoo.build_model(decoder, backbone, 3, weights="none", remat=remat, **options)
        return model, gradients(model, images, graph=name == "a frozen part")

    plain, expected = step(remat=False)
    remat, found = step(remat=True)
    assert isinstance(remat, RematModel)
    assert len(remat._plan.segments) > 3
    largest = max(float(np.abs(gradient).max()) for gradient in expected)
    for ours, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-5 * largest)
    for ours, other in zip(remat.variables, plain.variables, strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(other), atol=1e-6)


def gradients(model: keras.Model, images: np.ndarray, graph: bool) -> list[np.ndarray]:
    import tensorflow as tf

    def gradients():
        with tf.GradientTape() as tape:
            loss = sum(tf.reduce_mean(tf.square(x)) for x in keras.tree.flatten(model(images, training=True)))
        return tape.gradient(loss, [weight.value for weight in model.trainable_weights])

    return [gradient.numpy() for gradient in (tf.function(gradients) if graph else gradients)()]


def test_it_is_saved_and_read_back_as_what_it_is(pixels, tmp_path: Path, loaded_elsewhere) -> None:
    model = segzoo.build_model("fpn", "mobilenet", 3, weights="none", remat=True, depth=3)
    images = pixels(64, 64)
    model(images, training=True)  # with its segments made
    model.save(tmp_path / "model.keras")
    again = loaded_elsewhere(tmp_path / "model.keras", images)
    assert again.type == "RematModel"
    assert again.weights == [weight.path for weight in model.trainable_weights]
    np.testing.assert_allclose(again.output, model(images), atol=1e-6)


def test_a_configuration_asks_for_it() -> None:
    config = load_config("unet_b0.yaml", ["training.remat=true", "model.weights=none", "model.options.depth=2"])
    assert isinstance(build_network(config), RematModel)


def test_a_chain_is_cut_at_the_root_of_its_length() -> None:
    calls = 64
    found = cuts(range(calls), [*range(1, calls), calls], [1.0] * calls, calls)
    ends = [0, *found, calls]
    # Cut evenly into eight it holds 7 + 8; unevenly, with the last ones shorter, a little less.
    assert len(found) + 1 <= 16
    held = max(index + ends[index + 1] - ends[index] for index in range(len(ends) - 1))
    assert held <= 15


def test_cuts_go_where_tensors_are_small_and_few() -> None:
    # A bottleneck after call 2, and a tensor of call 0 that the last one reads: it is held whatever is cut.
    made, last, sizes = [0, 0, 1, 2, 3, 4], [1, 5, 2, 3, 4, 5], [50.0, 5.0, 50.0, 1.0, 50.0, 50.0]
    assert cuts(made, last, sizes, 5) == [3]


# A process with JAX alone: Keras would import TensorFlow to ask whether the data are its, which takes four seconds.
JAX = """
import sys
sys.modules["tensorflow"] = None
import keras, numpy as np
from segzoo.layers import BatchNormalization
from segzoo.models.remat import RematModel

def step(kind):
    keras.utils.set_random_seed(0)
    images = x = keras.Input((8, 8, 3))
    for number in range(3):
        y = keras.layers.Conv2D(3, 3, padding="same")(x)
        y = BatchNormalization()(y)
        y = keras.layers.Dropout(0.3)(keras.layers.ReLU()(y))
        x = keras.layers.Add()([x, y])
    model = kind(images, keras.layers.Conv2D(2, 1)(x))
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    rng = np.random.default_rng(0)
    for _ in range(2):
        model.train_on_batch(rng.normal(size=(4, 8, 8, 3)), rng.integers(0, 2, (4, 8, 8)))
    return model

plain, remat = step(keras.Model), step(RematModel)
assert len(remat._plan.segments) > 2
for ours, other in zip(remat.variables, plain.variables, strict=True):
    np.testing.assert_allclose(np.asarray(ours.value), np.asarray(other.value), atol=1e-5)
"""


@pytest.mark.nightly
def test_jax_trains_to_the_same_weights() -> None:
    pytest.importorskip("jax")
    # Compiling takes far longer than what is computed once.
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run([sys.executable, "-c", JAX], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

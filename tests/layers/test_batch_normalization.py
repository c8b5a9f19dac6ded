"""BatchNormalization against Keras's own, and the three things it does differently."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from segzoo.layers import BatchNormalization

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients by tf.GradientTape")

SHAPE = (2, 5, 7, 6)


def pair(dtype: str = "float32", **options) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    """Ours in `dtype` and Keras's in float32, with the same arbitrary weights."""
    rng = np.random.default_rng(0)
    ours = BatchNormalization(momentum=0.8, dtype=dtype, **options)
    theirs = keras.layers.BatchNormalization(momentum=0.8, **options)
    ours.build(SHAPE)
    theirs.build(SHAPE)
    weights = [rng.uniform(0.5, 1.5, weight.shape) for weight in theirs.weights]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    return ours, theirs


def images(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(1).normal(2.0, 3.0, shape).astype("float32")


def run(layer: keras.layers.Layer, x: np.ndarray, training: bool) -> tuple[np.ndarray, list[np.ndarray]]:
    """Outputs and the gradients of a weighted sum of them, for the input and the trainable weights."""
    weights = np.random.default_rng(2).normal(size=x.shape).astype("float32")
    with tf.GradientTape() as tape:
        value = tf.Variable(tf.cast(x, layer.compute_dtype))
        y = layer(value, training=training)
        loss = tf.reduce_sum(tf.cast(y, "float32") * weights)
    gradients = tape.gradient(loss, [value, *(weight.value for weight in layer.trainable_weights)])
    return np.asarray(tf.cast(y, "float32")), [np.asarray(tf.cast(g, "float32")) for g in gradients]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"epsilon": 0.1}, {"scale": False}, {"center": False}], ids=str)
def test_equals_keras(training: bool, options: dict) -> None:
    ours, theirs = pair(**options)
    outputs, gradients = run(ours, images(), training)
    expected_outputs, expected_gradients = run(theirs, images(), training)
    np.testing.assert_allclose(outputs, expected_outputs, atol=1e-5)
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, atol=1e-5 * max(1, np.abs(expected).max()))
    for weight, expected in zip(ours.weights, theirs.weights, strict=True):  # the moving statistics among them
        np.testing.assert_allclose(weight, expected, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_frozen_equals_keras(training: bool) -> None:
    """A frozen layer also runs in inference mode: its statistics stay, whatever `training` says."""
    ours, theirs = pair()
    before = ours.get_weights()
    ours.trainable = theirs.trainable = False
    np.testing.assert_allclose(ours(images(), training=training), theirs(images(), training=training), atol=1e-5)
    for weight, old in zip(ours.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("training", [True, False])
def test_half_precision_keeps_float32_statistics(dtype: str, training: bool) -> None:
    ours, theirs = pair(dtype)
    outputs, gradients = run(ours, images(), training)
    expected_outputs, expected_gradients = run(theirs, images(), training)
    # bfloat16 has 8 bits of mantissa: 1/256 of a value is rounded off, for input and output.
    np.testing.assert_allclose(outputs, expected_outputs, atol=0.03, rtol=0.01)
    for gradient, expected in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, atol=0.02 * max(1, np.abs(expected).max()))
    for weight, expected in zip(ours.weights, theirs.weights, strict=True):
        assert weight.dtype == "float32"
        np.testing.assert_allclose(weight, expected, rtol=0.01)


def test_other_ranks_and_axes_equal_keras() -> None:
    for shape, axis in [((8, 6), -1), ((2, 6, 5, 7), 1), ((2, 3, 4, 5, 6), -1)]:
        x = images(shape)
        layers = BatchNormalization(axis=axis, momentum=0.8), keras.layers.BatchNormalization(axis=axis, momentum=0.8)
        np.testing.assert_allclose(*(layer(x, training=True) for layer in layers), atol=1e-5)
        for ours, theirs in zip(*(layer.weights for layer in layers), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_float64_equals_keras() -> None:
    """The fused kernel has no double precision; that policy takes Keras's way."""
    x = images().astype("float64")
    layers = BatchNormalization(dtype="float64"), keras.layers.BatchNormalization(momentum=0.9, dtype="float64")
    outputs = [layer(x, training=True) for layer in layers]
    assert outputs[0].dtype == "float64"
    np.testing.assert_allclose(*outputs, atol=1e-12)


def test_a_graph_of_unknown_sizes_updates_the_statistics() -> None:
    ours, theirs = pair()
    step = tf.function(lambda x: ours(x, training=True), input_signature=[tf.TensorSpec((None, None, None, 6))])
    for shape in [(2, 5, 7, 6), (1, 3, 2, 6)]:
        np.testing.assert_allclose(step(images(shape)), theirs(images(shape), training=True), atol=1e-5)
    for weight, expected in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-5)


def test_a_single_value_per_channel_takes_the_moving_statistics() -> None:
    """At batch size 1 a pooled branch normalised by itself is its offset, and no gradient passes."""
    ours, theirs = pair()
    x = images((1, 1, 1, 6))
    outputs, gradients = run(ours, x, training=True)
    np.testing.assert_allclose(outputs, theirs(x, training=False), atol=1e-5)
    assert all(np.abs(gradient).min() > 0 for gradient in gradients)
    for weight, old in zip(ours.weights, theirs.weights, strict=True):  # nothing was learnt from a single value
        np.testing.assert_allclose(weight, old, atol=1e-6)
    # Two images are enough for statistics of their own.
    x = images((2, 1, 1, 6))
    np.testing.assert_allclose(ours(x, training=True), theirs(x, training=True), atol=1e-5)
    np.testing.assert_allclose(ours.moving_variance, theirs.moving_variance, atol=1e-5)


def test_a_single_value_of_a_map_of_unknown_size_is_finite() -> None:
    """A 32x32 image at stride 32; the unbiased variance of one value would be 0/0."""
    ours, _ = pair()
    step = tf.function(lambda x: ours(x, training=True), input_signature=[tf.TensorSpec((None, None, None, 6))])
    assert np.isfinite(step(images((1, 1, 1, 6)))).all()
    assert all(np.isfinite(weight).all() for weight in ours.get_weights())


def test_momentum_lets_a_short_run_evaluate_as_it_trains() -> None:
    """After n steps momentum^n of the initial statistics is left: 0.9^50 = 0.5 %, 0.99^50 = 61 %."""
    assert BatchNormalization().momentum == 0.9
    rng = np.random.default_rng(3)
    errors = {}
    for momentum in (0.9, 0.99):
        layer = BatchNormalization(momentum=momentum)
        for _ in range(50):
            x = rng.normal(5.0, 3.0, (4, 16, 16, 3)).astype("float32")
            trained = layer(x, training=True)
        errors[momentum] = float(np.abs(trained - layer(x, training=False)).mean())
        np.testing.assert_allclose(layer.moving_mean, 5.0 * (1 - momentum**50), atol=0.1)
    assert errors[0.9] < 0.05
    assert errors[0.99] > 0.5


def test_config_round_trip() -> None:
    layer = BatchNormalization(epsilon=0.01, momentum=0.7, name="bn")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is BatchNormalization
    assert (again.epsilon, again.momentum, again.name) == (0.01, 0.7, "bn")


ON_TORCH = """
import keras, numpy as np, torch
from segzoo.layers import BatchNormalization

rng = np.random.default_rng(0)
for dtype, bound in (("float32", 1e-5), ("float64", 1e-5), ("mixed_bfloat16", 3e-2)):
    kinds = BatchNormalization, keras.layers.BatchNormalization
    ours, theirs = [kind(momentum=0.9, epsilon=1e-3, dtype=dtype) for kind in kinds]
    for layer in (ours, theirs):
        layer.build((None, None, None, 5))
        layer.set_weights([np.linspace(*ends, 5) for ends in ((0.5, 2), (-1, 1), (-2, 2), (1, 3))])
    values = rng.normal(1, 2, (3, 6, 7, 5))
    for training in (False, True):
        found = []
        for layer in (ours, theirs):
            x = torch.tensor(values, dtype=getattr(torch, layer.compute_dtype), requires_grad=True)
            y = layer(x, training=training)
            (y.double() ** 3).mean().backward()
            grads = [x.grad, layer.gamma.value.grad, layer.beta.value.grad]
            found.append([np.asarray(v.detach().double()) for v in (y, *grads, *(w.value for w in layer.weights))])
            assert y.dtype == x.dtype and y.is_contiguous()
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one, other, rtol=bound, atol=bound)
"""


def test_on_torch_it_is_what_keras_computes() -> None:
    pytest.importorskip("torch")
    environment = {**os.environ, "KERAS_BACKEND": "torch"}
    done = subprocess.run([sys.executable, "-c", ON_TORCH], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

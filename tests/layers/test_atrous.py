"""AtrousConv2D against Keras's own convolution: values, gradients, every size, and a saved model."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from segzoo.layers import AtrousConv2D

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="TensorFlow's CPU gradient")


def with_gradients(layer: keras.layers.Layer, x: tf.Tensor) -> list[np.ndarray]:
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(tf.cast(y, "float32") ** 2)
    return [np.asarray(tf.cast(value, "float32")) for value in (y, *tape.gradient(loss, [x, *layer.trainable_weights]))]


def pair(rate: int | tuple[int, int], kernel_size: int | tuple[int, int] = 3, **arguments) -> list[keras.layers.Layer]:
    keras.utils.set_random_seed(0)
    layers = [
        kind(5, kernel_size, padding="same", dilation_rate=rate, **arguments)
        for kind in (keras.layers.Conv2D, AtrousConv2D)
    ]
    for layer in layers:
        layer.build((None, None, None, 4))
    layers[1].set_weights(layers[0].get_weights())
    return layers


def cases() -> list:
    """Rates, kernels and sizes; by default the usual kernel, and the others at one rate and size."""
    return [
        pytest.param(
            rate, kernel, size, marks=() if kernel == 3 or (rate, size) == ((2, 3), (7, 12)) else pytest.mark.nightly
        )
        for rate in (2, 6, 18, (2, 3))
        for kernel in (3, 5, (1, 3))
        for size in ((8, 8), (7, 12), (1, 1))
    ]


@pytest.mark.parametrize(("rate", "kernel_size", "size"), cases())
def test_equals_keras(rate: int | tuple[int, int], kernel_size: int | tuple[int, int], size: tuple[int, int]) -> None:
    x = tf.constant(np.random.default_rng(0).normal(size=(2, *size, 4)).astype("float32"))
    expected, found = (with_gradients(layer, x) for layer in pair(rate, kernel_size))
    for want, have in zip(expected, found, strict=True):
        np.testing.assert_allclose(have, want, atol=1e-4 * max(1.0, np.abs(want).max()))


def test_one_graph_serves_every_size() -> None:
    reference, layer = pair(6)
    step = tf.function(lambda x: with_graph_gradient(layer, x), input_signature=[tf.TensorSpec((None, None, None, 4))])
    for size in ((8, 8), (5, 13), (1, 1)):
        x = tf.constant(np.random.default_rng(1).normal(size=(2, *size, 4)).astype("float32"))
        for want, have in zip(with_graph_gradient(reference, x), step(x), strict=True):
            np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-4)


def with_graph_gradient(layer: keras.layers.Layer, x: tf.Tensor) -> list[tf.Tensor]:
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(layer(x) ** 2)
    return tape.gradient(loss, [x, *layer.trainable_weights])


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16", "float64"])
def test_other_precisions(dtype: str) -> None:
    exact = pair(6)
    layer = AtrousConv2D(5, 3, padding="same", dilation_rate=6, dtype=dtype)
    layer.build((None, None, None, 4))
    layer.set_weights(exact[0].get_weights())
    x = np.random.default_rng(2).normal(size=(2, 9, 9, 4))
    expected = with_gradients(exact[0], tf.constant(x, "float32"))
    found = with_gradients(layer, tf.cast(tf.constant(x), layer.compute_dtype))
    for want, have in zip(expected, found, strict=True):
        np.testing.assert_allclose(have, want, atol=(1e-4 if dtype == "float64" else 0.03) * np.abs(want).max())


def test_is_saved_and_loaded(tmp_path, loaded_elsewhere) -> None:
    image = keras.Input((None, None, 4))
    model = keras.Model(image, AtrousConv2D(5, 3, padding="same", dilation_rate=2)(image))
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(3).normal(size=(1, 9, 9, 4)).astype("float32")
    np.testing.assert_array_equal(loaded_elsewhere(tmp_path / "model.keras", x).output, model(x))


@pytest.mark.parametrize("arguments", [{"padding": "valid"}, {"kernel_size": 2}, {"groups": 2, "filters": 4}])
def test_what_it_leaves_to_keras(arguments: dict) -> None:
    settings = {"filters": 5, "kernel_size": 3, "padding": "same", "dilation_rate": 2, **arguments}
    layer, reference = AtrousConv2D(**settings), keras.layers.Conv2D(**settings)
    x = tf.constant(np.random.default_rng(4).normal(size=(1, 9, 9, 4)).astype("float32"))
    layer.build(x.shape), reference.build(x.shape)
    layer.set_weights(reference.get_weights())
    np.testing.assert_allclose(layer(x), reference(x), atol=1e-5)

"""ResizeTo against TensorFlow's own resize, with static and with unknown sizes."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from segzoo.layers import ResizeTo, SpaceToDepth

tf = pytest.importorskip("tensorflow")
pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="compares with TensorFlow's resize")

SIZES = [((4, 6), (8, 12)), ((4, 6), (9, 11)), ((5, 7), (5, 7)), ((5, 7), (3, 2)), ((1, 1), (4, 4)), ((3, 5), (6, 9))]


def arrays(size: tuple[int, int], target: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, *size, 3)).astype("float32"), np.zeros((2, *target, 1), "float32")


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize(("size", "target"), SIZES)
def test_equals_tensorflow(interpolation: str, size: tuple[int, int], target: tuple[int, int]) -> None:
    x, reference = arrays(size, target)
    layer = ResizeTo(interpolation)
    expected = tf.image.resize(x, target, method=interpolation)
    np.testing.assert_allclose(layer(x, reference), expected, atol=1e-6)
    if interpolation == "bilinear":  # keras.ops rounds nearest positions in another way
        other = keras.ops.image.resize(x, target, interpolation=interpolation, antialias=False)
        np.testing.assert_allclose(layer(x, reference), other, atol=1e-6)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_one_graph_serves_every_size(interpolation: str) -> None:
    """keras.ops.image.resize raises here (Keras 3.15.1), which is why the layer exists."""
    layer = ResizeTo(interpolation)
    unknown = tf.TensorSpec((None, None, None, 3)), tf.TensorSpec((None, None, None, 1))
    resize = tf.function(lambda x, reference: layer(x, reference), input_signature=unknown)
    for size, target in SIZES:
        x, reference = arrays(size, target)
        np.testing.assert_allclose(resize(x, reference), layer(x, reference), atol=1e-6)
    assert resize.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize(("size", "target"), [((4, 6), (8, 12)), ((4, 6), (9, 11))])
def test_gradient_equals_tensorflows(interpolation: str, size: tuple[int, int], target: tuple[int, int]) -> None:
    """Doubling by broadcasting has another gradient kernel; its sums must be the same."""
    x, reference = arrays(size, target)
    weights = tf.constant(np.random.default_rng(1).normal(size=(2, *target, 3)).astype("float32"))
    gradients = []
    for resize in (ResizeTo(interpolation), lambda x, _: tf.image.resize(x, target, method=interpolation)):
        with tf.GradientTape() as tape:
            value = tf.Variable(x)
            loss = tf.reduce_sum(weights * resize(value, reference))
        gradients.append(tape.gradient(loss, value))
    np.testing.assert_allclose(*gradients, atol=1e-5)


def test_interpolates_in_float32() -> None:
    """A bfloat16 interpolation would be off by a hundredth; only the result is rounded."""
    x, reference = arrays((4, 6), (9, 11))
    half = keras.ops.cast(x, "bfloat16")
    result = ResizeTo("bilinear", dtype="bfloat16")(half, reference)
    assert keras.backend.standardize_dtype(result.dtype) == "bfloat16"
    expected = tf.cast(tf.image.resize(tf.cast(half, "float32"), (9, 11)), "bfloat16")
    np.testing.assert_array_equal(tf.cast(result, "float32"), tf.cast(expected, "float32"))


def test_symbolic_shape_and_config() -> None:
    layer = ResizeTo("nearest", name="up")
    result = layer(keras.KerasTensor((None, None, 5, 3)), keras.KerasTensor((None, None, 11, 7)))
    assert result.shape == (None, None, 11, 3)
    again = ResizeTo.from_config(layer.get_config())
    assert (again.interpolation, again.name) == ("nearest", "up")
    with pytest.raises(ValueError, match="bilinear"):
        ResizeTo("bicubic")


@pytest.mark.parametrize("size", [(4, 6), (5, 6), (4, 7), (5, 7)])
def test_space_to_depth_keeps_every_pixel(size: tuple[int, int]) -> None:
    """Upper left, lower left, upper right, lower right, as the slices of keras-cv's focus; zeros beyond the image."""
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
    inputs = keras.Input((None, None, 3))
    found = np.asarray(keras.Model(inputs, SpaceToDepth()(inputs))(x))
    whole = np.pad(x, ((0, 0), (0, size[0] % 2), (0, size[1] % 2), (0, 0)))
    expected = [whole[:, ::2, ::2], whole[:, 1::2, ::2], whole[:, ::2, 1::2], whole[:, 1::2, 1::2]]
    np.testing.assert_array_equal(found, np.concatenate(expected, axis=-1))
    assert SpaceToDepth().compute_output_shape(x.shape) == found.shape

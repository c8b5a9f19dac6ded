"""Layers whose operations TensorFlow's kernels and XLA could compute differently, or XLA not at all."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from segzoo.layers import (
    AtrousConv2D,
    AveragePooling2D,
    BatchNormalization,
    CentredMaxPooling2D,
    DilatedPooling2D,
    PositionAttention,
    PyramidPooling,
    ResizeTo,
    ScSE,
    SpaceToDepth,
    SpatialReductionAttention,
)
from segzoo.layers.resize import double

RNG = np.random.default_rng(0)


@pytest.fixture(params=["unknown", pytest.param("known", marks=pytest.mark.xla)])
def sizes(request) -> str:
    """Sizes of inputs that a graph knows when it is traced, or not; XLA knows them in both cases."""
    return request.param


def both(function, *arrays, sizes: str, dtype: str = "float32"):
    """Values and gradients of a function: from TensorFlow's kernels, and from XLA."""
    tensors = [tf.cast(array, dtype) for array in arrays]

    def differentiated(*given):
        with tf.GradientTape() as tape:
            tape.watch(given)
            result = function(*given)
            # A loss whose gradient is another one in every pixel.
            weighted = tf.reduce_sum(tf.cast(result, "float32") ** 2)
        return tf.cast(result, "float32"), [tf.cast(g, "float32") for g in tape.gradient(weighted, given)]

    open_sizes = [tf.TensorSpec((None, None, None, array.shape[-1]), dtype) for array in arrays]
    signature = open_sizes if sizes == "unknown" else None
    compiled = tf.function(differentiated, jit_compile=True, input_signature=signature)
    return differentiated(*tensors), compiled(*tensors)


def assert_alike(found, tolerance: float = 1e-5) -> None:
    (value, slopes), (other, other_slopes) = found
    np.testing.assert_allclose(other, value, rtol=tolerance, atol=tolerance)
    for slope, expected in zip(other_slopes, slopes, strict=True):
        np.testing.assert_allclose(slope, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("method", ["nearest", "bilinear", "aligned", "nearest_floor"])
@pytest.mark.parametrize(
    "size", [(7, 12), *(pytest.param(size, marks=pytest.mark.xla) for size in ((8, 12), (5, 9), (3, 3), (20, 11)))]
)
def test_resizing_to_any_size(method: str, size: tuple[int, int], sizes: str) -> None:
    reference = RNG.normal(size=(2, *size, 3))
    layer = ResizeTo(method)
    images = RNG.normal(size=(2, 4, 6, 3))
    assert_alike(both(lambda x, to: layer(x, to) + 0 * to[..., :1], images, reference, sizes=sizes))


@pytest.mark.parametrize(
    "dtype", ["bfloat16", *(pytest.param(dtype, marks=pytest.mark.xla) for dtype in ("float32", "float16"))]
)
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_doubling_behind_an_activation(method: str, dtype: str, sizes: str) -> None:
    """keras#20931: XLA does not compile a bilinear resize in half precision behind ReLU or swish."""
    images = RNG.normal(size=(2, 5, 7, 3))
    found = both(lambda x: double(tf.nn.silu(x), method), images, sizes=sizes, dtype=dtype)
    assert_alike(found, 1e-5 if dtype == "float32" else 2e-2)
    if method == "nearest":
        np.testing.assert_array_equal(found[1][0][:, 1::2, ::2], found[1][0][:, ::2, 1::2])


def test_nearest_rounds_as_tensorflow_does() -> None:
    """A model that was trained under XLA predicts without it: 1 of 30 pairs of sizes rounds differently in integers."""
    layer = ResizeTo("nearest")
    compiled = tf.function(lambda x, to: layer(x, to), jit_compile=True, reduce_retracing=True)
    for old, new in [(7, 13), (13, 29), (33, 65), (41, 83), (57, 113), (49, 97), (23, 92)]:
        x = np.arange(old, dtype="float32").reshape(1, old, 1, 1)
        expected = tf.image.resize(x, (new, 1), method="nearest")
        np.testing.assert_array_equal(compiled(x, np.zeros((1, new, 1, 1), "float32")), expected)


def test_outside_of_xla_the_kernel_stays() -> None:
    graph = tf.function(lambda x: tf.gradients(tf.reduce_sum(double(x) ** 2), x)[0])
    concrete = graph.get_concrete_function(tf.TensorSpec((1, 4, 4, 2)))
    assert "ResizeNearestNeighborGrad" in {operation.type for operation in concrete.graph.get_operations()}


LAYERS = {
    "atrous": lambda: AtrousConv2D(4, 3, dilation_rate=2, padding="same"),
    "average_pooling": lambda: AveragePooling2D(3, strides=2, padding="same"),
    "centred_pooling": lambda: CentredMaxPooling2D(3, 2),
    "dilated_pooling": lambda: DilatedPooling2D(3, 2),
    "dilated_average": lambda: DilatedPooling2D(3, 2, average=True),
    "dilated_padded_average": lambda: DilatedPooling2D(3, 2, average="padded"),
    "position_attention": lambda: PositionAttention(2),
    "pyramid_pooling": lambda: PyramidPooling(4, (1, 2, 3)),
    "scse": lambda: ScSE(2),
    "space_to_depth": SpaceToDepth,
    "spatial_reduction_attention": lambda: SpatialReductionAttention(1, 2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_other_layers(name: str, sizes: str) -> None:
    layer = LAYERS[name]()
    x = RNG.normal(size=(2, 9, 10, 4)).astype("float32")
    layer(x)
    assert_alike(both(layer, x, sizes=sizes), 1e-4)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_batch_normalization_moves_the_same_statistics(dtype: str) -> None:
    """Both multiply the variance of a batch by n / (n - 1), which the layer takes back."""
    x = RNG.normal(2.0, 3.0, size=(2, 3, 4, 5)).astype("float32")
    moved = []
    for compiled in (False, True):
        layer = BatchNormalization(momentum=0.5, dtype=dtype)
        layer.build(x.shape)
        tf.function(lambda x, layer=layer: layer(x, training=True), jit_compile=compiled)(x)
        moved.append([keras.ops.convert_to_numpy(weight) for weight in layer.non_trainable_weights])
    for kernel, xla in zip(*moved, strict=True):
        np.testing.assert_allclose(xla, kernel, rtol=1e-3 if "16" in dtype else 1e-5)
    np.testing.assert_allclose(moved[1][0], 0.5 * x.mean((0, 1, 2)), rtol=1e-2 if "16" in dtype else 1e-5)
    np.testing.assert_allclose(moved[1][1], 0.5 + 0.5 * x.var((0, 1, 2)), rtol=1e-2 if "16" in dtype else 1e-5)

"""Averages against their definitions, field by field and window by window, with static and with unknown sizes."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from segzoo.layers import AveragePooling2D, CentredMaxPooling2D, DilatedPooling2D, PyramidPooling
from segzoo.layers.pooling import adaptive_average


def reference(x: np.ndarray, bins: int) -> np.ndarray:
    def field(i: int, size: int) -> slice:
        return slice(i * size // bins, math.ceil((i + 1) * size / bins))

    result = np.zeros((len(x), bins, bins, x.shape[3]))
    for i in range(bins):
        for j in range(bins):
            result[:, i, j] = x[:, field(i, x.shape[1]), field(j, x.shape[2])].mean((1, 2))
    return result


@pytest.mark.parametrize("bins", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(1, 1), (4, 5), (6, 6), (13, 7)])
def test_each_field_is_its_mean(size: tuple[int, int], bins: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype("float32")
    np.testing.assert_allclose(adaptive_average(x, bins), reference(x, bins), atol=1e-5)


def test_one_graph_serves_every_size() -> None:
    image = keras.Input((None, None, 3))
    layer = PyramidPooling(2)
    model = keras.Model(image, layer(image))
    for size in ((4, 5), (13, 7), (1, 2)):
        x = np.random.default_rng(1).normal(size=(2, *size, 3)).astype("float32")
        found = model.predict_on_batch(x)
        np.testing.assert_allclose(found, layer(x), atol=1e-5)
        np.testing.assert_array_equal(found[..., :3], x)
        assert found.shape == layer.compute_output_shape(x.shape) == (2, *size, 3 + 4 * 2)


@pytest.mark.parametrize("size", [(7, 9), (8, 10), (1, 2)])
@pytest.mark.parametrize(("window", "stride"), [(3, 2), (2, 2), (3, 1), (4, 3)])
def test_an_average_leaves_out_what_is_outside_of_the_map(size: tuple[int, int], window: int, stride: int) -> None:
    x = np.random.default_rng(2).normal(size=(2, *size, 3)).astype("float32")
    found = np.asarray(keras.ops.convert_to_numpy(AveragePooling2D(window, stride, "same")(x)))
    rows, columns = (-(-length // stride) for length in size)
    top, left = (
        max(0, (count - 1) * stride + window - length) // 2 for count, length in zip((rows, columns), size, strict=True)
    )
    assert found.shape == (2, rows, columns, 3)
    for row in range(rows):
        for column in range(columns):
            y, z = row * stride - top, column * stride - left
            inside = x[:, max(0, y) : y + window, max(0, z) : z + window]
            np.testing.assert_allclose(found[:, row, column], inside.mean((1, 2)), atol=1e-5)


def test_bins_are_positive() -> None:
    with pytest.raises(ValueError, match="bins must be numbers from 1 on"):
        PyramidPooling(2, bins=(0, 1))


@pytest.mark.parametrize(("window", "stride"), [(3, 2), (5, 2), (3, 3)])
@pytest.mark.parametrize("size", [(6, 9), (5, 4), (1, 2)])
def test_centred_maxima_are_of_windows_around_every_second_pixel(size, window, stride) -> None:
    """Values are negative, so that padding with zeros would show."""
    x = np.random.default_rng(2).uniform(-9, -1, size=(2, *size, 3)).astype("float32")
    layer, half = CentredMaxPooling2D(window, stride), window // 2
    found = keras.ops.convert_to_numpy(layer(x))
    assert found.shape == layer.compute_output_shape(x.shape)
    for row in range(found.shape[1]):
        for column in range(found.shape[2]):
            top, left = row * stride, column * stride
            part = x[:, max(0, top - half) : top + half + 1, max(0, left - half) : left + half + 1]
            np.testing.assert_array_equal(found[:, row, column], part.max((1, 2)))


@pytest.mark.parametrize(("average", "counted"), [(True, False), ("padded", True)])
@pytest.mark.parametrize("rate", [1, 2, 3])
def test_a_dilated_average_counts_the_padding_or_not(average: bool | str, counted: bool, rate: int) -> None:
    x = np.random.default_rng(2).normal(size=(1, 7, 10, 2)).astype("float32")
    found = np.asarray(DilatedPooling2D(3, rate, average=average)(x))
    for row, column in np.ndindex(7, 10):
        rows, columns = (
            [place + step * rate for step in (-1, 0, 1) if 0 <= place + step * rate < size]
            for place, size in ((row, 7), (column, 10))
        )
        window = x[0][np.ix_(rows, columns)]
        expected = window.sum((0, 1)) / (9 if counted else len(rows) * len(columns))
        np.testing.assert_allclose(found[0, row, column], expected, atol=1e-5)


def test_other_kinds_of_dilated_averages_are_refused() -> None:
    with pytest.raises(ValueError, match="average must be True, False or 'padded', got 'same'"):
        DilatedPooling2D(3, 2, average="same")  # type: ignore[arg-type]

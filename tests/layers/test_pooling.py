"""Adaptive pooling against PyTorch's definition, field by field, with static and with unknown sizes."""

from __future__ import annotations

import math

import keras
import numpy as np
import pytest

from segzoo.layers import PyramidPooling
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


def test_bins_are_positive() -> None:
    with pytest.raises(ValueError, match="bins must be numbers from 1 on"):
        PyramidPooling(2, bins=(0, 1))

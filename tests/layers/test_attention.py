"""Attention layers against the formulas of their papers in NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy.signal import correlate2d
from scipy.special import expit, softmax

from segzoo.layers import PositionAttention, ScSE, SpatialReductionAttention, SqueezeExcitation

X = np.random.default_rng(0).normal(size=(2, 3, 4, 32)).astype("float32")


def randomize(layer: keras.layers.Layer) -> dict[str, np.ndarray]:
    """Give a layer's weights random values; returns them by the last two parts of their names."""
    rng = np.random.default_rng(1)
    values = {}
    for weight in layer.weights:
        value = rng.normal(0, 0.3, weight.shape).astype("float32")
        weight.assign(value)
        values["/".join(weight.path.split("/")[-2:])] = value
    return values


def factors(x: np.ndarray, values: dict[str, np.ndarray], activation: str = "relu") -> np.ndarray:
    pooled = x.mean((1, 2))
    hidden = pooled @ values["squeeze/kernel"][0, 0] + values["squeeze/bias"]
    hidden = np.maximum(hidden, 0) if activation == "relu" else hidden * expit(hidden)
    return expit(hidden @ values["excite/kernel"][0, 0] + values["excite/bias"])[:, None, None]


@pytest.mark.parametrize("activation", ["relu", "swish"])
def test_squeeze_and_excitation_is_the_papers(activation: str) -> None:
    layer = SqueezeExcitation(8, activation) if activation != "relu" else SqueezeExcitation(8)
    assert layer(X).shape == layer.compute_output_shape(X.shape) == (2, 1, 1, 32)
    values = randomize(layer)
    assert values["squeeze/kernel"].shape == (1, 1, 32, 4)
    np.testing.assert_allclose(layer(X), factors(X, values, activation), atol=1e-5)
    assert SqueezeExcitation.from_config(layer.get_config()).reduction == 8


def test_scse_adds_both_weightings() -> None:
    layer = ScSE(reduction=16)
    layer(X)
    values = randomize(layer)
    pixels = expit(X @ values["pixels/kernel"][0, 0] + values["pixels/bias"])
    np.testing.assert_allclose(layer(X), X * factors(X, values) + X * pixels, atol=1e-4)
    assert ScSE.from_config(layer.get_config()).reduction == 16


def test_position_attention_mixes_alike_pixels() -> None:
    layer = PositionAttention(channels=5)
    layer(X)
    values = randomize(layer)

    def convolve(x: np.ndarray, name: str) -> np.ndarray:
        kernel, bias = values[f"{name}/kernel"], values[f"{name}/bias"]
        return np.stack(
            [
                [
                    sum(correlate2d(image[..., i], kernel[..., i, o], "same") for i in range(x.shape[3])) + bias[o]
                    for o in range(kernel.shape[3])
                ]
                for image in x
            ]
        ).transpose(0, 2, 3, 1)

    query, key, value = (convolve(X, name).reshape(2, 12, -1) for name in ("query", "key", "value"))
    attended = softmax(query @ key.transpose(0, 2, 1), axis=-1) @ value
    expected = convolve(X + attended.reshape(X.shape), "project")
    np.testing.assert_allclose(layer(X), expected, atol=1e-3)
    assert PositionAttention.from_config(layer.get_config()).channels == 5


def test_spatial_reduction_attention_is_the_papers_on_any_map() -> None:
    """A map that is no square, with a last row that fills no kernel; its size is unknown when the graph is made."""
    layer = SpatialReductionAttention(heads=2, reduction=2)
    x = np.random.default_rng(3).normal(size=(2, 5, 4, 6)).astype("float32")
    inputs = keras.Input((None, None, 6))
    model = keras.Model(inputs, layer(inputs))
    values = randomize(layer)

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ values[f"{name}/kernel"] + values[f"{name}/bias"]

    patches = x[:, :4].reshape(2, 2, 2, 2, 2, 6).transpose(0, 1, 3, 2, 4, 5).reshape(2, 4, 24)
    fewer = patches @ values["reduce/kernel"].reshape(24, 6) + values["reduce/bias"]
    fewer = (fewer - fewer.mean(-1, keepdims=True)) / np.sqrt(fewer.var(-1, keepdims=True) + 1e-5)
    fewer = fewer * values["norm/gamma"] + values["norm/beta"]
    pixels = x.reshape(2, 20, 6)
    heads = []
    for head in (slice(0, 3), slice(3, 6)):
        query, key, value = (
            dense(y, name)[..., head] for y, name in ((pixels, "query"), (fewer, "key"), (fewer, "value"))
        )
        heads.append(softmax(query @ key.transpose(0, 2, 1) / np.sqrt(3), axis=-1) @ value)
    expected = dense(np.concatenate(heads, -1), "project").reshape(x.shape)
    np.testing.assert_allclose(model(x), expected, atol=1e-5)
    again = SpatialReductionAttention.from_config(layer.get_config())
    assert (again.heads, again.reduction, again.interleaved) == (2, 2, False)

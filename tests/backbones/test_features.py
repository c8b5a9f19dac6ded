"""Features against keras.applications with the same weights, at sizes that no stride divides."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from segzoo import backbones
from segzoo.backbones import BACKBONES


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnetv2_b0", "efficientnetv2_s"])
def test_features_at_an_odd_size_equal_the_reference(name: str, shake, pixels) -> None:
    """Explicit padding is made for one size; a network for any size must still pad as one built for this size does."""
    ours = shake(backbones.create(name, weights="none"))
    theirs = getattr(keras.applications, BACKBONES[name].constructor)(
        include_top=False, weights=None, input_shape=(193, 255, 3)
    )
    for layer in ours.layers:
        if layer.weights:
            theirs.get_layer(layer.name).set_weights(layer.get_weights())
    taps = {tap.level: tap.layer for tap in backbones.taps(name) if tap.level}
    first = next(
        layer for layer in theirs.layers if isinstance(layer, keras.layers.ZeroPadding2D | keras.layers.Conv2D)
    )
    after_preprocessing = keras.Model(
        first.input, {level: theirs.get_layer(layer).output for level, layer in taps.items()}
    )

    images = pixels(193, 255)
    expected = after_preprocessing(ours.get_layer("preprocessing")(images), training=False)
    features = ours(images, training=False)
    assert sorted(features) == ["P1", "P2", "P3", "P4", "P5"]
    for level, feature in features.items():
        values = np.asarray(feature)
        assert values.std() > 0.01, level  # a dead network would pass any comparison
        np.testing.assert_allclose(values, expected[level], atol=1e-4 * max(1.0, np.abs(values).max()), err_msg=level)


def test_the_drop_path_rate_reaches_the_deepest_block() -> None:
    """0.2 is the paper's rate at the last block, falling linearly to the first; 0 takes the layers out."""

    def rates(drop_path: float) -> list[float]:
        model = backbones.create("efficientnet_b0", weights="none", drop_path=drop_path)
        return [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]

    # 16 blocks; the last one with a residual is number 15, block6d (table 1 of the paper, repeats 1 2 2 3 3 4 1).
    twice = rates(0.4)
    assert len(twice) == 9
    assert twice == sorted(twice)
    np.testing.assert_allclose(twice[-1], 0.4 * 14 / 16)
    assert rates(0.0) == []


def test_half_precision_features_follow_float32(pixels, shake, dtype_policy) -> None:
    """Statistics stay in float32: only the rounding of activations may differ (8 bits of mantissa in bfloat16)."""
    images = pixels(64, 64, batch=2)
    full = shake(backbones.create("efficientnet_b0", weights="none", taps="output"))
    dtype_policy("mixed_bfloat16")
    half = backbones.create("efficientnet_b0", weights="none", taps="output")
    half.set_weights(full.get_weights())
    assert {weight.dtype for weight in half.weights} == {"float32"}
    expected, features = full(images, training=False), half(images, training=False)
    for level in expected:
        assert keras.backend.standardize_dtype(features[level].dtype) == "bfloat16"
        a, b = (np.asarray(keras.ops.cast(x[level], "float32")).ravel() for x in (expected, features))
        assert np.corrcoef(a, b)[0, 1] > 0.99, level

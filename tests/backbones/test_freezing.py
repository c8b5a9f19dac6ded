"""Frozen backbones: no gradient, and batch normalisation and dropout as in inference."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from segzoo import backbones
from segzoo.keras_compat import without_variables

LEVELS = ("P1", "P2", "P3")


def create(name: str = "efficientnet_b0", **options) -> keras.Model:
    return backbones.create(name, weights="none", levels=LEVELS, drop_path=0.5, **options)


def test_a_frozen_backbone_is_in_inference_mode_when_it_trains(pixels) -> None:
    model = create(trainable=False)
    assert model.trainable_weights == []
    images = pixels(32, 48, batch=2)
    before = model.get_weights()
    trained, inferred = model(images, training=True), model(images, training=False)
    for level in LEVELS:
        np.testing.assert_array_equal(trained[level], inferred[level])
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


# Last layer that is frozen up to P2, and the first that is not.
CONVNEXT = ("convnext_tiny_stage_0_block_2_pointwise_conv_2", "convnext_tiny_downsampling_conv_0")


@pytest.mark.parametrize(
    ("name", "frozen", "free", "is_saved"),
    [
        ("efficientnet_b0", "block3a_expand_conv", "block3a_dwconv", True),  # P2 is the expansion of block 3
        pytest.param("resnet50", "conv2_block3_3_conv", "conv3_block1_1_conv", True, marks=pytest.mark.zoo),
        ("convnext_tiny", *CONVNEXT, False),
        pytest.param("convnext_tiny", *CONVNEXT, True, marks=pytest.mark.nightly),
    ],
)
def test_frozen_up_to_a_level(
    name: str, frozen: str, free: str, is_saved: bool, pixels, tmp_path: Path, request
) -> None:
    model = backbones.create(name, weights="none", levels=("P2", "P3"), trainable="P2")
    assert not model.get_layer(frozen).trainable
    assert model.get_layer(free).trainable
    images = pixels(32, 48, batch=2)
    trained, inferred = model(images, training=True), model(images, training=False)
    np.testing.assert_array_equal(trained["P2"], inferred["P2"])
    if not is_saved:
        return
    if name != "convnext_tiny":  # it has no batch normalisation, and no stochastic depth in its first block
        assert np.abs(np.asarray(trained["P3"]) - np.asarray(inferred["P3"])).max() > 1e-4
    model.save(tmp_path / "model.keras")
    again = request.getfixturevalue("loaded_elsewhere")(tmp_path / "model.keras", images)
    assert again.weights == [weight.path for weight in model.trainable_weights]


def test_frozen_batch_norm_leaves_the_convolutions_free(pixels) -> None:
    model = create(batch_norm="frozen")
    kinds = {layer.name: isinstance(layer, keras.layers.BatchNormalization) for layer in model.layers if layer.weights}
    for layer in model.layers:
        if layer.weights:
            assert layer.trainable != kinds[layer.name], layer.name
    before = model.get_weights()
    model(pixels(32, 48, batch=2), training=True)
    for weight, value in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_stochastic_depth_of_convnext_grows_to_the_last_block() -> None:
    def rates(drop_path: float) -> list[float]:
        with without_variables():
            model = backbones.create("convnext_tiny", weights="none", drop_path=drop_path)
        return [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]

    found = rates(0.4)
    np.testing.assert_allclose(found, np.linspace(0, 0.4, 18)[1:])
    assert rates(0.0) == []

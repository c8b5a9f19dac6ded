"""Networks of the user's own as backbones."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import segzoo
from segzoo import backbones
from segzoo.errors import SegzooError, UnknownNameError


def network(padding: str = "same", size: tuple[int | None, int | None] = (None, None)) -> keras.Model:
    """Five convolutions with stride 2, named level1 to level5, and a classifier."""
    x = images = keras.Input((*size, 3), name="pixels")
    x = keras.layers.Rescaling(1 / 255)(x)
    for number in range(1, 6):
        x = keras.layers.Conv2D(4 * number, 3, 2, padding, activation="relu", name=f"level{number}")(x)
    x = keras.layers.Dense(7, name="classes")(keras.layers.GlobalAveragePooling2D(name="pooled")(x))
    return keras.Model(images, x, name="mine")


ALL = {f"P{number}": f"level{number}" for number in range(1, 6)}


def test_a_wrapped_network_shares_its_weights_and_goes_into_any_decoder(
    pixels, tmp_path: Path, loaded_elsewhere
) -> None:
    mine = network()
    backbone = backbones.wrap(mine, ALL)
    images = pixels(65, 97)
    features = backbone(images)
    for number in range(1, 6):
        expected = keras.Model(mine.input, mine.get_layer(f"level{number}").output)(images)
        np.testing.assert_array_equal(features[f"P{number}"], expected)
    assert backbone.name == "mine"
    narrow = {"unet": {"channels": [4] * 5}, "fpn": {"pyramid_channels": 8}, "deeplabv3plus": {"channels": 8}}
    for decoder, options in narrow.items():
        model = segzoo.build_model(decoder, backbone, 3, **options)
        assert model(images).shape == (1, 65, 97, 3)
        assert model.name == f"{decoder}_mine"
    model.save(tmp_path / "model.keras")
    again = loaded_elsewhere(tmp_path / "model.keras", images)
    np.testing.assert_allclose(again.output, model(images), atol=1e-5)


def test_maps_that_are_short_of_padding_are_aligned(pixels) -> None:
    backbone = backbones.wrap(network("valid"), ALL)
    for size in ((160, 192), (161, 223)):
        features = backbone(pixels(*size))
        assert {level: one.shape[1:3] for level, one in features.items()} == {
            f"P{number}": tuple(-(-pixels // 2**number) for pixels in size) for number in range(1, 6)
        }


def test_another_stride_is_named() -> None:
    with pytest.raises(SegzooError, match=r"P3 has stride 8.*24 x 32, but layer level4 gives 12 x 16.*serve P4"):
        backbones.wrap(network(), {"P3": "level4"})
    with pytest.raises(SegzooError, match=r"P1 has stride 2.*64 x 64.*layer level2 gives 16 x 16.*serve P2"):
        backbones.wrap(network(size=(64, 64)), {"P1": "level2"})


def test_a_fixed_size_is_kept(pixels) -> None:
    backbone = backbones.wrap(network(size=(64, 96)), {"P2": "level2", "P5": "level5"})
    assert {level: one.shape for level, one in backbone(pixels(64, 96)).items()} == {
        "P2": (1, 16, 24, 8), "P5": (1, 2, 3, 20),
    }  # fmt: skip


def test_what_cannot_be_wrapped_is_explained() -> None:
    with pytest.raises(UnknownNameError, match=r"layer of mine 'levl2'.*mean level2"):
        backbones.wrap(network(), {"P2": "levl2"})
    with pytest.raises(UnknownNameError, match=r"level 'P6'"):
        backbones.wrap(network(), {"P6": "level5"})
    with pytest.raises(SegzooError, match="Layer pooled of mine gives"):
        backbones.wrap(network(), {"P5": "pooled"})
    with pytest.raises(SegzooError, match="levels is empty"):
        backbones.wrap(network(), {})
    inputs = [keras.Input((None, None, 3)), keras.Input((None, None, 3))]
    two = keras.Model(inputs, keras.layers.Add(name="x")(inputs))
    with pytest.raises(SegzooError, match="one input of images"):
        backbones.wrap(two, {"P5": "x"})
    with pytest.raises(SegzooError, match="has its own weights"):
        segzoo.build_model("fpn", backbones.wrap(network(), ALL), 3, weights="imagenet")

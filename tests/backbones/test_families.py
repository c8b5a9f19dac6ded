"""The smallest network of each family under a decoder; `-m zoo tests/zoo` has all networks under all decoders."""

from __future__ import annotations

from pathlib import Path

import keras
import pytest
from checks import check_network

import segzoo
from segzoo.backbones import BACKBONES
from segzoo.backbones.figures import figures

BY_SIZE = sorted(BACKBONES, key=lambda name: figures(name).parameters, reverse=True)
SMALLEST = {BACKBONES[name].family: name for name in BY_SIZE}
# Whose reference takes ten seconds to build, and whose blocks are those of `hub_mit`; and large transformers, of which
# test_plain_vit.py and test_swin.py have narrow ones.
SLOW = ("kcv_mit_b0", "hub_vit_base_16", "hub_dinov2_small", "hub_dinov3_small", "hub_swin_tiny", "hub_efficientnet_b0")
SLOW += ("hub_hgnetv2_b4", "hub_mobilenet_v3_small_050")


# Those that another process loads, one of each origin and with the most layers of our own; `tests/zoo` loads all.
LOADED = ("resnet18", "convnext_tiny", "kcv_cspdarknet_tiny", "hub_mit_b0")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="gradients by tf.GradientTape")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.zoo if name in SLOW else ()) for name in SMALLEST.values()]
)
def test_a_family_under_a_decoder(name: str, pixels, tmp_path: Path, installed, request) -> None:
    """Linknet reads all levels of a network, here down to P2: the marker has networks down to P5."""
    installed(name)
    keras.utils.set_random_seed(0)
    model = segzoo.build_model("linknet", name, 3, weights="none", drop_path=0.0, depth=2)
    elsewhere = request.getfixturevalue("loaded_elsewhere") if name in LOADED else None
    check_network(model, tmp_path, pixels, elsewhere, side=32)

"""DPT of segmentation_models.pytorch becomes a model here: a narrow one of stored logits, and what is refused."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segzoo.backbones import BACKBONES
from segzoo.backbones.plain_vit import PlainViT
from segzoo.errors import WeightsError
from segzoo.interop import smp_tensors
from segzoo.interop.backbones import vit
from segzoo.interop.backbones.source import Source
from segzoo.workflows.conversion import convert_tensors

sys.path.insert(0, str(Path(__file__).parents[1] / "decoders"))

import smp_dpt
from test_dpt import GOLDEN

NAME = "narrow_vit"
NETWORK = PlainViT(
    name=NAME,
    patch=16,
    width=smp_dpt.WIDTH,
    depth=smp_dpt.DEPTH,
    heads=smp_dpt.HEADS,
    assign=lambda *_: None,
    grid=smp_dpt.GRID,
    antialias=True,
)
SOURCE = Source(
    name=f"timm/{NAME}",
    backbone=NAME,
    rows=tuple(vit.rows(smp_dpt.DEPTH)),
    left=("norm.", "head."),
    mean=(128.0,) * 3,
    std=(64.0,) * 3,
)


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a narrow ViT a backbone, and an encoder of theirs."""
    base = BACKBONES["hub_vit_base_16"]
    tables = {"blocks": NETWORK.taps()}
    own = dataclasses.replace(base, name=NAME, constructor=f"{__name__}:NETWORK", tables=tables, package="")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    monkeypatch.setitem(BACKBONES._entries, NAME, own)
    encoder = smp_tensors.Encoder("encoder.model.", [SOURCE], taps=(), as_smp=False)
    monkeypatch.setitem(smp_tensors.ENCODERS, f"tu-{NAME}", encoder)


def checkpoint(readout: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """State dict of the network whose logits are stored, and the configuration beside it."""
    config = {
        "encoder_name": f"tu-{NAME}",
        "encoder_weights": None,
        "decoder_readout": readout,
        "decoder_intermediate_channels": list(smp_dpt.CHANNELS),
        "decoder_fusion_channels": smp_dpt.FUSION,
        "classes": smp_dpt.CLASSES,
        "dynamic_img_size": True,
        "_model_class": "DPT",
    }
    return smp_dpt.state_dict(smp_dpt.ours(readout)), config


@pytest.mark.parametrize("readout", smp_dpt.READOUTS)
def test_logits_are_the_originals(readout: str) -> None:
    tensors, config = checkpoint(readout)
    found = convert_tensors({**tensors, "encoder.model.norm.weight": np.ones(16, "float32")}, config)
    assert (found.assumed, found.unused) == ({}, ["encoder.model.norm.weight"])
    assert found.settings["options"].get("readout", "cat") == readout
    for height, width in smp_dpt.SIZES:
        logits = np.asarray(found.model(smp_dpt.images(height, width), training=False))
        expected = GOLDEN[readout]["logits"][f"{height}x{width}"]
        np.testing.assert_allclose(smp_dpt.part(logits), expected, atol=1e-3 * logits.std())


def test_what_the_tensors_show_needs_no_configuration() -> None:
    tensors, _ = checkpoint("cat")
    found = convert_tensors(tensors, encoder=f"tu-{NAME}")
    assert found.settings["options"] == {"intermediate_channels": [4, 6, 8, 10], "fusion_channels": 8}
    assert found.assumed == {}


def test_options_without_a_counterpart_are_refused() -> None:
    tensors, config = checkpoint("ignore")
    even = {"encoder_output_indices": [2, 5, 8, 11], "img_size": 48}
    assert convert_tensors(tensors, {**config, **even}).assumed == {}
    for changes, words in (
        ({"encoder_output_indices": [0, 5, 8, 11]}, r"encoder_output_indices \[0, 5, 8, 11\] has no counterpart here"),
        ({"img_size": [32, 72]}, r"img_size \[32, 72\] must be the side of a square"),
        ({"encoder_depth": 3}, "encoder_depth 3 must be 4"),
        ({"decoder_readout": "cat"}, r"lacks the tensor decoder\.projection_blocks\.0\.project\.0\.weight"),
        ({"decoder_readout": "mean"}, "decoder_readout mean has no counterpart here; these have: cat, add, ignore"),
        ({"classes": 4}, "classes is 4 in its configuration, but its tensors are of 3"),
        ({"encoder_name": "tu-vit_base_patch16_224"}, "does not hold the encoder tu-vit_base_patch16_224"),
        ({"encoder_name": "tu-vit_huge_patch14_224"}, "has no counterpart here: of timm's networks"),
        ({"upsampling": 2}, "the key upsampling of its configuration is not known of a DPT"),
    ):
        with pytest.raises(WeightsError, match=words):
            convert_tensors(tensors, {**config, **changes})

"""Sizes of networks are what their names say."""

from __future__ import annotations

import re

import pytest

from segzoo.layouts import efficientnet, residual, vision_transformer

RESIDUAL = residual.RESNETS | residual.RESNEXTS | residual.SE_RESNETS_OF_CAFFE | residual.SE_RESNETS
PLAIN = vision_transformer.VITS | vision_transformer.HUB_VITS


@pytest.mark.parametrize("name", RESIDUAL)
def test_a_residual_network_has_the_layers_and_groups_of_its_name(name: str) -> None:
    """Counted are convolutions on the way through, and the classifier (He et al., 2015)."""
    layout = RESIDUAL[name]
    numbers = [int(number) for number in re.findall(r"\d+", name.removesuffix("_v1b"))]
    assert 1 + (3 if layout.bottleneck else 2) * sum(layout.blocks) + 1 == numbers[0]
    assert [layout.groups, layout.group_width] == (numbers[1:] or [1, 64])
    assert layout.second_kernel() == (layout.groups * layout.group_width, layout.group_width, 3, 3)
    assert (layout.squeeze > 0) == name.startswith("se_")


@pytest.mark.parametrize("name", PLAIN)
def test_a_vit_has_the_patch_and_the_images_of_its_name(name: str) -> None:
    patch, *side = (int(number) for number in re.findall(r"\d+", name))
    assert (PLAIN[name].patch, PLAIN[name].side) == (patch, side[0] if side else 224)
    assert PLAIN[name].width == 64 * PLAIN[name].heads


def test_efficientnets_have_the_blocks_of_the_original() -> None:
    """Blocks of keras.applications' EfficientNetB0 and B7, and of efficientnet-lite-pytorch's Lite0 and Lite4."""
    assert sum(efficientnet.V1["b0"].blocks()) == sum(efficientnet.LITE["lite0"].blocks()) == 16
    assert sum(efficientnet.V1["b7"].blocks()) == 55
    assert sum(efficientnet.LITE["lite4"].blocks()) == 30
    assert efficientnet.V1["b4"].channels()[-2:] == [272, 448]
    assert sum(efficientnet.V1["b4"].blocks()) == 32

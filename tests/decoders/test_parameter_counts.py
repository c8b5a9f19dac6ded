"""Sizes of decoder and head against segmentation_models.pytorch at its defaults, one class."""

from __future__ import annotations

import math

import keras
import pytest

from segzoo import backbones
from segzoo.decoders import DECODERS, SegmentationHead
from segzoo.keras_compat import without_variables

RESNET34 = (64, 64, 128, 256, 512)
# Trainable parameters of SMP's decoder and segmentation head (BatchNorm statistics are not among them), counted on
# PyTorch models with encoders "resnet34" and "efficientnet-b3".
SMP = {
    "unet": (3_151_697, 2_462_801),
    "unetplusplus": (4_793_937, 2_928_561),
    "manet": (10_498_961, 6_474_479),
    "linknet": (487_265, 230_721),
    "upernet": (8_315_009, 7_828_913),
    "fpn": (1_870_721, 1_778_561),
    "deeplabv3plus": (1_152_785, 983_953),
}


def parameters(name: str, widths: tuple[int, ...], inputs) -> int:
    decoder_class = DECODERS[name]
    channels = dict(zip(("P1", "P2", "P3", "P4", "P5"), widths, strict=True))
    levels = decoder_class.levels(decoder_class.default_output_stride)
    # The deepest level carries the network's last features, whatever its stride.
    features = inputs({level: channels["P5" if level == levels[-1] else level] for level in levels})
    return count(name, features)


def count(name: str, features: dict[str, keras.KerasTensor]) -> int:
    decoder, head = DECODERS[name](), SegmentationHead(1, DECODERS[name].head_kernel)
    with without_variables():
        head(decoder(features), keras.Input((None, None, 3)))
    return sum(math.prod(weight.shape) for weight in decoder.trainable_weights + head.trainable_weights)


@pytest.mark.parametrize("name", list(SMP))
def test_parameter_count_equals_smp(name: str, inputs) -> None:
    assert parameters(name, RESNET34, inputs) == SMP[name][0]
    b3 = tuple(tap.channels for tap in backbones.taps("efficientnet_b3", "output"))
    assert b3 == (40, 32, 48, 136, 384)
    assert parameters(name, b3, inputs) == SMP[name][1]


def test_pspnet_counts_equal_smps_on_p3(inputs) -> None:
    """SMP's PSPNet works on the third feature of a backbone that is not dilated."""
    for width, expected in ((128, 153_313), (48, 57_173)):
        assert count("pspnet", inputs({"P3": width})) == expected


def test_segformer_counts_equal_smps_on_a_backbone_without_p1(inputs) -> None:
    assert count("segformer", inputs({"P2": 32, "P3": 64, "P4": 160, "P5": 256})) == 395_009  # mit_b0


def test_pan_counts_equal_smps_but_for_what_normalisation_cancels(inputs) -> None:
    """SMP's convolutions have a bias also before a batch normalisation, which subtracts it: it gets no gradient."""
    for widths, expected in ((RESNET34, 191_144), ((40, 32, 48, 136, 384), 109_864)):
        features = inputs(dict(zip(("P2", "P3", "P4", "P5"), widths[1:], strict=True)))
        # Two branches and three gates and levels of 32 channels, six convolutions to one channel.
        cancelled = (2 + 3 + 3) * 32 + 6
        assert count("pan", features) + cancelled == expected

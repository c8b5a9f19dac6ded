"""Sizes of decoder and head against segmentation_models.pytorch at its defaults, one class."""

from __future__ import annotations

import math

import keras
import pytest

from segzoo import backbones
from segzoo.decoders import DECODERS, SegmentationHead

RESNET34 = (64, 64, 128, 256, 512)
# Trainable parameters of SMP's decoder and segmentation head (BatchNorm statistics are not among them), counted on
# PyTorch models with encoders "resnet34" and "efficientnet-b3".
SMP = {
    "unet": (3_151_697, 2_462_801),
    "fpn": (1_870_721, 1_778_561),
    "deeplabv3plus": (1_152_785, 983_953),
}


def parameters(name: str, widths: tuple[int, ...], inputs) -> int:
    decoder_class = DECODERS[name]
    channels = dict(zip(("P1", "P2", "P3", "P4", "P5"), widths, strict=True))
    levels = decoder_class.levels(decoder_class.default_output_stride)
    # The deepest level carries the network's last features, whatever its stride.
    features = inputs({level: channels["P5" if level == levels[-1] else level] for level in levels})
    decoder, head = decoder_class(), SegmentationHead(1, decoder_class.head_kernel)
    head(decoder(features), keras.Input((None, None, 3)))
    return sum(math.prod(weight.shape) for weight in decoder.trainable_weights + head.trainable_weights)


@pytest.mark.parametrize("name", list(SMP))
def test_parameter_count_equals_smp(name: str, inputs) -> None:
    assert parameters(name, RESNET34, inputs) == SMP[name][0]
    b3 = tuple(tap.channels for tap in backbones.taps("efficientnet_b3", "output"))
    assert b3 == (40, 32, 48, 136, 384)
    assert parameters(name, b3, inputs) == SMP[name][1]

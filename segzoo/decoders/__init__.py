"""Decoders: registered Keras layers from a dict of features to one tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segzoo.decoders.table import DECODERS
from segzoo.lazy import attach

if TYPE_CHECKING:
    from segzoo.decoders.base import AuxiliaryHead as AuxiliaryHead
    from segzoo.decoders.base import ClassificationHead as ClassificationHead
    from segzoo.decoders.base import Decoder as Decoder
    from segzoo.decoders.base import SegmentationHead as SegmentationHead
    from segzoo.decoders.deeplab import DeepLabV3 as DeepLabV3
    from segzoo.decoders.deeplab import DeepLabV3Plus as DeepLabV3Plus
    from segzoo.decoders.dpt import DPT as DPT
    from segzoo.decoders.fpn import FPN as FPN
    from segzoo.decoders.linknet import LinkNet as LinkNet
    from segzoo.decoders.manet import MANet as MANet
    from segzoo.decoders.pan import PAN as PAN
    from segzoo.decoders.pspnet import PSPNet as PSPNet
    from segzoo.decoders.segformer import SegFormer as SegFormer
    from segzoo.decoders.unet import UNet as UNet
    from segzoo.decoders.unetplusplus import UNetPlusPlus as UNetPlusPlus
    from segzoo.decoders.upernet import UPerNet as UPerNet

# The public names of classes.
_CLASSES = {
    "ClassificationHead": "segzoo.decoders.base",
    "AuxiliaryHead": "segzoo.decoders.base",
    "Decoder": "segzoo.decoders.base",
    "SegmentationHead": "segzoo.decoders.base",
    "UNet": "segzoo.decoders.unet",
    "UNetPlusPlus": "segzoo.decoders.unetplusplus",
    "LinkNet": "segzoo.decoders.linknet",
    "MANet": "segzoo.decoders.manet",
    "PAN": "segzoo.decoders.pan",
    "PSPNet": "segzoo.decoders.pspnet",
    "UPerNet": "segzoo.decoders.upernet",
    "SegFormer": "segzoo.decoders.segformer",
    "DPT": "segzoo.decoders.dpt",
    "FPN": "segzoo.decoders.fpn",
    "DeepLabV3": "segzoo.decoders.deeplab",
    "DeepLabV3Plus": "segzoo.decoders.deeplab",
}

__all__ = ["DECODERS", "legacy_options", "names", *_CLASSES]


def names() -> list[str]:
    """Names of all decoders, without importing any framework."""
    return list(DECODERS)


def legacy_options(name: str) -> dict[str, Any]:
    """Return the options that reproduce decoder `name` of segzoo 0.1.0, whose configurations do not contain them.

    Empty where the function is the same still. To be used beneath the options that a configuration of 0.1.0 names.

    Raises:
        UnknownNameError: an unknown decoder.
    """
    return dict(DECODERS[name].legacy)


__getattr__, __dir__ = attach(__name__, _CLASSES)

"""Decoders: from a dict of features to one tensor, as registered Keras layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segzoo.registry import Registry

if TYPE_CHECKING:
    from segzoo.decoders.base import Decoder as Decoder
    from segzoo.decoders.base import SegmentationHead as SegmentationHead
    from segzoo.decoders.deeplab import DeepLabV3 as DeepLabV3
    from segzoo.decoders.deeplab import DeepLabV3Plus as DeepLabV3Plus
    from segzoo.decoders.fpn import FPN as FPN
    from segzoo.decoders.unet import UNet as UNet

DECODERS = Registry(
    "decoder",
    {
        "unet": "segzoo.decoders.unet:UNet",
        "fpn": "segzoo.decoders.fpn:FPN",
        "deeplabv3": "segzoo.decoders.deeplab:DeepLabV3",
        "deeplabv3plus": "segzoo.decoders.deeplab:DeepLabV3Plus",
    },
)
_CLASSES = {
    "Decoder": "segzoo.decoders.base",
    "SegmentationHead": "segzoo.decoders.base",
    "UNet": "segzoo.decoders.unet",
    "FPN": "segzoo.decoders.fpn",
    "DeepLabV3": "segzoo.decoders.deeplab",
    "DeepLabV3Plus": "segzoo.decoders.deeplab",
}

__all__ = ["DECODERS", "FPN", "Decoder", "DeepLabV3", "DeepLabV3Plus", "SegmentationHead", "UNet", "names"]


def names() -> list[str]:
    """Names of all decoders, without importing any framework."""
    return list(DECODERS)


def __getattr__(name: str) -> Any:
    if name in _CLASSES:  # the modules import keras, so only when a class is asked for
        import importlib

        return getattr(importlib.import_module(_CLASSES[name]), name)
    raise AttributeError(f"module 'segzoo.decoders' has no attribute {name!r}")

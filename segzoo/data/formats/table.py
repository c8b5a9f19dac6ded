"""The table of mask formats; each is registered by the module that defines it."""

from __future__ import annotations

from segzoo.registry import Registry

MASK_FORMATS = Registry(
    "mask format",
    absent={
        "palette": "the pixels of a palette PNG are class indices, which masks: index reads.",
        "multilabel": "mode: multilabel goes with masks: channels, array, per_class, coco or labelme.",
        "npy": "masks: array reads .npy and .npz.",
        "npz": "masks: array reads .npy and .npz.",
    },
    package="segzoo.data.formats",
    order=("index", "rgb", "binary", "per_class", "instances", "channels", "array", "coco", "labelme"),
)

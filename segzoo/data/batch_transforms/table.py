"""The table of batch transforms; each is registered by the module that defines it."""

from __future__ import annotations

from segzoo.registry import Registry

BATCH_TRANSFORMS = Registry(
    "batch transform",
    base="segzoo.data.batch_transforms.contract:BatchTransform",
    package="segzoo.data.batch_transforms",
    order=("mixup", "cutmix", "copy_paste"),
)

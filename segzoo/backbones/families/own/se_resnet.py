"""SE-ResNet and SE-ResNeXt (Hu et al., 2018): channels are weighed at the end of each block.

In two forms. As segmentation_models.pytorch has them, and timm under `legacy_seresnet*`, after the authors' Caffe
models: SE-ResNet strides in its 1x1 convolutions, and the stem's pooling begins at the first pixel. And as timm has
them under `seresnet*`, on the ResNet of PyTorch, here with the ending `_v1b`. `segzoo weights convert` brings the
weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from segzoo.backbones.families.own.resnet_v1b import Layout, build, variant
from segzoo.backbones.table import BACKBONES

_SQUEEZED = partial(Layout, squeeze=16)
_OF_CAFFE = partial(_SQUEEZED, pads_pooling=False)
LAYOUTS = {
    "se_resnet50": _OF_CAFFE((3, 4, 6, 3), strided_first=True),
    "se_resnet101": _OF_CAFFE((3, 4, 23, 3), strided_first=True),
    "se_resnet152": _OF_CAFFE((3, 8, 36, 3), strided_first=True),
    "se_resnext50_32x4d": _OF_CAFFE((3, 4, 6, 3), groups=32, group_width=4),
    "se_resnext101_32x4d": _OF_CAFFE((3, 4, 23, 3), groups=32, group_width=4),
    "se_resnet18_v1b": _SQUEEZED((2, 2, 2, 2), bottleneck=False),
    "se_resnet34_v1b": _SQUEEZED((3, 4, 6, 3), bottleneck=False),
    "se_resnet50_v1b": _SQUEEZED((3, 4, 6, 3)),
    "se_resnet101_v1b": _SQUEEZED((3, 4, 23, 3)),
    "se_resnet152_v1b": _SQUEEZED((3, 8, 36, 3)),
    "se_resnext50_32x4d_v1b": _SQUEEZED((3, 4, 6, 3), groups=32, group_width=4),
    "se_resnext101_32x4d_v1b": _SQUEEZED((3, 4, 23, 3), groups=32, group_width=4),
    "se_resnext101_32x8d_v1b": _SQUEEZED((3, 4, 23, 3), groups=32, group_width=8),
    "se_resnext101_64x4d_v1b": _SQUEEZED((3, 4, 23, 3), groups=64, group_width=4),
}
NETWORKS: dict[str, Callable[..., Any]] = {name: partial(build, layout, name) for name, layout in LAYOUTS.items()}
VARIANTS = {name: variant(name, layout, "se_resnet") for name, layout in LAYOUTS.items()}
BACKBONES.register_all(VARIANTS)

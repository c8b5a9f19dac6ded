"""SE-ResNet and SE-ResNeXt (Hu et al., 2018): channels are weighed at the end of each block.

As segmentation_models.pytorch has them, and timm under `legacy_seresnet*`, after the authors' Caffe models: SE-ResNet
strides in its 1x1 convolutions, and the stem's pooling begins at the first pixel. `segzoo weights convert` brings the
weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from segzoo.backbones.families.own.resnet_v1b import Layout, build, variant
from segzoo.backbones.table import BACKBONES

_SQUEEZED = partial(Layout, squeeze=16, pads_pooling=False)
LAYOUTS = {
    "se_resnet50": _SQUEEZED((3, 4, 6, 3), strided_first=True),
    "se_resnet101": _SQUEEZED((3, 4, 23, 3), strided_first=True),
    "se_resnet152": _SQUEEZED((3, 8, 36, 3), strided_first=True),
    "se_resnext50_32x4d": _SQUEEZED((3, 4, 6, 3), groups=32, group_width=4),
    "se_resnext101_32x4d": _SQUEEZED((3, 4, 23, 3), groups=32, group_width=4),
}
NETWORKS: dict[str, Callable[..., Any]] = {name: partial(build, layout, name) for name, layout in LAYOUTS.items()}
VARIANTS = {name: variant(name, layout, "se_resnet") for name, layout in LAYOUTS.items()}
BACKBONES.register_all(VARIANTS)

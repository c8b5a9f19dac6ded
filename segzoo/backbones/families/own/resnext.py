"""ResNeXt (Xie et al., 2017): ResNet whose 3x3 convolutions work in groups, as torchvision, timm and SMP have it.

`resnext50_32x4d` has 32 groups of 4 channels in its first stage. `segzoo weights convert` brings the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from segzoo.backbones.families.own.resnet_v1b import Layout, build, variant
from segzoo.backbones.table import BACKBONES

LAYOUTS = {
    "resnext50_32x4d": Layout((3, 4, 6, 3), groups=32, group_width=4),
    "resnext101_32x4d": Layout((3, 4, 23, 3), groups=32, group_width=4),
    "resnext101_32x8d": Layout((3, 4, 23, 3), groups=32, group_width=8),
    "resnext101_32x16d": Layout((3, 4, 23, 3), groups=32, group_width=16),
    "resnext101_32x32d": Layout((3, 4, 23, 3), groups=32, group_width=32),
    "resnext101_32x48d": Layout((3, 4, 23, 3), groups=32, group_width=48),
    "resnext101_64x4d": Layout((3, 4, 23, 3), groups=64, group_width=4),
}
NETWORKS: dict[str, Callable[..., Any]] = {name: partial(build, layout, name) for name, layout in LAYOUTS.items()}
VARIANTS = {name: variant(name, layout, "resnext") for name, layout in LAYOUTS.items()}
BACKBONES.register_all(VARIANTS)

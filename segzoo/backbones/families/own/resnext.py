"""ResNeXt (Xie et al., 2017): ResNet whose 3x3 convolutions work in groups, as torchvision, timm and SMP have it.

`resnext50_32x4d` has 32 groups of 4 channels in its first stage. `segzoo weights convert` brings the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from segzoo.backbones.families.own.resnet_v1b import build, variant
from segzoo.backbones.table import BACKBONES
from segzoo.layouts.residual import RESNEXTS

NETWORKS: dict[str, Callable[..., Any]] = {name: partial(build, layout, name) for name, layout in RESNEXTS.items()}
VARIANTS = {name: variant(name, layout, "resnext") for name, layout in RESNEXTS.items()}
BACKBONES.register_all(VARIANTS)

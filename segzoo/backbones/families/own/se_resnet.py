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

from segzoo.backbones.families.own.resnet_v1b import build, variant
from segzoo.backbones.table import BACKBONES
from segzoo.layouts.residual import SE_RESNETS, SE_RESNETS_OF_CAFFE

_LAYOUTS = {**SE_RESNETS_OF_CAFFE, **SE_RESNETS}
NETWORKS: dict[str, Callable[..., Any]] = {name: partial(build, layout, name) for name, layout in _LAYOUTS.items()}
VARIANTS = {name: variant(name, layout, "se_resnet") for name, layout in _LAYOUTS.items()}
BACKBONES.register_all(VARIANTS)

"""ViT (Dosovitskiy et al., 2020, https://arxiv.org/abs/2010.11929) where keras-hub has no weights of the size or patch.

`segzoo weights convert` brings the weights of timm's networks, DeiT (Touvron et al., 2020) included.
"""

from __future__ import annotations

from typing import Any

from segzoo.backbones.plain_vit import PlainViT, variant
from segzoo.backbones.spec import CENTERED
from segzoo.backbones.table import BACKBONES
from segzoo.layouts.vision_transformer import VITS

_NO_WEIGHTS = "No ImageNet weights are published for Keras; `segzoo weights convert` converts those of PyTorch models."


def preprocess_input(pixels: Any) -> Any:
    """Scale pixels 0..255 to -1..1, as the networks' first weights want them."""
    return pixels / 127.5 - 1


# Weights are fine-tuned at other sizes with positions averaged, as timm does it.
NETWORKS = {name: PlainViT.of(name, layout, antialias=True) for name, layout in VITS.items()}
VARIANTS = {name: variant(network, __name__, "vit", CENTERED, quirk=_NO_WEIGHTS) for name, network in NETWORKS.items()}
BACKBONES.register_all(VARIANTS)

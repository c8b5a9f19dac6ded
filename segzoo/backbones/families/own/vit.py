"""ViT (Dosovitskiy et al., 2020, https://arxiv.org/abs/2010.11929) where keras-hub has no weights of the size or patch.

`segzoo weights convert` brings the weights of timm's networks, DeiT (Touvron et al., 2020) included.
"""

from __future__ import annotations

from typing import Any

from segzoo.backbones.plain_vit import UNDILATED, PlainViT
from segzoo.backbones.spec import CENTERED, Variant
from segzoo.backbones.table import BACKBONES

# Size to the channels, blocks and heads.
_SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}
# Name to the size, the patch, and the side of the images that it was trained for.
_VARIANTS = {
    "vit_tiny_16": ("tiny", 16, 224),
    "vit_tiny_16_384": ("tiny", 16, 384),
    "vit_small_8": ("small", 8, 224),
    "vit_small_16": ("small", 16, 224),
    "vit_small_16_384": ("small", 16, 384),
    "vit_small_32": ("small", 32, 224),
    "vit_small_32_384": ("small", 32, 384),
    "vit_base_8": ("base", 8, 224),
    "vit_base_32": ("base", 32, 224),
}


def preprocess_input(pixels: Any) -> Any:
    """Scale pixels 0..255 to -1..1, as the networks' first weights want them."""
    return pixels / 127.5 - 1


def _network(name: str) -> PlainViT:
    size, patch, side = _VARIANTS[name]
    width, depth, heads = _SIZES[size]
    # Weights are fine-tuned at other sizes with positions averaged, as timm does it.
    return PlainViT(name, patch, width, depth, heads, grid=side // patch, antialias=True)


def _variant(name: str) -> Variant:
    _, patch, side = _VARIANTS[name]
    return Variant(
        name,
        f"segzoo.backbones.families.own.vit:NETWORKS[{name}]",
        "vit",
        CENTERED,
        {"blocks": NETWORKS[name].taps()},
        undilated=UNDILATED,
        published=False,
        patch=patch,
        quirk="No ImageNet weights are published for Keras; `segzoo weights convert` converts those of PyTorch models. "
        f"Trained for images of {side}x{side}, whose positions are interpolated to those of others.",
    )


NETWORKS = {name: _network(name) for name in _VARIANTS}
VARIANTS = {name: _variant(name) for name in _VARIANTS}
BACKBONES.register_all(VARIANTS)

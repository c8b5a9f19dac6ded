"""Plain vision transformers: ViT and DeiT of timm, and DINOv2 of its authors and timm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from segzoo.interop.backbones.pixels import IMAGENET
from segzoo.interop.backbones.source import Source, Stranger
from segzoo.interop.rows import Row, table


class _Network(NamedTuple):
    """Network: our name, its blocks, their channels, the side of a patch in pixels and of the grid of positions."""

    ours: str
    blocks: int
    width: int
    patch: int
    grid: int


# By their names.
_VITS = {
    "vit_tiny_patch16_224": _Network("vit_tiny_16", 12, 192, 16, 14),
    "vit_tiny_patch16_384": _Network("vit_tiny_16_384", 12, 192, 16, 24),
    "vit_small_patch8_224": _Network("vit_small_8", 12, 384, 8, 28),
    "vit_small_patch16_224": _Network("vit_small_16", 12, 384, 16, 14),
    "vit_small_patch16_384": _Network("vit_small_16_384", 12, 384, 16, 24),
    "vit_small_patch32_224": _Network("vit_small_32", 12, 384, 32, 7),
    "vit_small_patch32_384": _Network("vit_small_32_384", 12, 384, 32, 12),
    "vit_base_patch8_224": _Network("vit_base_8", 12, 768, 8, 28),
    "vit_base_patch32_224": _Network("vit_base_32", 12, 768, 32, 7),
    "vit_base_patch16_224": _Network("hub_vit_base_16", 12, 768, 16, 14),
    "vit_base_patch16_384": _Network("hub_vit_base_16_384", 12, 768, 16, 24),
    "vit_base_patch32_384": _Network("hub_vit_base_32_384", 12, 768, 32, 12),
    "vit_large_patch16_224": _Network("hub_vit_large_16", 24, 1024, 16, 14),
    "vit_large_patch16_384": _Network("hub_vit_large_16_384", 24, 1024, 16, 24),
}
_DEITS = {
    f"deit_{kind}": _VITS[f"vit_{kind}"]
    for kind in ("tiny_patch16_224", "small_patch16_224", "base_patch16_224", "base_patch16_384")
}
_DINOV2 = {
    ("vit_small_patch14_dinov2", "dinov2_vits14"): _Network("hub_dinov2_small", 12, 384, 14, 37),
    ("vit_base_patch14_dinov2", "dinov2_vitb14"): _Network("hub_dinov2_base", 12, 768, 14, 37),
    ("vit_large_patch14_dinov2", "dinov2_vitl14"): _Network("hub_dinov2_large", 24, 1024, 14, 37),
}
_EMBEDDING = (
    "conv patch_embed.proj patch_embedding",
    "class cls_token token_embedding",
)
# Positions of the class token and the patches, or of the patches alone.
_POSITIONS, _OF_PATCHES = "positions pos_embed token_embedding", "grid pos_embed token_embedding"
_BLOCK = (
    "norm blocks.{n}.norm1 block_{number}/norm1",
    "query blocks.{n}.attn.qkv block_{number}/query",
    "key blocks.{n}.attn.qkv block_{number}/key",
    "value blocks.{n}.attn.qkv block_{number}/value",
    "linear blocks.{n}.attn.proj block_{number}/project",
    "norm blocks.{n}.norm2 block_{number}/norm2",
    "linear blocks.{n}.mlp.fc1 block_{number}/expand",
    "linear blocks.{n}.mlp.fc2 block_{number}/contract",
)
_SCALES = (
    "scale blocks.{n}.ls1.gamma block_{number}/scale1",
    "scale blocks.{n}.ls2.gamma block_{number}/scale2",
)
_AVERAGED = (
    "Positions are interpolated to other images than of 518x518 as DINOv2's authors do; timm averages them for smaller "
    "ones, and its features differ by that"
)


def rows(blocks: int, scaled: bool = False, registers: str = "", positions: str = _POSITIONS) -> Iterator[Row]:
    """Yield the rows of a network of so many blocks, with scales of their branches, and with registers of a name."""
    yield from table(*_EMBEDDING, positions)
    if registers:
        yield from table("registers {registers} token_embedding", registers=registers)
    for n in range(blocks):
        yield from table(*_BLOCK, *(_SCALES if scaled else ()), n=n, number=n + 1)


def _shapes(network: _Network, prefix: int = 1) -> dict[str, tuple[int, ...]]:
    """Return the shapes that tell a network from others; `prefix` tokens before the patches have positions."""
    return {
        "pos_embed": (1, prefix + network.grid**2, network.width),
        "patch_embed.proj.bias": (network.width,),
    }


def _sources() -> Iterator[Source]:
    for networks, marks, pixels in (
        (_VITS, "whose weights want pixels from -1 to 1", {}),
        (_DEITS, "whose weights want pixels normalised as ImageNet's", IMAGENET),
    ):
        for theirs, network in networks.items():
            yield Source(
                name=f"timm/{theirs}",
                backbone=network.ours,
                rows=tuple(rows(network.blocks)),
                left=("norm.", "fc_norm.", "head."),
                shapes=_shapes(network),
                marks=marks,
                **pixels,
            )
    for (of_timm, of_authors), network in _DINOV2.items():
        yield Source(
            name=f"dinov2/{of_authors}",
            same=(f"timm/{of_timm}",),
            backbone=network.ours,
            rows=tuple(rows(network.blocks, scaled=True)),
            left=("norm.", "head.", "mask_token"),
            shapes=_shapes(network),
            note=_AVERAGED,
        )
        yield Source(
            name=f"dinov2/{of_authors}_reg",
            backbone=network.ours.replace("dinov2", "dinov2_registers"),
            rows=tuple(rows(network.blocks, scaled=True, registers="register_tokens")),
            left=("norm.", "head.", "mask_token"),
            shapes=_shapes(network),
        )
        # Its class token holds its position already.
        yield Source(
            name=f"timm/{of_timm.replace('patch14', 'patch14_reg4')}",
            backbone=network.ours.replace("dinov2", "dinov2_registers"),
            rows=tuple(rows(network.blocks, scaled=True, registers="reg_token", positions=_OF_PATCHES)),
            left=("norm.", "head."),
            shapes=_shapes(network, prefix=0),
        )


SOURCES = list(_sources())
STRANGERS = [
    Stranger(name="a vision transformer (ViT) of another size, patch or grid of positions",
             sign="blocks.#.attn.qkv.weight", nearest="hub_vit_base_16"),
    Stranger(name="a vision transformer (ViT) of torchvision",
             sign="encoder.layers.encoder_layer_#.self_attention.in_proj_weight", nearest="hub_vit_base_16",
             reason="its names of tensors are not known here; timm's file of the network can be converted"),
]  # fmt: skip

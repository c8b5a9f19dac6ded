"""Plain vision transformers: ViT and DeiT of timm, and DINOv2 of its authors and timm."""

from __future__ import annotations

from collections.abc import Iterator

from segzoo.interop.backbones.pixels import IMAGENET
from segzoo.interop.backbones.source import Source, Stranger
from segzoo.interop.rows import Row, table
from segzoo.layouts.vision_transformer import DINOV2, HUB_VITS, VITS, Layout

# timm's names to ours; each has a patch and the side of its images where ours end.
_VITS = {
    f"vit_{size}_patch{layout.patch}_{layout.side}": name
    for name, layout in (VITS | HUB_VITS).items()
    for size in (name.removeprefix("hub_").split("_")[1],)
}
_DEITS = {
    f"deit_{kind}": _VITS[f"vit_{kind}"]
    for kind in ("tiny_patch16_224", "small_patch16_224", "base_patch16_224", "base_patch16_384")
}
# timm's and the authors' names to ours.
_DINOV2 = {
    (f"vit_{size}_patch14_dinov2", f"dinov2_vit{size[0]}14"): name
    for name in DINOV2
    for size in (name.rpartition("_")[2],)
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


def _shapes(layout: Layout, prefix: int = 1) -> dict[str, tuple[int, ...]]:
    """Return the shapes that tell a layout from others; `prefix` tokens before the patches have positions."""
    return {
        "pos_embed": (1, prefix + layout.grid**2, layout.width),
        "patch_embed.proj.bias": (layout.width,),
    }


def _sources() -> Iterator[Source]:
    for names, marks, pixels in (
        (_VITS, "whose weights want pixels from -1 to 1", {}),
        (_DEITS, "whose weights want pixels normalised as ImageNet's", IMAGENET),
    ):
        for theirs, ours in names.items():
            layout = (VITS | HUB_VITS)[ours]
            yield Source(
                name=f"timm/{theirs}",
                backbone=ours,
                rows=tuple(rows(layout.depth)),
                left=("norm.", "fc_norm.", "head."),
                shapes=_shapes(layout),
                marks=marks,
                **pixels,
            )
    for (of_timm, of_authors), ours in _DINOV2.items():
        layout, with_registers = DINOV2[ours], ours.replace("dinov2", "dinov2_registers")
        yield Source(
            name=f"dinov2/{of_authors}",
            same=(f"timm/{of_timm}",),
            backbone=ours,
            rows=tuple(rows(layout.depth, scaled=True)),
            left=("norm.", "head.", "mask_token"),
            shapes=_shapes(layout),
            note=_AVERAGED,
        )
        yield Source(
            name=f"dinov2/{of_authors}_reg",
            backbone=with_registers,
            rows=tuple(rows(layout.depth, scaled=True, registers="register_tokens")),
            left=("norm.", "head.", "mask_token"),
            shapes=_shapes(layout),
        )
        # Its class token holds its position already.
        yield Source(
            name=f"timm/{of_timm.replace('patch14', 'patch14_reg4')}",
            backbone=with_registers,
            rows=tuple(rows(layout.depth, scaled=True, registers="reg_token", positions=_OF_PATCHES)),
            left=("norm.", "head."),
            shapes=_shapes(layout, prefix=0),
        )


SOURCES = list(_sources())
STRANGERS = [
    Stranger(name="a vision transformer (ViT) of another size, patch or grid of positions",
             sign="blocks.#.attn.qkv.weight", nearest="hub_vit_base_16"),
    Stranger(name="a vision transformer (ViT) of torchvision",
             sign="encoder.layers.encoder_layer_#.self_attention.in_proj_weight", nearest="hub_vit_base_16",
             reason="its names of tensors are not known here; timm's file of the network can be converted"),
]  # fmt: skip

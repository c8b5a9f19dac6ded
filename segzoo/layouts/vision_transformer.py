"""Plain vision transformers (ViT, Dosovitskiy et al., 2020; DINOv2, Oquab et al., 2023), by their names."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Sizes of a plain vision transformer.

    Attributes:
        patch: side of a patch in pixels.
        width: channels of tokens.
        depth: number of blocks.
        heads: number of heads of each block.
        grid: side of the grid of patches that positions were learnt for; 0: they are rotary.
        registers: number of register tokens.
    """

    patch: int
    width: int
    depth: int
    heads: int
    grid: int = 0
    registers: int = 0

    @property
    def side(self) -> int:
        """Height and width in pixels of the images that positions were learnt for; 0 if they are rotary."""
        return self.patch * self.grid

    @property
    def prefix(self) -> int:
        """Number of tokens before those of the patches: the class token and the registers."""
        return 1 + self.registers


# Channels, blocks and heads.
SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16)}


def layout(size: str, patch: int, side: int = 0, registers: int = 0) -> Layout:
    """Return the layout of a size of `SIZES`, with positions for images of `side` pixels; 0: rotary positions."""
    width, depth, heads = SIZES[size]
    return Layout(patch=patch, width=width, depth=depth, heads=heads, grid=side // patch, registers=registers)


VITS = {
    "vit_tiny_16": layout("tiny", 16, 224),
    "vit_tiny_16_384": layout("tiny", 16, 384),
    "vit_small_8": layout("small", 8, 224),
    "vit_small_16": layout("small", 16, 224),
    "vit_small_16_384": layout("small", 16, 384),
    "vit_small_32": layout("small", 32, 224),
    "vit_small_32_384": layout("small", 32, 384),
    "vit_base_8": layout("base", 8, 224),
    "vit_base_32": layout("base", 32, 224),
}
# Those with weights in keras-hub.
HUB_VITS = {
    "hub_vit_base_16": layout("base", 16, 224),
    "hub_vit_base_16_384": layout("base", 16, 384),
    "hub_vit_base_32_384": layout("base", 32, 384),
    "hub_vit_large_16": layout("large", 16, 224),
    "hub_vit_large_16_384": layout("large", 16, 384),
}
# The giant, with 1.1 billion parameters and another MLP, is left out.
DINOV2 = {f"hub_dinov2_{size}": layout(size, 14, 518) for size in ("small", "base", "large")}
DINOV2_REGISTERS = {
    f"hub_dinov2_registers_{size}": layout(size, 14, 518, registers=4) for size in ("small", "base", "large")
}
# Left out are those with a gated MLP (plus) and of 7 billion parameters.
DINOV3 = {f"hub_dinov3_{size}": layout(size, 16, registers=4) for size in ("small", "base", "large")}

"""Names of features of backbones: levels of a pyramid, "Pn" with a stride of 2^n pixels, and tokens of a plain ViT.

Beside them the sizes of images that they are made of.
"""

from __future__ import annotations

from collections.abc import Collection

from segzoo.errors import SegzooError, wrong_type

LEVELS = ("P1", "P2", "P3", "P4", "P5")
# Maps of the tokens of a plain vision transformer after four of its blocks, all with the stride of its patches.
TOKENS = ("T1", "T2", "T3", "T4")
# Levels that can be made of them.
MADE = LEVELS[1:]
# The image itself, which a decoder may read the size of.
IMAGE = "P0"
# Pixels a side of an image: the least that every network takes, and the most of a size that is set.
SMALLEST_SIDE, LARGEST_SIDE = 32, 8192


def levels_at(output_stride: int, shallow: bool = False) -> tuple[str, ...]:
    """Return the levels that a backbone with this output stride has: to P5 at 32, to P4 at 16, to P3 at 8.

    Args:
        output_stride: output stride of the backbone.
        shallow: whether it may end at P2 or P1 too, as one does that is cut there or wrapped.

    Raises:
        SegzooError: an output stride other than 8, 16 and 32, or 4 and 2.
    """
    depths = {2: 1, 4: 2} if shallow else {}
    depths |= {8: 3, 16: 4, 32: 5}
    if output_stride not in tuple(depths):  # a list has no hash
        raise SegzooError(f"output_stride must be 8, 16 or 32, got {output_stride!r}.")
    return LEVELS[: depths[output_stride]]


def check_list(option: str, levels: object) -> None:
    """Raise SegzooError unless levels are given as a list or another collection of names; a name alone is none."""
    if isinstance(levels, str) or not isinstance(levels, Collection):
        raise wrong_type(option, "a list of levels, such as ['P4']", levels)


def prefix_of(tokens: str) -> str:
    """Return the name of the tokens that precede those of a map, the class token first: "T1_prefix" of "T1"."""
    return f"{tokens}_prefix"

"""ConvNeXt (Liu et al., 2022), built by keras.applications."""

from __future__ import annotations

import itertools

from segzoo.backbones.spec import STANDARDIZED, Convention, Variant, tap_table
from segzoo.backbones.table import BACKBONES
from segzoo.compat import LIBRARIES

# Size to constructor, blocks per stage and channels per stage.
_SIZES = {
    "tiny": ("ConvNeXtTiny", (3, 3, 9, 3), (96, 192, 384, 768)),
    "small": ("ConvNeXtSmall", (3, 3, 27, 3), (96, 192, 384, 768)),
    "base": ("ConvNeXtBase", (3, 3, 27, 3), (128, 256, 512, 1024)),
    "large": ("ConvNeXtLarge", (3, 3, 27, 3), (192, 384, 768, 1536)),
    "xlarge": ("ConvNeXtXLarge", (3, 3, 27, 3), (256, 512, 1024, 2048)),
}


def _variant(size: str) -> Variant:
    constructor, blocks, widths = _SIZES[size]
    # Blocks end in unnamed additions, "add", "add_1" and so on.
    last = [count - 1 for count in itertools.accumulate(blocks)]
    taps = tap_table(
        f"P2 add_{last[0]} {widths[0]} output of stage 1",
        f"P3 add_{last[1]} {widths[1]} output of stage 2",
        f"P4 add_{last[2]} {widths[2]} output of stage 3",
        f"P5 layer_normalization {widths[3]} normalised output of stage 4",
    )
    return Variant(
        f"convnext_{size}",
        constructor,
        "convnext",
        STANDARDIZED,
        {"output": taps},
        first_stride=4,
        # PyTorch's strided convolutions of 4x4 and 2x2 round sizes down.
        conventions={library: Convention(pads_both_sides=True) for library in LIBRARIES},
        quirk="The stem has stride 4, so the levels begin at P2.",
    )


VARIANTS = {f"convnext_{size}": _variant(size) for size in _SIZES}
BACKBONES.register_all(VARIANTS)

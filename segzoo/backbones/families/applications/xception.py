"""Xception (Chollet, 2017), built by keras.applications."""

from __future__ import annotations

from segzoo.backbones.spec import CENTERED, Convention, Variant, tap_table
from segzoo.backbones.table import BACKBONES
from segzoo.compat import SMP, TIMM

_BLOCKS = (
    "P1 block1_conv2_act 64 stem",
    "P2 add 128 output of block 2",
    "P3 add_1 256 output of block 3",
    "P4 add_10 728 output of block 12, the last of the middle flow",
)
_TAPS = {
    "output": tap_table(*_BLOCKS, "P5 block14_sepconv2_act 2048 exit flow"),
    "smp": tap_table(*_BLOCKS, "P5 block14_sepconv2_bn 2048 exit flow, not activated"),
}

VARIANTS = {
    "xception": Variant(
        "xception",
        "Xception",
        "xception",
        CENTERED,
        _TAPS,
        pads_nothing=True,
        # timm's stem pads nothing, as the original's; with its word it is padded as that of SMP.
        conventions={word: Convention(pads_both_sides=True, epsilon=1e-5) for word in (SMP, TIMM)},
        quirk='The original stem is unpadded, which removes three rows and columns; here it has "same" padding.',
    )
}
BACKBONES.register_all(VARIANTS)

"""Xception (Chollet, 2017), built by keras.applications."""

from __future__ import annotations

from segzoo.backbones.spec import CENTERED, Variant, tap_table
from segzoo.backbones.table import BACKBONES

_TAPS = tap_table(
    "P1 block1_conv2_act 64 stem",
    "P2 add 128 output of block 2",
    "P3 add_1 256 output of block 3",
    "P4 add_10 728 output of block 12, the last of the middle flow",
    "P5 block14_sepconv2_act 2048 exit flow",
)

VARIANTS = {
    "xception": Variant(
        "xception",
        "Xception",
        "xception",
        CENTERED,
        {"output": _TAPS},
        pads_nothing=True,
        quirk='The original stem is unpadded, which removes three rows and columns; here it has "same" padding.',
    )
}
BACKBONES.register_all(VARIANTS)

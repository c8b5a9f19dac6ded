"""MobileNet (Howard et al., 2017), V2 (Sandler et al., 2018) and V3 (Howard et al., 2019), by keras.applications.

The taps are the last block's outputs at each stride, without the top convolution that widens for classification.
"""

from __future__ import annotations

from segzoo.backbones.spec import CENTERED, Convention, Variant, tap_table
from segzoo.backbones.table import BACKBONES
from segzoo.compat import LIBRARIES, SMP, TIMM, TORCHVISION

_V1 = tap_table(
    "P1 conv_pw_1_relu 64 block 1",
    "P2 conv_pw_3_relu 128 block 3",
    "P3 conv_pw_5_relu 256 block 5",
    "P4 conv_pw_11_relu 512 block 11",
    "P5 conv_pw_13_relu 1024 block 13",
)
_V2 = tap_table(
    "P1 expanded_conv_project_BN 16 block 0",
    "P2 block_2_add 24 block 2",
    "P3 block_5_add 32 block 5",
    "P4 block_12_add 96 block 12",
    "P5 block_16_project_BN 320 block 16",
)
_V2_OF_SMP = (*_V2[:4], *tap_table("P5 out_relu 1280 top 1x1 convolution"))
_V3_SMALL = tap_table(
    "P1 activation 16 stem",
    "P2 expanded_conv_project_bn 16 block 0",
    "P3 expanded_conv_2_add 24 block 2",
    "P4 expanded_conv_7_add 48 block 7",
    "P5 expanded_conv_10_add 96 block 10",
)
_V3_LARGE = tap_table(
    "P1 expanded_conv_add 16 block 0",
    "P2 expanded_conv_2_add 24 block 2",
    "P3 expanded_conv_5_add 40 block 5",
    "P4 expanded_conv_11_add 112 block 11",
    "P5 expanded_conv_14_add 160 block 14",
)
_V3_SMALL_OF_TIMM = (*_V3_SMALL[:4], *tap_table("P5 activation_17 576 convolution behind the last block"))
_V3_LARGE_OF_TIMM = (*_V3_LARGE[:4], *tap_table("P5 activation_19 960 convolution behind the last block"))
# Of torchvision's networks, those of V3 kept the original's epsilon.
_PYTORCH = Convention(pads_both_sides=True, epsilon=1e-5)
_SECOND = dict.fromkeys((*LIBRARIES, SMP), _PYTORCH)
_THIRD = {TORCHVISION: Convention(pads_both_sides=True), TIMM: _PYTORCH}

VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("mobilenet", "MobileNet", "mobilenet", CENTERED, {"output": _V1}),
        Variant(
            "mobilenetv2",
            "MobileNetV2",
            "mobilenet_v2",
            CENTERED,
            {"output": _V2, "smp": _V2_OF_SMP},
            conventions=_SECOND,
        ),
        *(
            Variant(
                f"mobilenetv3_{size}",
                f"MobileNetV3{size.capitalize()}",
                "mobilenet_v3",
                CENTERED,
                {"output": table, "timm": of_timm},
                conventions=_THIRD,
            )
            for size, table, of_timm in (
                ("small", _V3_SMALL, _V3_SMALL_OF_TIMM),
                ("large", _V3_LARGE, _V3_LARGE_OF_TIMM),
            )
        ),
    )
}
BACKBONES.register_all(VARIANTS)

"""ResNet, ResNetV2 and ResNet-vd (He et al., 2015, 2016 and 2018) as keras-hub has them.

They are timm's and PaddlePaddle's, whose weights the presets hold: bottlenecks stride in the 3x3 convolution and both
sides are padded alike. "vd" has three convolutions in the stem and pools before a strided shortcut's 1x1 convolution.
"""

from __future__ import annotations

from segzoo.backbones.packages import Network
from segzoo.backbones.spec import STANDARDIZED, Tap, Variant, tap_table
from segzoo.backbones.table import BACKBONES

# Name to the form, the blocks of the stages, whether they are bottlenecks, and the presets, the first the default.
_LAYOUTS = {
    "resnet18": ("", (2, 2, 2, 2), False, ("resnet_18_imagenet",)),
    "resnet50": ("", (3, 4, 6, 3), True, ("resnet_50_imagenet",)),
    "resnet101": ("", (3, 4, 23, 3), True, ("resnet_101_imagenet",)),
    "resnet152": ("", (3, 8, 36, 3), True, ("resnet_152_imagenet",)),
    "resnet50v2": ("v2", (3, 4, 6, 3), True, ("resnet_v2_50_imagenet",)),
    "resnet101v2": ("v2", (3, 4, 23, 3), True, ("resnet_v2_101_imagenet",)),
    "resnet18_vd": ("vd", (2, 2, 2, 2), False, ("resnet_vd_18_imagenet",)),
    "resnet34_vd": ("vd", (3, 4, 6, 3), False, ("resnet_vd_34_imagenet",)),
    "resnet50_vd": (
        "vd",
        (3, 4, 6, 3),
        True,
        (
            "resnet_vd_50_imagenet",
            "resnet_vd_50_ssld_imagenet",
            "resnet_vd_50_ssld_v2_imagenet",
            "resnet_vd_50_ssld_v2_fix_imagenet",
        ),
    ),
    "resnet101_vd": ("vd", (3, 4, 23, 3), True, ("resnet_vd_101_imagenet", "resnet_vd_101_ssld_imagenet")),
    "resnet152_vd": ("vd", (3, 8, 36, 3), True, ("resnet_vd_152_imagenet",)),
    "resnet200_vd": ("vd", (3, 12, 48, 3), True, ("resnet_vd_200_imagenet",)),
}
_WIDTHS = (64, 128, 256, 512)


def _network(name: str) -> Network:
    form, blocks, bottleneck, _ = _LAYOUTS[name]
    deep_stem = form == "vd"
    return Network(
        "keras_hub",
        "ResNetBackbone",
        {
            "input_conv_filters": (32, 32, 64) if deep_stem else (64,),
            "input_conv_kernel_sizes": (3, 3, 3) if deep_stem else (7,),
            "stackwise_num_filters": _WIDTHS,
            "stackwise_num_blocks": blocks,
            "stackwise_num_strides": (1, 2, 2, 2),
            "block_type": ("bottleneck_block" if bottleneck else "basic_block") + ("_vd" if deep_stem else ""),
            "use_pre_activation": form == "v2",
        },
    )


def _taps(form: str, blocks: tuple[int, ...], bottleneck: bool) -> tuple[Tap, ...]:
    channels = [4 * width if bottleneck else width for width in _WIDTHS]
    if form == "v2":
        return tap_table(
            "P1 conv1_conv 64 stem, before normalisation",
            *(
                f"P{stage + 2} stack{stage + 1}_block0_pre_activation_relu {channels[stage]} "
                f"normalised and activated output of stage {stage + 2}"
                for stage in range(3)
            ),
            f"P5 post_relu {channels[3]} normalised and activated output of stage 5",
        )
    return tap_table(
        f"P1 conv{3 if form == 'vd' else 1}_relu 64 stem",
        *(
            f"P{stage + 2} stack{stage}_block{blocks[stage] - 1}_out {channels[stage]} output of stage {stage + 2}"
            for stage in range(4)
        ),
    )


def _variant(name: str) -> Variant:
    form, blocks, bottleneck, presets = _LAYOUTS[name]
    return Variant(
        f"hub_{name}",
        f"segzoo.backbones.families.hub.resnet:NETWORKS[hub_{name}]",
        f"hub_resnet_{form}" if form else "hub_resnet",
        STANDARDIZED,
        {"output": _taps(form, blocks, bottleneck)},
        centred_strides=True,
        package="keras-hub",
        presets=presets,
    )


NETWORKS = {f"hub_{name}": _network(name) for name in _LAYOUTS}
VARIANTS = {f"hub_{name}": _variant(name) for name in _LAYOUTS}
BACKBONES.register_all(VARIANTS)

"""EfficientNet (Tan and Le, 2019) as keras-hub has it: timm's, which pads both sides alike, with its newer weights."""

from __future__ import annotations

import math

from segzoo.backbones.packages import Network
from segzoo.backbones.spec import STANDARDIZED, Variant, tap_table
from segzoo.backbones.table import BACKBONES

# Name to the multiples of width and depth, and the presets, the first the default.
_SCALES = {
    "b0": (1.0, 1.0, ("efficientnet_b0_ra_imagenet", "efficientnet_b0_ra4_e3600_r224_imagenet")),
    "b1": (1.0, 1.1, ("efficientnet_b1_ft_imagenet", "efficientnet_b1_ra4_e3600_r240_imagenet")),
    "b2": (1.1, 1.2, ("efficientnet_b2_ra_imagenet",)),
    "b3": (1.2, 1.4, ("efficientnet_b3_ra2_imagenet",)),
    "b4": (1.4, 1.8, ("efficientnet_b4_ra2_imagenet",)),
    "b5": (1.6, 2.2, ("efficientnet_b5_sw_imagenet", "efficientnet_b5_sw_ft_imagenet")),
}
# Of the stages of B0.
_BLOCKS = (1, 2, 2, 3, 3, 4, 1)
_INPUTS, _OUTPUTS = (32, 16, 24, 40, 80, 112, 192), (16, 24, 40, 80, 112, 192, 320)
_KERNELS, _STRIDES, _EXPANSIONS = (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1), (1, 6, 6, 6, 6, 6, 6)


def _network(name: str) -> Network:
    width, depth, _ = _SCALES[name]
    stages = len(_BLOCKS)
    return Network(
        "keras_hub",
        "EfficientNetBackbone",
        {
            "stackwise_width_coefficients": (width,) * stages,
            "stackwise_depth_coefficients": (depth,) * stages,
            "stackwise_kernel_sizes": _KERNELS,
            "stackwise_num_repeats": _BLOCKS,
            "stackwise_input_filters": _INPUTS,
            "stackwise_output_filters": _OUTPUTS,
            "stackwise_expansion_ratios": _EXPANSIONS,
            "stackwise_strides": _STRIDES,
            "stackwise_squeeze_and_excite_ratios": (0.25,) * stages,
            "stackwise_block_types": ("v1",) * stages,
            "use_depth_divisor_as_min_depth": True,
            "cap_round_filter_decrease": True,
        },
        shape="input_shape",
    )


def _rounded(channels: float) -> int:
    """Return the multiple of 8 nearest to a number of channels, not more than a tenth below it."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def _variant(name: str) -> Variant:
    width, depth, presets = _SCALES[name]

    def output(level: str, stage: int) -> str:
        blocks = math.ceil(depth * _BLOCKS[stage - 1])
        end = "add" if blocks > 1 else "project_bn"
        layer = f"block{stage}{chr(ord('a') + blocks - 1)}_{end}"
        return f"{level} {layer} {_rounded(width * _OUTPUTS[stage - 1])} output of stage {stage}"

    ends = (("P1", 1), ("P2", 2), ("P3", 3), ("P4", 5), ("P5", 7))
    return Variant(
        f"hub_efficientnet_{name}",
        f"segzoo.backbones.families.hub.efficientnet:NETWORKS[hub_efficientnet_{name}]",
        "hub_efficientnet",
        STANDARDIZED,
        {"output": tap_table(*(output(level, stage) for level, stage in ends))},
        centred_strides=True,
        package="keras-hub",
        presets=presets,
    )


NETWORKS = {f"hub_efficientnet_{name}": _network(name) for name in _SCALES}
VARIANTS = {f"hub_efficientnet_{name}": _variant(name) for name in _SCALES}
BACKBONES.register_all(VARIANTS)

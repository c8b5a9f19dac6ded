"""CSPNet (Wang et al., 2019) and DarkNet-53 (Redmon and Farhadi, 2018) as keras-hub has them, after timm."""

from __future__ import annotations

from typing import Any

from segzoo.backbones.packages import Network
from segzoo.backbones.spec import STANDARDIZED, Variant, tap_table
from segzoo.backbones.table import BACKBONES

_DARKNET: dict[str, Any] = {
    "stem_filters": 32,
    "stem_kernel_size": 3,
    "stem_strides": 1,
    "stem_padding": "same",
    "stackwise_depth": (1, 2, 8, 8, 4),
    "stackwise_strides": (2, 2, 2, 2, 2),
    "stackwise_num_filters": (64, 128, 256, 512, 1024),
    "block_type": "dark_block",
}
_RESNET: dict[str, Any] = {
    "stem_filters": 64,
    "stem_kernel_size": 7,
    "stem_strides": 4,
    "stem_pooling": "max",
    "stackwise_depth": (3, 3, 5, 2),
    "stackwise_strides": (1, 2, 2, 2),
    "block_type": "bottleneck_block",
    "stage_type": "csp",
    "cross_linear": True,
}
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "hub_cspdarknet53": {
        **_DARKNET,
        "stage_type": "csp",
        "bottle_ratio": (0.5, 1.0),
        "block_ratio": (1.0, 0.5),
        "expand_ratio": (2.0, 1.0),
        "down_growth": True,
    },
    "hub_darknet53": {**_DARKNET, "stage_type": "dark", "bottle_ratio": (0.5,)},
    "hub_cspresnet50": {
        **_RESNET,
        "stackwise_num_filters": (128, 256, 512, 1024),
        "bottle_ratio": (0.5,),
        "expand_ratio": (2.0,),
    },
    "hub_cspresnext50": {
        **_RESNET,
        "stackwise_num_filters": (256, 512, 1024, 2048),
        "block_ratio": (0.5,),
        "groups": 32,
    },
}
_PRESETS = {
    "hub_cspdarknet53": "csp_darknet_53_ra_imagenet",
    "hub_darknet53": "darknet_53_imagenet",
    "hub_cspresnet50": "csp_resnet_50_ra_imagenet",
    "hub_cspresnext50": "csp_resnext_50_ra_imagenet",
}


def _variant(name: str) -> Variant:
    arguments = _ARGUMENTS[name]
    widths, depths = arguments["stackwise_num_filters"], arguments["stackwise_depth"]
    cross_stage = arguments["stage_type"] == "csp"
    # The stem of the residual networks has stride 4, the darknets' has stride 1: their first stage serves P1.
    deep = len(depths) == 5
    rows = [] if deep else ["P1 csp_stem_activation_0 64 stem, before pooling"]
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        end = "csp_transition_activation" if cross_stage else f"block_{depth - 1}_dark_block_add"
        rows.append(f"P{stage + 1 if deep else stage + 2} stage_{stage}_{end} {width} output of stage {stage + 1}")
    return Variant(
        name,
        f"segzoo.backbones.families.hub.cspnet:NETWORKS[{name}]",
        "hub_cspnet",
        STANDARDIZED,
        {"output": tap_table(*rows)},
        centred_strides=True,
        package="keras-hub",
        presets=(_PRESETS[name],),
    )


NETWORKS = {name: Network("keras_hub", "CSPNetBackbone", arguments) for name, arguments in _ARGUMENTS.items()}
VARIANTS = {name: _variant(name) for name in _ARGUMENTS}
BACKBONES.register_all(VARIANTS)

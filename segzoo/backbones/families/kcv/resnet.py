"""ResNet (He et al., 2015) and ResNetV2 (He et al., 2016) as keras-cv has them.

V1 has no biases, unlike that of keras.applications; both are padded as TensorFlow's "same". V1 strides in the first 1x1
convolution of a bottleneck, V2 in the last block of a stage: its taps are the stages' normalised and activated outputs,
which the next stage begins with.
"""

from __future__ import annotations

from segzoo.backbones.packages import Network
from segzoo.backbones.spec import RESCALED, Variant, tap_table
from segzoo.backbones.table import BACKBONES

# Layers of a network to the blocks of its stages, and whether they are bottlenecks.
_LAYOUTS = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}
_WIDTHS = (64, 128, 256, 512)
_PRESETS = {"kcv_resnet50": "resnet50_imagenet", "kcv_resnet50v2": "resnet50_v2_imagenet"}

_COSTLY = (
    "Each stage has its stride in the last block, so the blocks before it run at twice the height and width: three "
    "times the computation of keras.applications' ResNetV2."
)

NETWORKS: dict[str, Network] = {}
VARIANTS: dict[str, Variant] = {}
for _layers, (_blocks, _bottleneck) in _LAYOUTS.items():
    _arguments = {
        "stackwise_filters": _WIDTHS,
        "stackwise_blocks": _blocks,
        "stackwise_strides": (1, 2, 2, 2),
        "block_type": "block" if _bottleneck else "basic_block",
        "include_rescaling": True,
    }
    _channels = [4 * width if _bottleneck else width for width in _WIDTHS]
    _first = tap_table(
        "P1 conv1_relu 64 stem",
        *(
            # keras-cv calls the stacks of both versions "v2".
            f"P{stage + 2} v2_stack_{stage}_block{_blocks[stage]}_out {_channels[stage]} output of stage {stage + 2}"
            for stage in range(4)
        ),
    )
    _second = tap_table(
        "P1 conv1_conv 64 stem, before normalisation",
        *(
            f"P{stage + 2} v2_stack_{stage + 1}_block1_use_preactivation_relu {_channels[stage]} "
            f"normalised and activated output of stage {stage + 2}"
            for stage in range(3)
        ),
        f"P5 post_relu {_channels[3]} normalised and activated output of stage 5",
    )
    for _name, _class, _taps in (
        (f"kcv_resnet{_layers}", "ResNetBackbone", _first),
        (f"kcv_resnet{_layers}v2", "ResNetV2Backbone", _second),
    ):
        NETWORKS[_name] = Network("keras_cv", _class, _arguments)
        VARIANTS[_name] = Variant(
            _name,
            f"segzoo.backbones.families.kcv.resnet:NETWORKS[{_name}]",
            "kcv_resnet" if _taps is _first else "kcv_resnet_v2",
            RESCALED,
            {"output": _taps},
            published=_name in _PRESETS,
            package="keras-cv",
            presets=(_PRESETS[_name],) if _name in _PRESETS else (),
            quirk="" if _taps is _first else _COSTLY,
        )
VARIANTS = dict(sorted(VARIANTS.items(), key=lambda item: item[0].endswith("v2")))  # V1 first
BACKBONES.register_all(VARIANTS)

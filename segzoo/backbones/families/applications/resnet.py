"""ResNet (He et al., 2015) and ResNetV2 (He et al., 2016), built by keras.applications.

Their convolutions have biases, unlike PyTorch's. V1 strides in the first 1x1 convolution of a stage. V2 strides in the
last block of a stage, so that a stage's last output already has the next stride: the taps are that block's normalised
and activated inputs.
"""

from __future__ import annotations

from segzoo.backbones.spec import CENTERED, MEAN_SUBTRACTED, Variant, tap_table
from segzoo.backbones.table import BACKBONES

# Layers of a network to the last block of its stages 3 and 4.
_LAST_BLOCKS = {50: (4, 6), 101: (4, 23), 152: (8, 36)}


def _variants() -> dict[str, Variant]:
    variants = {}
    for layers, (third, fourth) in _LAST_BLOCKS.items():
        first = tap_table(
            "P1 conv1_relu 64 stem",
            "P2 conv2_block3_out 256 output of stage 2",
            f"P3 conv3_block{third}_out 512 output of stage 3",
            f"P4 conv4_block{fourth}_out 1024 output of stage 4",
            "P5 conv5_block3_out 2048 output of stage 5",
        )
        second = tap_table(
            "P1 conv1_conv 64 stem, before normalisation",
            "P2 conv2_block3_preact_relu 256 activated input of the block that reduces to stride 8",
            f"P3 conv3_block{third}_preact_relu 512 activated input of the block that reduces to stride 16",
            f"P4 conv4_block{fourth}_preact_relu 1024 activated input of the block that reduces to stride 32",
            "P5 post_relu 2048 activated output of stage 5",
        )
        name, name_v2 = f"resnet{layers}", f"resnet{layers}v2"
        variants[name] = Variant(
            name, f"ResNet{layers}", "resnet", MEAN_SUBTRACTED, {"output": first}, centred_strides=True
        )
        variants[name_v2] = Variant(
            name_v2, f"ResNet{layers}V2", "resnet_v2", CENTERED, {"output": second}, centred_strides=True
        )
    return variants


VARIANTS = dict(sorted(_variants().items(), key=lambda item: item[0].endswith("v2")))  # V1 first
BACKBONES.register_all(VARIANTS)

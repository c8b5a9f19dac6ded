"""InceptionV3 (Szegedy et al., 2015) and Inception-ResNet-v2 (Szegedy et al., 2016), built by keras.applications."""

from __future__ import annotations

from segzoo.backbones.spec import CENTERED, Convention, Variant, tap_table
from segzoo.backbones.table import BACKBONES
from segzoo.compat import LIBRARIES, SMP, TIMM

_V3 = tap_table(
    "P1 activation_2 64 stem",
    "P2 activation_4 192 stem, after its second convolutions",
    "P3 mixed2 288 third block at stride 8",
    "P4 mixed7 768 last block at stride 16",
    "P5 mixed10 2048 last block",
)
_RESNET_V2 = tap_table(
    "P1 activation_2 64 stem",
    "P2 activation_4 192 stem, after its second convolutions",
    "P3 block35_10_ac 320 last block of 35 x 35 (at 299 pixels)",
    "P4 block17_20_ac 1088 last block of 17 x 17",
    "P5 conv_7b_ac 1536 top convolution over the last block of 8 x 8",
)
_QUIRK = (
    "The original stem and reductions are unpadded, so feature maps are a few rows and columns smaller than the image "
    'size divided by the stride; here they have "same" padding.'
)
# torchvision's and timm's stem and reductions pad nothing, as the original's; with their words they are padded as here.
_V3_OF_PYTORCH = Convention(scales=True, averages_padding=True)

VARIANTS = {
    "inceptionv3": Variant(
        "inceptionv3",
        "InceptionV3",
        "inception_v3",
        CENTERED,
        {"output": _V3},
        pads_nothing=True,
        conventions=dict.fromkeys(LIBRARIES, _V3_OF_PYTORCH),
        quirk=_QUIRK,
    ),
    "inceptionresnetv2": Variant(
        "inceptionresnetv2",
        "InceptionResNetV2",
        "inception_resnet_v2",
        CENTERED,
        {"output": _RESNET_V2},
        pads_nothing=True,
        conventions={SMP: Convention(pads_both_sides=True, scales=True), TIMM: Convention(scales=True)},
        quirk=_QUIRK,
    ),
}
BACKBONES.register_all(VARIANTS)

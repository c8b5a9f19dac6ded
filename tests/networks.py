"""Networks for tests that need none of the zoo's; also imported by the processes that tests start."""

from __future__ import annotations

import keras

from segzoo.backbones import wrap
from segzoo.backbones.plain_vit import PlainViT

# Options of decoders with few channels. A ReLU of one narrow channel may silence all: hence swish where there is one.
NARROW = {
    "unet": {"channels": (10, 8, 6, 4, 4), "squeeze_activation": "swish"},
    "unetplusplus": {"channels": (10, 8, 6, 4, 4), "squeeze_activation": "swish"},
    "manet": {"channels": (10, 8, 6, 4, 4), "attention_channels": 4, "squeeze_activation": "swish"},
    "linknet": {"channels": 8, "activation": "elu"},
    "pspnet": {"channels": 8},
    "pan": {"channels": 8, "pyramid_activation": "swish"},
    "upernet": {"channels": 8},
    "segformer": {"channels": 8},
    "fpn": {"pyramid_channels": 16, "segmentation_channels": 8},
    "deeplabv3": {"channels": 8},
    "deeplabv3plus": {"channels": 8, "low_level_channels": 4},
    "dpt": {"intermediate_channels": (4, 6, 8, 8), "fusion_channels": 8},
}


def small_backbone(first: int = 1) -> keras.Model:
    """Five convolutions with stride 2, as a backbone with the levels P1, or another first one, to P5."""
    x = images = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 64, -2, name="scale")(x)
    for number in range(1, 6):
        x = keras.layers.Conv2D(8 * number, 3, 2, "same", activation="relu", name=f"level{number}")(x)
    return wrap(keras.Model(images, x, name="small"), {f"P{number}": f"level{number}" for number in range(first, 6)})


def small_vit(**options) -> keras.Model:
    """A plain ViT of four blocks, as a backbone with tokens; options are those of `PlainViT`."""
    options = {"patch": 16, "width": 8, "depth": 4, "heads": 2, "grid": 3, "assign": None, **options}
    images = keras.Input((None, None, 3), name="image")
    pixels = keras.layers.Rescaling(1 / 64, -2, name="scale")(images)
    tokens = PlainViT(name="small_vit", **options).build((None, None, 3))(pixels)
    return keras.Model(images, tokens, name="small_vit")


def small_for(decoder: str) -> keras.Model:
    """A small backbone with what a decoder reads: tokens or a pyramid."""
    return small_vit() if decoder == "dpt" else small_backbone()

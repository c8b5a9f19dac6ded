"""Networks for tests that need none of the zoo's; also imported by the processes that tests start."""

from __future__ import annotations

import keras

from segzoo.backbones import wrap

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
}


def small_backbone(first: int = 1) -> keras.Model:
    """Five convolutions with stride 2, as a backbone with the levels P1, or another first one, to P5."""
    x = images = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 64, -2, name="scale")(x)
    for number in range(1, 6):
        x = keras.layers.Conv2D(8 * number, 3, 2, "same", activation="relu", name=f"level{number}")(x)
    return wrap(keras.Model(images, x, name="small"), {f"P{number}": f"level{number}" for number in range(first, 6)})

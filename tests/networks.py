"""Networks for tests that need none of the zoo's; also imported by the processes that tests start."""

from __future__ import annotations

import keras

from segzoo.backbones import wrap

# Options of every decoder with which it has few channels.
NARROW = {
    "unet": {"channels": [4] * 5},
    "unetplusplus": {"channels": [4] * 5},
    "manet": {"channels": [4] * 5, "attention_channels": 4, "reduction": 4},
    "linknet": {"channels": 4},
    "fpn": {"pyramid_channels": 4, "segmentation_channels": 4, "normalization": "batch"},
    "pspnet": {"channels": 8},
    "pan": {"channels": 4},
    "deeplabv3": {"channels": 4},
    "deeplabv3plus": {"channels": 4, "low_level_channels": 4},
    "upernet": {"channels": 4},
    "segformer": {"channels": 4},
}


def small_backbone(first: int = 1) -> keras.Model:
    """Five convolutions with stride 2, as a backbone with the levels P1, or another first one, to P5."""
    x = images = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 64, -2, name="scale")(x)
    for number in range(1, 6):
        x = keras.layers.Conv2D(8 * number, 3, 2, "same", activation="relu", name=f"level{number}")(x)
    return wrap(keras.Model(images, x, name="small"), {f"P{number}": f"level{number}" for number in range(first, 6)})

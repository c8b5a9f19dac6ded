"""Write data/decoders_0.1.0.npz: what every decoder of segzoo 0.1.0 computed, with the configuration that it wrote.

Run with segzoo 0.1.0 on the path: `PYTHONPATH=/path/to/segzoo-0.1.0:tests python tests/decoders/legacy_decoders.py`.
"""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
from seeding import fill

from segzoo.decoders import DECODERS

SMALL = {
    "unet": {"channels": (8, 8, 4, 4, 4), "attention": "scse"},
    "unetplusplus": {"channels": (8, 8, 4, 4, 4)},
    "manet": {"channels": (8, 8, 4, 4, 4), "attention_channels": 4},
    "linknet": {"channels": 8},
    "fpn": {"pyramid_channels": 8, "segmentation_channels": 12},
    "pspnet": {"channels": 8},
    "pan": {"channels": 8},
    "deeplabv3": {"channels": 8},
    "deeplabv3plus": {"channels": 8, "low_level_channels": 4},
    "upernet": {"channels": 8},
    "segformer": {"channels": 8},
}
WIDTHS = {"P1": 4, "P2": 6, "P3": 8, "P4": 10, "P5": 12}
SIZE = (72, 88)


def features(levels: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Random features for an image of SIZE; its sides are no multiples of 16."""
    found = {}
    for level in levels:
        stride = 2 ** int(level[1:])
        rng = np.random.default_rng(stride)
        shape = (1, *(-(-side // stride) for side in SIZE), WIDTHS[level])
        found[level] = rng.normal(size=shape).astype("float32")
    return found


def decode(decoder: keras.layers.Layer) -> np.ndarray:
    """Result of a decoder with seeded weights, of a few pixels from all over the map."""
    inputs = features(type(decoder).levels(type(decoder).default_output_stride))
    decoder(inputs)
    fill(decoder)
    return np.asarray(decoder(inputs, training=False))[0, ::3, ::5]


def main() -> None:
    """Write the file."""
    found = {}
    for name, options in SMALL.items():
        decoder = DECODERS[name](name="decoder", **options)
        found[f"{name}/config"] = np.array(json.dumps(decoder.get_config(), sort_keys=True))
        found[f"{name}/decoded"] = decode(decoder)
    np.savez_compressed(Path(__file__).parent / "data" / "decoders_0.1.0.npz", **found)


if __name__ == "__main__":
    main()

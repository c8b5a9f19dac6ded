"""Parameters and GFLOPs of every backbone, measured once and kept beside the code: listing builds nothing.

`python -m segzoo.backbones.figures` measures them anew, or those that it is given the names of. It needs keras-cv and
keras-hub.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("figures.json")
# Height and width at which GFLOPs were counted.
SIZE = (256, 256)


@dataclass(frozen=True)
class Figures:
    """Parameters and GFLOPs of a backbone with its default taps, cut at the deepest.

    Attributes:
        parameters: number of all weights, including the statistics of batch normalisation.
        gflops: GFLOPs for one image; a multiply-add counts as two.
        attention: part of `gflops` that attention between pixels takes. It grows with the square of the image's area,
            the rest with the area.
    """

    parameters: int
    gflops: float
    attention: float = 0.0


@cache
def _measured() -> dict[str, dict[str, float]]:
    return json.loads(_FILE.read_text(encoding="utf-8"))


def is_measured(name: str) -> bool:
    """Return True if backbone `name` was measured; those of plugins are not."""
    return name in _measured()


def figures(name: str, size: tuple[int, int] = SIZE) -> Figures:
    """Return the figures of backbone `name` at an image size (height, width), scaled from those at 256x256."""
    found = _measured()[name]
    scale = size[0] * size[1] / (SIZE[0] * SIZE[1])
    attention = found.get("attention", 0.0)
    gflops = (found["gflops"] - attention) * scale + attention * scale**2
    return Figures(int(found["parameters"]), gflops, attention * scale**2)


def measure(name: str) -> Figures:
    """Build backbone `name`, and count its parameters and GFLOPs."""
    import keras

    from segzoo.backbones import BACKBONES, create
    from segzoo.complexity import gflops
    from segzoo.layers import SpatialReductionAttention, TransformerBlock

    backbone = create(name, weights="none")
    total, attention = gflops(backbone, SIZE), 0.0
    if any(isinstance(layer, SpatialReductionAttention) for layer in backbone.layers):
        # Of two parts, one grows fourfold and one sixteenfold at twice the height and width.
        attention = (gflops(backbone, (2 * SIZE[0], 2 * SIZE[1])) - 4 * total) / 12
    if BACKBONES[name].patch:
        # Two products of all pairs of tokens in each block; the sizes themselves are rounded up to whole patches.
        maps = backbone.compute_output_spec(keras.KerasTensor((1, *SIZE, 3)))
        _, height, width, channels = maps["T1"].shape
        tokens = maps["T1_prefix"].shape[1] + height * width
        blocks = sum(isinstance(layer, TransformerBlock) for layer in backbone.layers)
        attention = blocks * 4 * tokens**2 * channels / 1e9
    found = Figures(backbone.count_params(), round(total, 3), round(attention, 5))
    del backbone
    keras.backend.clear_session()
    return found


def main(wanted: Sequence[str] = ()) -> None:
    """Measure the backbones of these names, by default all, and write the file."""
    from segzoo.backbones import names

    kept = _measured() if wanted else {}
    found = {name: kept[name] if wanted and name not in wanted else _row(measure(name)) for name in names()}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in found.items())
    _FILE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def _row(found: Figures) -> dict[str, float]:
    return {name: value for name, value in vars(found).items() if name != "attention" or value}


if __name__ == "__main__":
    main(sys.argv[1:])

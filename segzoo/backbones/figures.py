"""Parameters and GFLOPs of every backbone, measured once and kept beside the code: listing builds nothing.

`python -m segzoo.backbones.figures` measures them anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("figures.json")
# Height and width at which GFLOPs were counted; those of a convolutional network grow with the area.
SIZE = (256, 256)


@dataclass(frozen=True)
class Figures:
    """Size and cost of a backbone with its default taps, cut at the deepest.

    Attributes:
        parameters: trainable and other weights, batch normalisation's statistics among them.
        gflops: for one image, two for each multiply-add.
    """

    parameters: int
    gflops: float


@cache
def _measured() -> dict[str, dict[str, float]]:
    return json.loads(_FILE.read_text(encoding="utf-8"))


def figures(name: str, size: tuple[int, int] = SIZE) -> Figures:
    """Figures of backbone `name` at an image size (height, width), scaled by area from those measured at 256x256."""
    found = _measured()[name]
    scale = size[0] * size[1] / (SIZE[0] * SIZE[1])
    return Figures(int(found["parameters"]), found["gflops"] * scale)


def measure(name: str) -> Figures:
    """Build backbone `name` and count."""
    import keras

    from segzoo.backbones import create
    from segzoo.complexity import gflops

    backbone = create(name, weights="none")
    found = Figures(backbone.count_params(), round(gflops(backbone, SIZE), 3))
    del backbone
    keras.backend.clear_session()
    return found


def main() -> None:
    """Measure all backbones and write the file."""
    from segzoo.backbones import names

    found = {name: vars(measure(name)) for name in names()}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in found.items())
    _FILE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

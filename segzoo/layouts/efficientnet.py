"""EfficientNet (Tan and Le, 2019) and EfficientNet-Lite (Liu and Tan, 2020), by their sizes."""

from __future__ import annotations

import math
from typing import NamedTuple


class Stage(NamedTuple):
    """Stage of EfficientNet-B0: blocks, kernel size, stride of the first block, expansion and channels."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


class Scale(NamedTuple):
    """Size of a variant.

    Attributes:
        width: channels as a multiple of B0's.
        depth: blocks of a stage as a multiple of B0's.
        lite: whether the first and the last stage are not made deeper.
    """

    width: float
    depth: float
    lite: bool = False

    def blocks(self) -> list[int]:
        """Return the number of blocks of each stage."""
        ends = (0, len(STAGES) - 1) if self.lite else ()
        return [
            stage.blocks if number in ends else math.ceil(stage.blocks * self.depth)
            for number, stage in enumerate(STAGES)
        ]

    def channels(self) -> list[int]:
        """Return the channels of each stage: multiples of 8, the nearest that is not more than a tenth less."""
        return [_rounded(stage.channels * self.width) for stage in STAGES]


def _rounded(channels: float) -> int:
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


V1 = {
    "b0": Scale(1.0, 1.0),
    "b1": Scale(1.0, 1.1),
    "b2": Scale(1.1, 1.2),
    "b3": Scale(1.2, 1.4),
    "b4": Scale(1.4, 1.8),
    "b5": Scale(1.6, 2.2),
    "b6": Scale(1.8, 2.6),
    "b7": Scale(2.0, 3.1),
}
LITE = {f"lite{number}": V1[f"b{number}"]._replace(lite=True) for number in range(5)}

"""Random features in the place of a backbone's."""

from __future__ import annotations

import numpy as np

WIDTHS = {"P1": 4, "P2": 6, "P3": 8, "P4": 10, "P5": 12}


def random_features(
    height: int, width: int, levels: tuple[str, ...] = tuple(WIDTHS), batch: int = 1
) -> dict[str, np.ndarray]:
    """Features of narrow widths for an image of this size, as a backbone rounds them up; the same in every call."""
    rng = np.random.default_rng(0)

    def size(pixels: int, level: str) -> int:
        return -(-pixels // 2 ** int(level[1:]))

    widths = {**WIDTHS, "P0": 3, "C4": WIDTHS["P4"]}
    return {
        level: rng.normal(size=(batch, size(height, level), size(width, level), widths[level])).astype("float32")
        for level in levels
    }

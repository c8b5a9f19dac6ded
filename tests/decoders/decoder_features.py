"""Random features in the place of a backbone's."""

from __future__ import annotations

import numpy as np

from segzoo.levels import TOKENS

TOKEN_WIDTH = 8
WIDTHS = {"P1": 4, "P2": 6, "P3": 8, "P4": 10, "P5": 12}


def random_features(
    height: int, width: int, levels: tuple[str, ...] = tuple(WIDTHS), batch: int = 1
) -> dict[str, np.ndarray]:
    """Features of narrow widths for an image of this size, as a backbone rounds them up; the same in every call.

    Tokens are of patches of 16 pixels, with two before them.
    """
    rng = np.random.default_rng(0)

    def shape(level: str) -> tuple[int, ...]:
        if level.endswith("_prefix"):
            return (batch, 2, TOKEN_WIDTH)
        stride = 16 if level in TOKENS else 2 ** int(level[1:])
        return (batch, *(-(-pixels // stride) for pixels in (height, width)), widths[level])

    widths = {**WIDTHS, **dict.fromkeys(TOKENS, TOKEN_WIDTH), "P0": 3, "C4": WIDTHS["P4"]}
    return {level: rng.normal(size=shape(level)).astype("float32") for level in levels}

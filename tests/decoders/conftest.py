from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

WIDTHS = {"P1": 4, "P2": 6, "P3": 8, "P4": 10, "P5": 12}


@pytest.fixture(autouse=True)
def same_weights() -> None:
    """The same random weights in every run."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def features() -> Callable[..., dict[str, np.ndarray]]:
    """Random features of narrow widths for an image of this size, as a backbone rounds them up."""

    def features(height: int, width: int, levels: tuple[str, ...] = tuple(WIDTHS), batch: int = 1) -> dict:
        rng = np.random.default_rng(0)

        def size(pixels: int, level: str) -> int:
            return -(-pixels // 2 ** int(level[1:]))

        widths = {**WIDTHS, "P0": 3, "C4": WIDTHS["P4"]}
        return {
            level: rng.normal(size=(batch, size(height, level), size(width, level), widths[level])).astype("float32")
            for level in levels
        }

    return features


@pytest.fixture
def inputs() -> Callable[..., dict[str, keras.KerasTensor]]:
    """Keras inputs of any size, with these channels for each level."""

    def inputs(widths: dict[str, int]) -> dict[str, keras.KerasTensor]:
        return {level: keras.Input((None, None, channels), name=level) for level, channels in widths.items()}

    return inputs

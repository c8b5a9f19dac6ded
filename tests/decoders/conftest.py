from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
from decoder_features import random_features


@pytest.fixture(autouse=True)
def same_weights() -> None:
    """The same random weights in every run."""
    keras.utils.set_random_seed(0)


@pytest.fixture
def features() -> Callable[..., dict[str, np.ndarray]]:
    """Random features of narrow widths for an image of this size."""
    return random_features


@pytest.fixture
def inputs() -> Callable[..., dict[str, keras.KerasTensor]]:
    """Keras inputs of any size, with these channels for each level."""

    def inputs(widths: dict[str, int]) -> dict[str, keras.KerasTensor]:
        shapes = {
            level: (None, channels) if level.endswith("_prefix") else (None, None, channels)
            for level, channels in widths.items()
        }
        return {level: keras.Input(shape, name=level) for level, shape in shapes.items()}

    return inputs

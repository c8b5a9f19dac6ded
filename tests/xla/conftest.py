"""Models to train with XLA and without it, on the processor as on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave other backends out: `jit_compile` of TensorFlow is what is tried."""
    if keras.backend.backend() != "tensorflow":
        for item in items:
            if "tests/xla/" in item.nodeid:
                item.add_marker(pytest.mark.skip(reason="about TensorFlow's jit_compile"))


@pytest.fixture(autouse=True)
def same_weights() -> None:
    """The same random weights in every run."""
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def tiny_backbone() -> Callable[..., Any]:
    """A backbone of a convolution for each level, wrapped: what comes after it compiles in seconds."""
    import segzoo

    def tiny_backbone(levels: int = 5) -> Any:
        x = images = keras.Input((None, None, 3), name="images")
        x = keras.layers.Rescaling(1 / 127.5, -1, name="pixels")(x)
        for number in range(1, levels + 1):
            x = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="swish", name=f"stage{number}")(x)
        taps = {f"P{number}": f"stage{number}" for number in range(1, levels + 1)}
        return segzoo.backbones.wrap(keras.Model(images, x, name="tiny"), taps)

    return tiny_backbone


@pytest.fixture(scope="session")
def two_steps() -> Callable[..., tuple[list[float], list[np.ndarray]]]:
    """Train a model for two steps, compiled by XLA or without a graph: the losses, and all weights after them."""

    def two_steps(
        model: Any, start: list[np.ndarray], compiled: bool, size: tuple[int, int] = (37, 45), **compiling: Any
    ) -> tuple[list[float], list[np.ndarray]]:
        model.set_weights(start)
        keras.utils.set_random_seed(0)
        model.compile(jit_compile=compiled, run_eagerly=not compiled, **compiling)
        rng = np.random.default_rng(0)
        losses = []
        for _ in range(2):
            images = rng.uniform(0, 255, (2, *size, 3)).astype("float32")
            masks = rng.integers(0, 3, (2, *size))
            outputs = model.output
            if isinstance(outputs, dict):
                masks = dict.fromkeys(outputs, masks)
            losses.append(float(np.ravel(model.train_on_batch(images, masks))[0]))
        return losses, [keras.ops.convert_to_numpy(weight) for weight in model.weights]

    return two_steps

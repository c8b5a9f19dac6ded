"""Forward pass of an evaluation: one graph for batches of any number and size of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np

from segzoo.inference.network import in_graphs


class Predicts(Protocol):
    """A network, or whatever else returns logits, as an evaluation takes it."""

    def predict_on_batch(self, images: np.ndarray) -> Any:
        """Return the logits `(B, H, W, classes)` of images `(B, H, W, C)`."""


class Forward:
    """Logits of batches of images with the network's present weights, by `predict_on_batch`.

    On TensorFlow it is one graph, traced once with free batch, height and width, where Keras's own method traces for
    each of the first few shapes and, with XLA, compiles for every one. On JAX batches are filled up, see `Filler`;
    PyTorch takes them as they are.

    Args:
        network: model from images `(B, H, W, C)`, pixels 0..255, to logits.
    """

    def __init__(self, network: keras.Model):
        self.network = network
        self._filler = Filler()
        self._run: Callable[[np.ndarray], Any] | None = None

    def predict_on_batch(self, images: np.ndarray) -> Any:
        """Return the logits `(B, H, W, classes)` of images `(B, H, W, C)`."""
        match keras.backend.backend():
            case "tensorflow":
                return self._in_graph(images)
            case "jax":
                return self.network.predict_on_batch(self._filler.fill(images))[: len(images)]
            case _:
                return self.network.predict_on_batch(images)

    def _in_graph(self, images: np.ndarray) -> Any:
        if self._run is None:
            import tensorflow as tf

            self._run = in_graphs(
                lambda batch: self.network(tf.cast(batch, tf.float32), training=False), self.network.input_shape
            )
        return self._run(images)


class Filler:
    """Fills up batches to the largest of their image size so far: JAX compiles for each shape, which costs more."""

    def __init__(self) -> None:
        self._largest: dict[tuple[int, ...], int] = {}

    def fill(self, images: np.ndarray) -> np.ndarray:
        """Return images `(B, H, W, C)` with copies of the last one behind them."""
        size, count = images.shape[1:], len(images)
        most = self._largest[size] = max(count, self._largest.get(size, 0))
        return with_copies(images, most - count)


def with_copies(images: np.ndarray, count: int) -> np.ndarray:
    """Return images `(B, H, W, C)` with `count` copies of the last one behind them."""
    return np.concatenate([images, np.repeat(images[-1:], count, axis=0)]) if count else images

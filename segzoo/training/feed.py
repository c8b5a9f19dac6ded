"""Handing NumPy batches to `keras.Model.fit`, with the errors of the reading threads intact."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

import keras
import numpy as np

from segzoo.errors import DataError

Batch = tuple[np.ndarray, np.ndarray]


class Feed:
    """Endless batches for `fit`, started anew at any step.

    Args:
        batches: function of a step that returns the endless batches from there on.
    """

    def __init__(self, batches: Callable[[int], Iterator[Batch]]):
        self._batches = batches
        self._shape: tuple | None = None
        self._reader: Generator[Batch, None, None] | None = None
        self._reading = threading.Lock()
        self.error: Exception | None = None

    def from_step(self, step: int) -> Any:
        """What `fit` takes: batches of images uint8 `(B, H, W, C)` and masks int32 `(B, H, W)` from `step` on."""
        if keras.backend.backend() != "tensorflow":
            return self._guarded(step)
        import tensorflow as tf

        shape = self._static_shape()
        self.close()
        reader = self._reader = self._guarded(step)

        def advance(_: Any) -> Batch:
            with self._reading:  # TensorFlow reads ahead in a thread of its own, also while the reader is closed
                return next(reader)  # after `close` StopIteration, which ends the data set

        def read(position: Any) -> tuple[Any, Any]:
            images, masks = tf.numpy_function(advance, [position], (tf.uint8, tf.int32))
            return tf.ensure_shape(images, shape), tf.ensure_shape(masks, shape[:3])

        # Not from_generator: with it every training step takes fresh memory from the system, 55,000 page faults a step
        # of FPN on EfficientNet-B0 at 8 x 128x128 against a hundred.
        return tf.data.Dataset.counter().map(read).prefetch(2)

    def close(self) -> None:
        """Stop the threads that read ahead; what `from_step` returned last ends there."""
        with self._reading:
            if self._reader is not None:
                self._reader.close()
            self._reader = None

    def _static_shape(self) -> tuple:
        # Static shapes let the network skip resizes and TensorFlow choose faster kernels, so they are worth two
        # batches read ahead; sizes that vary from batch to batch stay dynamic.
        if self._shape is None:
            reader = self._guarded(0)
            first, second = next(reader)[0].shape, next(reader)[0].shape
            reader.close()
            self._shape = first if first == second else (first[0], None, None, first[3])
        return self._shape

    def _guarded(self, step: int) -> Generator[Batch, None, None]:
        try:
            for images, masks in self._batches(step):
                expected = self._shape
                if expected is not None and None not in expected and images.shape != expected:
                    raise DataError(
                        f"The first training batches are {expected[1]}x{expected[2]} pixels, a later one is "
                        f"{images.shape[1]}x{images.shape[2]}. Give all samples one size: add Resize or "
                        "PadIfNeeded and RandomCrop to data.augment."
                    )
                yield images, masks.astype("int32", copy=False)
        except Exception as error:
            # TensorFlow would turn it into a wall of text; the loop raises the original instead.
            self.error = error
            raise

"""Adapter from NumPy batches to `keras.Model.fit` that preserves the errors of reading threads."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import keras
import numpy as np

from segzoo.data.pipeline import check_size, size_of_all
from segzoo.data.sources import Size
from segzoo.errors import DataError
from segzoo.models.build import LOGITS

Batch = tuple[np.ndarray, Any]  # images, and targets or a dict of them


class FitDataset:
    """Endless batches for `fit`, which can be restarted at any step.

    Args:
        batches: function of a step that returns the endless batches from there on.
        outputs: names of the network's outputs, where it has several; each gets its own targets where the batches have
            a dict of them, all others those of the logits, or of what is no dict.
        may_vary: whether batches can hold other numbers of images, and images can be of other sizes, than the first.
    """

    def __init__(
        self, batches: Callable[[int], Iterator[Batch]], outputs: Sequence[str] | None = None, may_vary: bool = False
    ):
        self._batches = batches
        self._outputs = outputs
        self._may_vary = may_vary
        self._shape: tuple = ()
        self._size: Size | None = None  # of all batches, where they have one
        self._image_type = ""
        self._targets: dict[str, tuple[tuple, str]] | None = None
        self._reader: Generator[Batch, None, None] | None = None
        self._reading = threading.Lock()
        self._turn: object | None = None  # the call of `from_step` whose iterator reads
        self._following = 0  # position, counted from its step, of the batch that the reader yields next
        self.error: Exception | None = None

    def from_step(self, step: int) -> Any:
        """Return the batches from `step` on: images `(B, H, W, C)`, uint8 or float32, and masks int32 `(B, H, W)`.

        Targets that are no class indices come as they are made, `(B, H, W, D)` or `(B, D)` float32.
        """
        if keras.backend.backend() != "tensorflow":
            return ((images, self._spread(targets)) for images, targets in self._guarded(step))
        import tensorflow as tf

        static, begun = self._static_shapes()
        self.close()
        # TensorFlow keeps the function for as long as the process lives: it must not keep the caller's data too.
        owner, turn = weakref.ref(self), object()
        self._turn, self._following = turn, 0
        if begun is not None and step == 0:
            self._reader = begun
        else:
            self._reader = self._guarded(step)
            if begun is not None:
                begun.close()

        def advance(position: Any) -> list[np.ndarray]:
            alive = owner()
            if alive is None:
                raise StopIteration  # which ends the data set
            return alive._advance(turn, step, int(position))

        def read(position: Any) -> tuple[Any, Any]:
            types = [self._image_type, *(kind for _, kind in static.values())]
            images, *arrays = tf.numpy_function(advance, [position], types)
            targets = {
                name: tf.ensure_shape(array, shape)
                for array, (name, (shape, _)) in zip(arrays, static.items(), strict=True)
            }
            return tf.ensure_shape(images, self._shape), self._spread(targets)

        # Not from_generator: with it every training step takes fresh memory from the system, 55,000 page faults a step
        # of FPN on EfficientNet-B0 at 8 x 128x128 against a hundred.
        # Autotuning has nothing to tune here, and an iterator that is deleted waits until its thread wakes up, up to a
        # minute after long epochs.
        options = tf.data.Options()
        options.autotune.enabled = False
        return tf.data.Dataset.counter().map(read).prefetch(2).with_options(options)

    def _advance(self, turn: object, step: int, position: int) -> list[np.ndarray]:
        """Return the arrays of a batch, counted from `step` on; StopIteration after `close` or another `from_step`."""
        with self._reading:  # TensorFlow reads ahead in a thread of its own, also while the reader is closed
            if self._reader is None or self._turn is not turn:
                raise StopIteration
            if position != self._following:
                # Keras looks at a batch before it trains with several devices, and then begins anew.
                self._reader.close()
                self._reader = self._guarded(step + position)
            self._following = position + 1
            images, targets = next(self._reader)
        return [images, *targets.values()]

    def _spread(self, targets: Mapping[str, Any]) -> Any:
        """Return the targets in the structure of the network's outputs."""
        if self._outputs is None:
            return targets[LOGITS]
        return {name: targets.get(name, targets[LOGITS]) for name in self._outputs}

    def close(self) -> None:
        """Stop the threads that read ahead, which ends the iterator that `from_step` returned last."""
        with self._reading:
            if self._reader is not None:
                self._reader.close()
            self._reader = None

    def _static_shapes(self) -> tuple[dict[str, tuple[tuple, str]], Generator[Batch, None, None] | None]:
        """Return shape and type of the targets by output; record those of the images.

        When they are asked for first, return too the reader of step 0 that two batches were read of, which yields them
        again.
        """
        begun = None
        # Static shapes let the network skip resizes and TensorFlow choose faster kernels, so they are worth two
        # batches read ahead; sizes that vary from batch to batch stay dynamic.
        if self._targets is None:
            reader = self._guarded(0)
            read = [next(reader), next(reader)]
            (images, targets), (others, _) = read
            image_type = np.result_type(images, others).name
            self._size = None if self._may_vary else size_of_all(images.shape[1:3], others.shape[1:3])
            size = self._size or (None, None)
            count = None if self._may_vary else len(images)
            self._shape = (count, *size, images.shape[3])
            self._image_type = image_type
            self._targets = {
                # Maps have the size of the images, which may vary, and rows of numbers their own.
                name: (
                    (count, *size, *array.shape[3:]) if array.ndim > 2 else (count, *array.shape[1:]),
                    array.dtype.name,
                )
                for name, array in targets.items()
            }
            begun = self._after(read, reader)
        return self._targets, begun

    def _after(self, read: list[Batch], reader: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
        """Yield batches that were read before the shapes were known, and then the reader's; closing it closes that."""
        with closing(reader):
            while read:
                images, targets = read.pop(0)
                yield self._as_first(images), targets
            yield from reader

    def _as_first(self, images: np.ndarray) -> np.ndarray:
        """Return images in the dtype of the first batch; DataError if it does not hold them."""
        told = np.dtype(self._image_type) if self._image_type else images.dtype
        if not np.can_cast(images.dtype, told):
            raise DataError(
                f"The images of the first training batches are {told}, those of a later one {images.dtype}. Give all "
                "images one number type, or let the source's method gives_float(places) return True."
            )
        return images.astype(told, copy=False)

    def _guarded(self, step: int) -> Generator[Batch, None, None]:
        try:
            for images, targets in self._batches(step):
                check_size(self._size, images.shape[1:3])
                yield self._as_first(images), _by_output(targets)
        except Exception as error:
            # TensorFlow would turn it into a wall of text; the loop raises the original instead.
            self.error = error
            raise


def _by_output(targets: Any) -> dict[str, np.ndarray]:
    """Return targets by the output that they are for, integers as int32."""
    named = targets if isinstance(targets, Mapping) else {LOGITS: targets}
    return {
        name: array.astype("int32", copy=False) if array.dtype.kind in "iu" else array for name, array in named.items()
    }

"""User-provided batches: a tf.data.Dataset, a keras.utils.PyDataset, or any iterable of (images, masks)."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np

from segzoo.config import Config
from segzoo.data import Sample
from segzoo.data.pipeline import stacked
from segzoo.errors import DataError

_KEPT = 8  # batches before the one read last that are kept: who trains is a few behind who reads ahead
#: The length of batches without an end.
ENDLESS = -1
Batch = tuple[np.ndarray, np.ndarray]


class Batched:
    """Validated user batches of images `(B, H, W, C)`, pixels 0..255, and masks `(B, H, W)`.

    In multilabel masks are `(B, H, W, classes)`; `(B, H, W, 1)` is taken for `(B, H, W)` elsewhere. Targets of floats
    `(B, H, W, classes)` are shares of the classes and for losses alone.

    Args:
        data: the data passed by the caller.
        length: batches in a pass, ENDLESS, or None where that is not known before its end.
        config: the resolved configuration: classes, ignore index, channels.
        split: "train" or "val", for messages.
        target: makes of each mask what the network's outputs are trained on.

    Attributes:
        steps_per_epoch: batches in a pass, or None.
        is_restartable: whether the same batches can be read again, as a resumed run does.
    """

    source = None  # there are no samples that could be read one by one
    ids = None  # and none has a name, whose order could matter

    def __init__(
        self,
        data: Any,
        length: int | None,
        config: Config,
        split: str,
        target: Callable[[np.ndarray], Any] = lambda mask: mask,
    ):
        self.data = data
        self._is_endless = length == ENDLESS
        self.steps_per_epoch = length = None if self._is_endless else length
        self.config = config
        self.target = target
        self.name = f"{split}_data"
        self.is_restartable = _is_indexed(data) or iter(data) is not data
        self._reader = _Reader(self._from_step, self.name, self.is_restartable)
        self._length = length
        self._ended = 0  # passes over a PyDataset whose end it was told of
        self._task = config.task

    @classmethod
    def of(
        cls, data: Any, config: Config, split: str, target: Callable[[np.ndarray], Any] = lambda mask: mask
    ) -> Batched:
        """Look at what was given.

        Raises:
            DataError: the data set yields no batches, or, for the validation split, infinitely many.
        """
        if isinstance(data, str | bytes | dict) or not (_is_indexed(data) or isinstance(data, Iterable)):
            raise DataError(
                f"{split}_data takes a segzoo source of samples, a tf.data.Dataset, a keras.utils.PyDataset or an "
                f"iterable of batches (images, masks), not {type(data).__module__}.{type(data).__qualname__}."
            )
        length = _length(data)
        if length == 0:
            raise DataError(f"{split}_data has no batches.")
        found = cls(data, length, config, split, target)
        if split == "val" and (length == ENDLESS or not found.is_restartable):
            raise DataError(
                "val_data is read anew in every evaluation, so it must have an end and be one that can be read again: "
                "a list, a data set, or an object whose __iter__ makes a new iterator, not a generator or .repeat()."
            )
        return found

    def fingerprint(self) -> str:
        """Return the kind of data as text: its content is unknown before it is read."""
        return f"given: {type(self.data).__module__}.{type(self.data).__qualname__}"

    def batches(self, start_step: int = 0) -> Iterator[tuple[np.ndarray, Any]]:
        """Iterate over images and targets from step `start_step` on, pass after pass.

        Raises:
            DataError: an unusable batch, or the end of a stream.
        """
        for images, masks in self._masked(start_step):
            yield images, stacked([self.target(mask) for mask in masks])

    def _masked(self, start_step: int) -> Iterator[Batch]:
        for step, batch in enumerate(self._reader.read(start_step), start_step):
            yield self._checked(batch, step)

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray, list[str]]]:
        """Iterate over one pass: images, masks and names of the images, for an evaluation."""
        seen = 0
        for number, batch in enumerate(self._one_pass(0)):
            images, masks = self._checked(batch, number)
            if masks.dtype.kind == "f":
                raise DataError(f"{self.name}: batch {number} has masks of floats; an evaluation needs labels.")
            yield images, masks, [str(seen + place) for place in range(len(images))]
            seen += len(images)
        if not seen:
            raise DataError(f"{self.name} has no batches.")

    def scaled(self) -> str | None:
        """Return a warning if the first batch looks scaled to 0..1 or -1..1 instead of 0..255; else None."""
        images, _ = next(self._masked(0))
        low, high = float(images.min()), float(images.max())
        if images.dtype.kind != "f" or low < -1 or high > 1:
            return None
        return (
            f"{self.name}: the images of its first batch lie within {'0' if low >= 0 else '-1'} and 1, which is nearly "
            "black: networks take 0..255 and scale it themselves. Give them so, or a model that takes what these are."
        )

    def samples(self, step: int, mixed: bool = True) -> list[Sample]:
        """Return the images and masks of one step, for diagnosis; `mixed` has no effect here.

        Raises:
            DataError: the data cannot be read again.
        """
        if not self.is_restartable:
            raise DataError(f"{self.name} can be read only once.")
        images, masks = next(self._masked(step))
        return [
            Sample(*pair, f"batch {step}, image {place}") for place, pair in enumerate(zip(images, masks, strict=True))
        ]

    def _from_step(self, step: int) -> Iterator[Any]:
        """Iterate over batches as they are given, pass after pass."""
        if not self.is_restartable:
            yield from self.data
            return
        if self._length is None and step and not self._is_endless:
            # Where a pass ends shows when it is read.
            yield from itertools.islice(self._from_step(0), step, None)
            return
        number, position = divmod(step, self._length) if self._length else (0, step)
        while True:
            self._tell_ends(number)
            found = 0
            for found, batch in enumerate(self._one_pass(position), 1):  # noqa: B007
                yield batch
            if not found:
                raise DataError(f"{self.name} has no batches, or fewer in this pass than in the one before.")
            self._length = self._length or position + found
            number, position = number + 1, 0

    def _one_pass(self, first: int) -> Iterator[Any]:
        """Iterate over the batches of a pass from `first` on."""
        if _is_indexed(self.data):
            return (self.data[index] for index in range(first, len(self.data)))
        if hasattr(self.data, "as_numpy_iterator"):
            return self.data.skip(first).as_numpy_iterator()
        return itertools.islice(iter(self.data), first, None)

    def _tell_ends(self, passes: int) -> None:
        """Notify a PyDataset of its finished passes, as `fit` does: it may shuffle itself then."""
        if isinstance(self.data, keras.utils.PyDataset):
            while self._ended < passes:
                self.data.on_epoch_end()
                self._ended += 1

    def _checked(self, batch: Any, number: int) -> Batch:
        """Convert a batch to arrays that the network and the loss accept.

        Raises:
            DataError: the batch is invalid.
        """
        where = f"{self.name}, batch {number}"
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            what = f"{len(batch)} parts" if isinstance(batch, tuple | list) else type(batch).__qualname__
            raise DataError(f"{where}: a batch is (images, masks), not {what}. Sample weights belong into the loss.")
        images, masks = (_array(part) for part in batch)
        channels = self.config.model.input_channels
        if images.ndim != 4 or images.shape[3] != channels or not len(images):
            raise DataError(f"{where}: images are {images.shape}; they should be (B, H, W, {channels}).")
        if images.dtype not in (np.uint8, np.uint16, np.float32):
            if images.dtype.kind not in "iuf":
                raise DataError(f"{where}: images of {images.dtype}; they should be numbers from 0 to 255.")
            images = images.astype(np.float32)
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            raise DataError(f"{where}: images hold {int((~np.isfinite(images)).sum()):,} values that are not finite.")
        return images, self._checked_masks(masks, images.shape, where)

    def _checked_masks(self, masks: np.ndarray, shape: tuple[int, ...], where: str) -> np.ndarray:
        task = self._task
        if not task.multilabel and masks.shape == (*shape[:3], 1) and masks.dtype.kind in "iub":
            masks = masks[..., 0]
        soft = masks.dtype.kind == "f" and masks.shape == (*shape[:3], len(task.classes))
        expected = task.mask_shape(*shape[:3])
        if soft and not task.multilabel:
            if not (np.isfinite(masks).all() and masks.min() >= 0 and masks.max() <= 1):
                raise DataError(f"{where}: masks of floats are shares of the classes, from 0 to 1 each.")
            return masks.astype(np.float32)
        if masks.shape != expected or masks.dtype.kind not in "iub":
            raise DataError(
                f"{where}: masks are {masks.shape} of {masks.dtype}; for these images they should be integers "
                f"{expected}."
            )
        wrong = masks > task.largest_label
        if masks.dtype.kind == "i":
            wrong |= masks < 0
        wrong &= masks != task.ignore_index
        if wrong.any():
            values = ", ".join(map(str, np.unique(masks[wrong])[:5]))
            raise DataError(
                f"{where}: {int(wrong.sum()):,} pixels of the masks hold {values}, neither a class (0 to "
                f"{task.largest_label}) nor the ignore index {task.ignore_index}."
            )
        return masks.astype(np.int32)


class _Reader:
    """Iterator over the batches that continues across epochs and keeps batches that were read ahead.

    `fit` is called for each epoch, and every time asks for the batches from a step on. To begin anew would read what
    lies before it once more, and cannot be done with a generator.
    """

    def __init__(self, begin: Callable[[int], Iterator[Any]], name: str, is_restartable: bool):
        self._begin = begin
        self._name = name
        self._is_restartable = is_restartable
        self._iterator: Iterator[Any] | None = None
        self._kept: dict[int, Any] = {}
        self._following = 0
        self._lock = threading.Lock()

    def read(self, step: int) -> Iterator[Any]:
        """Iterate from `step` on.

        Raises:
            DataError: the data ended, or cannot be read again.
        """
        while True:
            with self._lock:  # the reader of the epoch before may still be at it
                batch = self._batch(step)
            yield batch
            step += 1

    def _batch(self, step: int) -> Any:
        if (step not in self._kept and step != self._following) or self._iterator is None:
            if self._iterator is not None and not self._is_restartable:
                raise DataError(f"{self._name} can be read only once, and batch {step} was read before.")
            self._iterator, self._following, self._kept = self._begin(step), step, {}
        if step == self._following:
            try:
                self._kept[step] = next(self._iterator)
            except StopIteration:
                raise DataError(
                    f"{self._name} ended after {step} batches and can be read only once. Give one that can be read "
                    "again, or fewer training.epochs or training.steps_per_epoch."
                ) from None
            self._following += 1
            self._kept.pop(step - _KEPT, None)
        return self._kept[step]


def _is_indexed(data: Any) -> bool:
    return isinstance(data, keras.utils.PyDataset | list | tuple)


def _length(data: Any) -> int | None:
    """Return the number of batches in a pass, ENDLESS, or None if it is unknown."""
    if hasattr(data, "cardinality"):
        found = int(data.cardinality())
        return None if found == -2 else found  # tf.data's unknown; -1 is its infinite
    if isinstance(data, keras.utils.PyDataset):
        found = data.num_batches
        return ENDLESS if found is None else int(found)
    try:
        return len(data)
    except TypeError:
        return None


def _array(part: Any) -> np.ndarray:
    return part if isinstance(part, np.ndarray) else np.asarray(keras.ops.convert_to_numpy(part))

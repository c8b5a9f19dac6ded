"""Interface of a batch transform, and soft masks, which hold a share of each class per pixel."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from segzoo.task import Task

Batch = tuple[np.ndarray, np.ndarray]


class BatchTransform:
    """A change to a training batch as a whole, after its samples were cropped and augmented.

    A subclass has its own options in `__init__` and passes all others on: `super().__init__(**kwargs)`. One object
    makes all batches, in several threads, so a call changes neither the object nor the arrays that it is given.

    Masks have one of two forms. Hard, as the source gives them: integers (B, H, W), in multilabel (B, H, W, C) of 0, 1
    and the ignore index. Soft, shares of classes in 0..1, as (B, H, W, C) float32, in binary mode with one channel, the
    share of the second class; an ignored pixel is a row of zeros in multiclass, and in the other modes has the ignore
    index in place of a share. These are the targets that `segzoo.losses` take.

    Attributes:
        makes_soft: whether masks are soft afterwards, in every batch.
        takes_soft: whether masks may be soft before.
        smallest_batch: fewest samples that it does anything to.

    Args:
        task: classes, mode, and the label of pixels that count in no loss.
    """

    makes_soft: ClassVar[bool] = False
    takes_soft: ClassVar[bool] = False
    smallest_batch: ClassVar[int] = 1

    def __init__(self, task: Task):
        self.task = task

    def __call__(self, images: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return the changed images and masks.

        Args:
            images: (B, H, W, C) uint8, uint16 or float32, pixels 0..255 where the data set's are.
            masks: hard or soft, see the class.
            rng: made from the seed, the epoch and the step; the only source of chance.

        Returns:
            Images and masks of the same shape and dtype; masks soft where `makes_soft`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__.")

    def soft(self, masks: np.ndarray) -> np.ndarray:
        """Return masks in the soft form, a new array unless they are soft already."""
        if is_soft(masks):
            return masks
        if self.task.multilabel:
            return masks.astype(np.float32)
        if self.task.mode == "binary":
            return masks[..., None].astype(np.float32)
        # Rows of a table, of which the last is the ignored pixel's: a tenth of the time of comparing with each label.
        rows = np.eye(len(self.task.classes) + 1, len(self.task.classes), dtype=np.float32)
        return np.take(rows, np.where(masks == self.task.ignore_index, len(self.task.classes), masks), axis=0)

    def ignored(self, soft: np.ndarray) -> np.ndarray:
        """Return which places of soft masks are ignored: (..., 1) bool in multiclass, else (..., C)."""
        if self.task.mode == "multiclass":
            return soft @ np.ones((soft.shape[-1], 1), np.float32) == 0  # many times as fast as a sum along short rows
        return np.equal(soft, self.task.ignore_index)

    @property
    def ignored_share(self) -> float:
        """Return the number that stands in place of a share at ignored places of soft masks."""
        return 0.0 if self.task.mode == "multiclass" else float(self.task.ignore_index)


def is_soft(masks: np.ndarray) -> bool:
    """Return whether masks are shares of classes."""
    return masks.dtype.kind == "f"


def hard(mask: np.ndarray, task: Task) -> np.ndarray:
    """Return a mask of labels for pictures: of soft ones the largest share at each pixel, or shares of half and more.

    Args:
        mask: one mask, hard, which is returned as it is, or soft (H, W, C).
        task: mode, and the label of ignored pixels.
    """
    if not is_soft(mask):
        return mask
    if task.mode == "multiclass":
        return np.where(mask.any(axis=-1), mask.argmax(axis=-1), task.ignore_index)
    labels = np.where(mask == task.ignore_index, task.ignore_index, mask >= 0.5)
    return labels[..., 0] if task.mode == "binary" else labels


def partners(count: int, rng: np.random.Generator) -> np.ndarray:
    """Return for each sample of a batch the index of another, each once; of a single sample itself."""
    order = rng.permutation(count)
    found = np.empty(count, np.int64)
    found[order] = np.roll(order, 1)
    return found


def checked_probability(name: str, value: float) -> float:
    """Return a probability; ValueError unless it is a number above 0, at most 1."""
    return _checked(name, value, 1)


def checked_concentration(name: str, value: float) -> float:
    """Return the parameter of a symmetric Beta distribution; ValueError unless it is a number above 0, at most 100."""
    return _checked(name, value, 100)


def _checked(name: str, value: float, most: int) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise ValueError(f"{name} must be above 0 and at most {most}, not {value!r}.")
    return float(value)

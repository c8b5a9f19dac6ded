"""Calibration: confidence against accuracy in bins, and the expected calibration error, of all classes and of each."""

from __future__ import annotations

from typing import Any

import numpy as np

from segzoo.task import MODES


class Calibration:
    """Accumulate confidence and accuracy of pixels in bins of equal width, from NumPy arrays.

    The confidence of a pixel is the probability of the class it is given; with sigmoids, of each class and pixel apart,
    that of the likelier of "is of the class" and "is not". Counts are exact in int64, confidences are
    summed in float64, so neither the batch size nor the order matters beyond rounding.

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599, sections 2 and 3; by class: Kull et al. 2019,
    https://arxiv.org/abs/1910.12656, section 2 (class-wise ECE), and Nixon et al. 2019,
    https://arxiv.org/abs/1904.01685, section 3 (static calibration error).

    Args:
        bins: number of bins between 0 and 1.
        ignore_index: label or value of the target that is not counted, or None.
        mode: "multiclass", or "binary" or "multilabel" for the probabilities of sigmoids.
        classes: number of classes C, the last axis of the probabilities, for the errors of each class; None: without.

    Attributes:
        counts: int64 (bins,), pixels by confidence; bin i holds confidences above i / bins up to (i + 1) / bins.
        hits: int64 (bins,), correctly classified pixels by confidence, in the same bins.
        confidences: float64 (bins,), sum of the pixels' confidences in each bin.
        class_gaps: float64 (C, bins), by class and its probability: sum of the probabilities less the number of pixels
            of the class; (0, bins) without `classes`.
        class_pixels: int64 (C,), pixels that were counted for each class.

    Raises:
        ValueError: fewer than 1 bin, or an unknown mode.
    """

    def __init__(
        self, bins: int = 15, ignore_index: int | None = None, mode: str = "multiclass", classes: int | None = None
    ):
        if mode not in MODES:
            raise ValueError(f"Calibration has no mode {mode!r}; it has {', '.join(MODES)}.")
        self.mode = mode
        if bins < 1:
            raise ValueError(f"Calibration needs at least 1 bin, not {bins}.")
        self.bins = int(bins)
        self.ignore_index = None if ignore_index is None else int(ignore_index)
        self.counts = np.zeros(self.bins, np.int64)
        self.hits = np.zeros(self.bins, np.int64)
        self.confidences = np.zeros(self.bins)
        self.class_gaps = np.zeros((classes or 0, self.bins))
        self.class_pixels = np.zeros(classes or 0, np.int64)

    def update(self, y_true: Any, probabilities: Any) -> None:
        """Count pixels.

        Args:
            y_true: integer labels (...); with sigmoids 0 and 1 of the probabilities' shape.
            probabilities: (..., C), each row of which sums to 1; with sigmoids of any shape.

        Raises:
            ValueError: incompatible shapes, or values outside 0..1, such as logits.
        """
        y_true, probabilities = np.asarray(y_true), np.asarray(probabilities)
        by_class = probabilities
        if self.mode != "multiclass":
            if y_true.shape != probabilities.shape:
                raise ValueError(f"Targets {y_true.shape} and probabilities {probabilities.shape} must have one shape.")
            if self.mode == "binary" and y_true.ndim == 4 and y_true.shape[-1] != 1:
                raise ValueError(
                    f"Binary mode has one channel, (B, H, W) or (B, H, W, 1), not {y_true.shape}: of one-hot targets "
                    "and the probabilities of two classes give the object's channel."
                )
            probabilities = np.stack([1 - probabilities, probabilities], axis=-1)
        if probabilities.shape[:-1] != y_true.shape or probabilities.ndim < 2:
            raise ValueError(f"Labels {y_true.shape} need probabilities {(*y_true.shape, 'C')}: {probabilities.shape}.")
        counted = np.ones(y_true.shape, bool) if self.ignore_index is None else y_true != self.ignore_index
        rows = probabilities[counted]
        if rows.size == 0:
            return
        confidence = rows.max(-1).astype(np.float64)
        if rows.min() < 0 or confidence.max() > 1 + 1e-3:
            raise ValueError(f"Probabilities lie in 0..1; these reach from {rows.min():.3g} to {rows.max():.3g}.")
        if self.class_pixels.size:
            self._count_classes(y_true, by_class)
        index = self._bins_of(confidence)
        right = rows.argmax(-1) == y_true[counted]
        self.counts += np.bincount(index, minlength=self.bins)
        self.hits += np.bincount(index[right], minlength=self.bins)
        self.confidences += np.bincount(index, weights=confidence, minlength=self.bins)

    def _count_classes(self, y_true: np.ndarray, probabilities: np.ndarray) -> None:
        """Count the pixels of each class against the rest: labels (...), or with sigmoids 0 and 1 (..., C)."""
        if probabilities.shape[-1] != self.class_pixels.size:
            raise ValueError(f"Probabilities {probabilities.shape} are not of {self.class_pixels.size} classes.")
        for label in range(self.class_pixels.size):
            target = y_true if self.mode == "multiclass" else y_true[..., label]
            counted = np.ones(target.shape, bool) if self.ignore_index is None else target != self.ignore_index
            found = probabilities[..., label][counted].astype(np.float64)
            gaps = found - (target[counted] == (label if self.mode == "multiclass" else 1))
            self.class_gaps[label] += np.bincount(self._bins_of(found), weights=gaps, minlength=self.bins)
            self.class_pixels[label] += found.size

    def _bins_of(self, values: np.ndarray) -> np.ndarray:
        """Return the bin of each value 0..1."""
        return np.clip(np.ceil(values * self.bins).astype(np.intp) - 1, 0, self.bins - 1)

    def merge(self, other: Calibration) -> None:
        """Add the counts of another worker, or of another part of the data set.

        Raises:
            ValueError: another number of bins, ignore index, mode or number of classes.
        """
        mine, others = ((each.bins, each.ignore_index, each.mode) for each in (self, other))
        if mine != others:
            raise ValueError(f"Cannot merge bins, ignore index and mode {others} into {mine}.")
        sizes = other.class_pixels.size, self.class_pixels.size
        if sizes[0] != sizes[1]:
            raise ValueError(f"Cannot merge errors of {sizes[0]} classes into those of {sizes[1]}.")
        self.counts += other.counts
        self.hits += other.hits
        self.confidences += other.confidences
        self.class_gaps += other.class_gaps
        self.class_pixels += other.class_pixels

    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean confidence and accuracy of each bin, (bins,) each; NaN for an empty bin."""
        with np.errstate(invalid="ignore"):
            return self.confidences / self.counts, self.hits / self.counts

    def ece(self) -> float:
        """Return the expected calibration error, 0..1: the bins' mean gap, by pixels; NaN where none was counted."""
        total = self.counts.sum()
        return float(np.abs(self.hits - self.confidences).sum() / total) if total else float("nan")

    def class_ece(self) -> np.ndarray:
        """Return the calibration error of each class (C,), 0..1: of its probability, over the pixels of all classes.

        Their mean is the class-wise ECE. A rare class has a small one, as its probability is close to 0 and rightly so
        nearly everywhere. NaN where no pixel was counted; (0,) without `classes`.
        """
        with np.errstate(invalid="ignore"):
            return np.abs(self.class_gaps).sum(1) / self.class_pixels

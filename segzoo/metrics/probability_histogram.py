"""Histograms of predicted probabilities: precision, recall and the best threshold of each class."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from segzoo.errors import SegzooError
from segzoo.metrics.confusion import ratio

_Scores = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
_F_BETA = re.compile(r"f(\d+(?:\.\d+)?)")
_RECALL = re.compile(r"recall@(0?\.\d+|1(?:\.0*)?)")


@dataclass(frozen=True)
class TunedThresholds:
    """Best thresholds by a criterion.

    Attributes:
        values: threshold of each class, between 0 and 1; 0.5 where the criterion is undefined.
        scores: value of the criterion at the threshold, 0..1; NaN where it is undefined.
    """

    values: tuple[float, ...]
    scores: tuple[float, ...]


class ProbabilityHistogram:
    """Accumulate probabilities of classes, each against the rest, in bins of equal width, from NumPy arrays.

    Counts of true and false positives are exact at the edges of the bins, which are the thresholds: a class is
    predicted where its probability is above the threshold. Memory does not grow with the number of pixels.

    Args:
        classes: number of classes C; 1 in binary mode, where only the second class has a threshold.
        ignore_index: value of target places that are not counted, for each class separately, or None.
        bins: number of bins between 0 and 1.

    Attributes:
        counts: int64 (C, 2, bins), by class, target (0 or 1) and probability; bin i holds those above i / bins up to
            (i + 1) / bins.

    Raises:
        ValueError: fewer than 1 class or 2 bins.
    """

    def __init__(self, classes: int, ignore_index: int | None = None, bins: int = 1000):
        if classes < 1 or bins < 2:
            raise ValueError(f"A histogram needs at least 1 class and 2 bins, not {classes} and {bins}.")
        self.ignore_index = None if ignore_index is None else int(ignore_index)
        self.counts = np.zeros((int(classes), 2, int(bins)), np.int64)

    @property
    def thresholds(self) -> np.ndarray:
        """Thresholds at which counts are exact, (bins - 1,), from 1 / bins up."""
        bins = self.counts.shape[2]
        return np.arange(1, bins) / bins

    def update(self, y_true: Any, probabilities: Any) -> None:
        """Count places.

        Args:
            y_true: (..., C), 0 or 1 or the ignore index.
            probabilities: (..., C), 0..1.

        Raises:
            ValueError: other shapes, targets or probabilities.
        """
        y_true, probabilities = np.asarray(y_true), np.asarray(probabilities)
        classes, _, bins = self.counts.shape
        if y_true.shape != probabilities.shape or y_true.shape[-1:] != (classes,):
            raise ValueError(
                f"Targets and probabilities must both be (..., {classes}), not {y_true.shape} and "
                f"{probabilities.shape}."
            )
        for label in range(classes):
            target, found = y_true[..., label].ravel(), probabilities[..., label].ravel()
            if self.ignore_index is not None:
                counted = target != self.ignore_index
                target, found = target[counted], found[counted]
            if found.size == 0:
                continue
            if not (found.min() >= 0 and found.max() <= 1):
                raise ValueError(f"Probabilities lie in 0..1; these reach from {found.min():.3g} to {found.max():.3g}.")
            positive = target == 1
            if not (positive | (target == 0)).all():
                raise ValueError("Targets must be 0, 1 or the ignore index.")
            place = np.clip(np.ceil(found.astype(np.float64) * bins).astype(np.intp) - 1, 0, bins - 1)
            both = np.bincount(place + bins * positive, minlength=2 * bins)
            self.counts[label] += both.reshape(2, bins)

    def merge(self, other: ProbabilityHistogram) -> None:
        """Add the counts of another worker, or of another part of the data set.

        Raises:
            ValueError: another number of classes or bins, or another ignore index.
        """
        mine, others = ((each.counts.shape, each.ignore_index) for each in (self, other))
        if mine != others:
            raise ValueError(f"Cannot merge counts and ignore index {others} into {mine}.")
        self.counts += other.counts

    def outcomes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return true positives, false positives and false negatives at each threshold, int64 (C, bins - 1) each."""
        above = self.counts[..., ::-1].cumsum(axis=-1)[..., ::-1][..., 1:]
        return above[:, 1], above[:, 0], self.counts[:, 1].sum(-1, keepdims=True) - above[:, 1]

    def precision(self) -> np.ndarray:
        """Return the precision at each threshold (C, bins - 1); NaN where nothing is predicted."""
        hits, false, _ = self.outcomes()
        return ratio(hits, hits + false)

    def recall(self) -> np.ndarray:
        """Return the recall at each threshold (C, bins - 1); NaN for a class that the targets lack."""
        hits, _, missed = self.outcomes()
        return ratio(hits, hits + missed)

    def average_precision(self) -> np.ndarray:
        """Return the average precision (C,), the sum of precisions weighted by the growth of recall; NaN for n/a.

        Source: as scikit-learn's `average_precision_score` defines it, over the bins.
        """
        hits = self.counts[:, 1, ::-1].cumsum(axis=-1)
        precision = ratio(hits, self.counts[..., ::-1].sum(axis=1).cumsum(axis=-1))
        share = ratio(self.counts[:, 1, ::-1], self.counts[:, 1].sum(-1, keepdims=True))
        return np.where(np.isnan(share[:, 0]), np.nan, (np.nan_to_num(precision) * share).sum(-1))

    def tuned(self, criterion: str) -> TunedThresholds:
        """Return the threshold of each class at which a criterion is largest; of several the one nearest to 0.5.

        Args:
            criterion: "iou"; "f1", "f2" or another F-beta; or "recall@0.9" for the largest recall at which precision is
                at least 0.9.

        Raises:
            SegzooError: another criterion.
        """
        scores = criterion_of(criterion)(*self.outcomes())
        present = self.counts[:, 1].sum(-1) > 0
        values, best = [], []
        for row, known in zip(scores, present, strict=True):
            if not known or np.isnan(row).all():
                values.append(0.5)
                best.append(float("nan"))
                continue
            top = np.nanmax(row)
            tied = self.thresholds[row >= top]
            values.append(float(tied[np.abs(tied - 0.5).argmin()]))
            best.append(float(top))
        return TunedThresholds(tuple(values), tuple(best))


def criterion_of(text: str) -> _Scores:
    """Return a criterion: a function of true positives, false positives and false negatives to scores, NaN for n/a.

    Raises:
        SegzooError: no such criterion.
    """
    if text == "iou":
        return lambda hits, false, missed: ratio(hits, hits + false + missed)
    if (match := _F_BETA.fullmatch(text)) and float(match[1]) > 0:
        square = float(match[1]) ** 2
        return lambda hits, false, missed: ratio((1 + square) * hits, (1 + square) * hits + false + square * missed)
    if match := _RECALL.fullmatch(text):
        least = float(match[1])
        return lambda hits, false, missed: np.where(
            ratio(hits, hits + false) >= least, ratio(hits, hits + missed), np.nan
        )
    raise SegzooError(
        f"A threshold is tuned by f1, f2 or another F-beta such as f0.5, by iou, or by recall@0.9, the recall at a "
        f"precision of 0.9; not by {text!r:.40}."
    )

"""Confusion matrices of a whole data set, in NumPy, and the metrics computed from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from segzoo.errors import DataError
from segzoo.task import Task


class ClassCounts:
    """Metrics per class from the numbers of pixels in the target, in the prediction, and in both.

    Per-class figures are float64 arrays (C,) in which NaN means n/a: the figure has no pixels to be about. A
    class absent from both target and prediction is n/a in all of them, and means leave it out; counting it as
    1 or 0 would reward or punish a model for what a dataset happens to lack. A class that is only predicted
    has IoU and Dice 0, precision 0 and recall n/a; a class that is only in the target has IoU, Dice and
    recall 0 and precision n/a.

    Attributes:
        classes: number of classes C.
        ignore_index: label or value of the target that is not counted, or None.
    """

    classes: int
    ignore_index: int | None

    @property
    def hits(self) -> np.ndarray:
        """Pixels that are of the class in target and prediction, int64 (C,)."""
        raise NotImplementedError(f"{type(self).__name__} must define hits.")

    @property
    def actual(self) -> np.ndarray:
        """Pixels of the class in the target, int64 (C,)."""
        raise NotImplementedError(f"{type(self).__name__} must define actual.")

    @property
    def predicted(self) -> np.ndarray:
        """Pixels of the class in the prediction, int64 (C,)."""
        raise NotImplementedError(f"{type(self).__name__} must define predicted.")

    @property
    def valid(self) -> np.ndarray:
        """Pixels that were counted for the class, int64 (C,)."""
        raise NotImplementedError(f"{type(self).__name__} must define valid.")

    def iou(self) -> np.ndarray:
        """Return intersection over union per class (C,)."""
        return ratio(self.hits, self.predicted + self.actual - self.hits)

    def dice(self) -> np.ndarray:
        """Return the Dice coefficient, also called F1, per class (C,)."""
        return self.f_beta(1.0)

    def f_beta(self, beta: float) -> np.ndarray:
        """Return F-beta per class (C,): recall counts `beta` times as much as precision.

        Source: van Rijsbergen 1979, Information Retrieval, chapter 7.

        Raises:
            ValueError: `beta` not positive.
        """
        if not 0 < beta < float("inf"):
            raise ValueError(f"beta must be positive and finite, not {beta!r}.")
        square = beta * beta
        return ratio((1 + square) * self.hits, square * self.actual + self.predicted)

    def precision(self) -> np.ndarray:
        """Return the share of each class's predicted pixels that are right (C,); n/a if it has none."""
        return ratio(self.hits, self.predicted)

    def recall(self) -> np.ndarray:
        """Return the share of each class's target pixels that are found (C,); n/a if it has none."""
        return ratio(self.hits, self.actual)

    def specificity(self) -> np.ndarray:
        """Return the share of the pixels of other classes that are not predicted as the class (C,).

        n/a where no pixel is of another class, and for a class that occurs nowhere, which no pixel was mistaken for.
        """
        others = self.valid - self.actual
        occurs = self.actual + self.predicted > 0
        return np.where(occurs, ratio(others - (self.predicted - self.hits), others), np.nan)

    def mean_iou(self) -> float:
        """Return the mean IoU over the classes that occur in target or prediction; NaN where none does."""
        return mean_of(self.iou())

    def foreground_mean_iou(self, background: int) -> float:
        """Return the mean IoU over the classes that occur, without the background's; NaN where no other occurs."""
        return mean_of(np.delete(self.iou(), background))

    def mean_accuracy(self) -> float:
        """Return the mean recall over the classes of the target (Long et al. 2015); NaN where nothing was counted."""
        return mean_of(self.recall())

    def frequency_weighted_iou(self) -> float:
        """Return the mean of IoU weighted by the classes' target pixels; NaN where nothing was counted.

        Source: Long et al. 2015, Fully Convolutional Networks, https://arxiv.org/abs/1411.4038, section 5.
        """
        return float(ratio(np.nansum(self.actual * self.iou()), self.actual.sum()))

    def table(self, names: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return one row per class as plain Python values, fit for JSON and CSV; n/a is None.

        Args:
            names: class names; "0", "1", ... by default.

        Returns:
            Rows with the keys class, iou, dice, precision, recall, pixels (target pixels of the class).

        Raises:
            ValueError: the number of names differs from the number of classes.
        """
        names = [str(index) for index in range(self.classes)] if names is None else list(names)
        if len(names) != self.classes:
            raise ValueError(f"{len(names)} names for {self.classes} classes.")
        figures = {
            "iou": self.iou(),
            "dice": self.dice(),
            "precision": self.precision(),
            "recall": self.recall(),
        }
        pixels = self.actual
        return [
            {
                "class": name,
                **{key: None if np.isnan(values[i]) else float(values[i]) for key, values in figures.items()},
                "pixels": int(pixels[i]),
            }
            for i, name in enumerate(names)
        ]


class ConfusionMatrix(ClassCounts):
    """Pixel counts by target class (rows) and predicted class (columns), exact in int64.

    For classes that exclude each other, two of them in binary mode (with the class map `logits[..., 0] > 0`); what the
    figures mean: see `ClassCounts`.

    Args:
        classes: number of classes C, at least 2.
        ignore_index: label of the target pixels that are not counted, or None.
        counts: integer (C, C) to start from, copied; zeros by default.

    Attributes:
        counts: int64 (C, C).

    Raises:
        ValueError: fewer than 2 classes, or counts of another shape.
    """

    def __init__(self, classes: int, ignore_index: int | None = None, counts: Any = None):
        if classes < 2:
            raise ValueError(f"A confusion matrix needs at least 2 classes, not {classes}.")
        self.classes = int(classes)
        self.ignore_index = None if ignore_index is None else int(ignore_index)
        shape = (self.classes, self.classes)
        self.counts = np.zeros(shape, np.int64) if counts is None else np.array(counts, np.int64)
        if self.counts.shape != shape:
            raise ValueError(f"Counts must be {shape}, not {self.counts.shape}.")

    def update(self, y_true: Any, y_pred: Any) -> None:
        """Count pixels.

        Args:
            y_true: integer labels, any shape.
            y_pred: integer class map of the same shape.

        Raises:
            DataError: a target label that is neither a class nor the ignore index, or a prediction at a counted pixel
                that is not a class; nothing is counted in that case.
            ValueError: shapes that differ, values that are not integers, such as logits, or one-hot maps (..., C),
                whose channels would be counted as pixels.
        """
        y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
        if y_true.shape != y_pred.shape:
            raise ValueError(f"Target {y_true.shape} and prediction {y_pred.shape} must have the same shape.")
        for what, array in (("Target", y_true), ("Prediction", y_pred)):
            if array.dtype.kind not in "iu":
                raise ValueError(f"{what} must hold integer class indices, not {array.dtype}.")
            refuse_one_hot(what, array, self.classes)
        if self.ignore_index is None:
            y_true, y_pred = y_true.ravel(), y_pred.ravel()
        else:
            counted = y_true != self.ignore_index
            y_true, y_pred = y_true[counted], y_pred[counted]
        self._check_range("target", y_true)
        self._check_range("prediction", y_pred)
        # bincount wants intp; an index in the labels' own dtype would wrap (uint8: 20 * 21 > 255).
        index = y_true.astype(np.intp)
        index *= self.classes
        index += y_pred.astype(np.intp, copy=False)
        counts = np.bincount(index, minlength=self.classes**2)
        self.counts += counts.reshape(self.counts.shape)

    def merge(self, other: ConfusionMatrix) -> None:
        """Add another matrix's counts: those of another worker, or of another part of the dataset.

        Raises:
            ValueError: another number of classes or another ignore index.
        """
        _check_same(self, other)
        self.counts += other.counts

    @property
    def hits(self) -> np.ndarray:
        """Pixels that are of the class in target and prediction, int64 (C,)."""
        return self.counts.diagonal()

    @property
    def actual(self) -> np.ndarray:
        """Pixels of the class in the target, int64 (C,)."""
        return self.counts.sum(1)

    @property
    def predicted(self) -> np.ndarray:
        """Pixels of the class in the prediction, int64 (C,)."""
        return self.counts.sum(0)

    @property
    def valid(self) -> np.ndarray:
        """All counted pixels, for every class, int64 (C,)."""
        return np.full(self.classes, self.counts.sum())

    def mcc(self) -> float:
        """Return the multiclass Matthews correlation coefficient, -1 to 1; NaN where it is not defined.

        It is not defined where all targets, or all predictions, are of one class.
        Source: Gorodkin 2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006.
        """
        actual, predicted, hits, total = self._exact()
        covariance = hits * total - sum(a * p for a, p in zip(actual, predicted, strict=True))
        variances = (total**2 - sum(a * a for a in actual)) * (total**2 - sum(p * p for p in predicted))
        return covariance / math.sqrt(variances) if variances else float("nan")

    def cohen_kappa(self) -> float:
        """Return Cohen's kappa, the agreement beyond chance, at most 1; NaN where chance alone agrees fully.

        Source: Cohen 1960, https://doi.org/10.1177/001316446002000104.
        """
        actual, predicted, hits, total = self._exact()
        by_chance = sum(a * p for a, p in zip(actual, predicted, strict=True))
        below = total * total - by_chance
        return (hits * total - by_chance) / below if below else float("nan")

    def _exact(self) -> tuple[list[int], list[int], int, int]:
        """Return pixels per target class and per predicted class, hits and total, as Python integers.

        Products of two counts pass int64 at 3 * 10^9 pixels, and in float64 the difference of two of them loses digits.
        """
        return (
            self.counts.sum(1).tolist(),
            self.counts.sum(0).tolist(),
            int(np.trace(self.counts)),
            int(self.counts.sum()),
        )

    def pixel_accuracy(self) -> float:
        """Return the share of counted pixels that are right; NaN where none was counted."""
        return float(ratio(np.trace(self.counts), self.counts.sum()))

    def _check_range(self, what: str, labels: np.ndarray) -> None:
        """Raise DataError where 1-D `labels` holds a value outside 0 .. C-1."""
        if labels.size == 0 or (labels.min() >= 0 and labels.max() < self.classes):
            return
        values, pixels = np.unique(labels[(labels < 0) | (labels >= self.classes)], return_counts=True)
        found = ", ".join(f"{value} ({count} px)" for value, count in zip(values[:8], pixels[:8], strict=True))
        more = f" and {len(values) - 8} more values" if len(values) > 8 else ""
        allowed = f"0 to {self.classes - 1}"
        if what == "target" and self.ignore_index is not None:
            allowed += f" or the ignore index {self.ignore_index}"
        raise DataError(f"The {what} holds labels that are no class: {found}{more}. Allowed: {allowed}.")


class MultilabelCounts(ClassCounts):
    """Pixel counts of classes that may overlap, each against the rest, exact in int64.

    What the figures mean: see `ClassCounts`.

    Args:
        classes: number of classes C, 1 or more.
        ignore_index: value of the target places that are not counted, for each class separately, or None.
        counts: integer (C, 2, 2) to start from, copied; zeros by default.

    Attributes:
        counts: int64 (C, 2, 2), by class, target (0 or 1) and prediction (0 or 1).

    Raises:
        ValueError: fewer than 1 class, or counts of another shape.
    """

    def __init__(self, classes: int, ignore_index: int | None = None, counts: Any = None):
        if classes < 1:
            raise ValueError(f"Multilabel counts need at least 1 class, not {classes}.")
        self.classes = int(classes)
        self.ignore_index = None if ignore_index is None else int(ignore_index)
        shape = (self.classes, 2, 2)
        self.counts = np.zeros(shape, np.int64) if counts is None else np.array(counts, np.int64)
        if self.counts.shape != shape:
            raise ValueError(f"Counts must be {shape}, not {self.counts.shape}.")

    def update(self, y_true: Any, y_pred: Any) -> None:
        """Count places.

        Args:
            y_true: (..., C), 0 or 1 or the ignore index, of any dtype.
            y_pred: (..., C), 0 or 1 (the places with a logit above 0, say), bool or integer.

        Raises:
            DataError: a target or a prediction at a counted place that is neither 0 nor 1; nothing is counted in that
                case.
            ValueError: other shapes, or predictions that are not integers.
        """
        y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
        if y_true.shape != y_pred.shape or y_true.shape[-1:] != (self.classes,):
            raise ValueError(
                f"Target and prediction must both be (..., {self.classes}), not {y_true.shape} and {y_pred.shape}."
            )
        if y_pred.dtype.kind not in "biu":
            raise ValueError(f"Prediction must hold 0 and 1, not {y_pred.dtype}: compare logits with 0 first.")
        counted = np.ones(y_true.shape, bool) if self.ignore_index is None else y_true != self.ignore_index
        for what, array in (("target", y_true), ("prediction", y_pred)):
            strange = counted & (array != 0) & (array != 1)
            if strange.any():
                raise DataError(f"The {what} holds {array[strange][0]} ({strange.sum()} places are neither 0 nor 1).")
        index = 4 * np.arange(self.classes) + 2 * (y_true == 1) + (y_pred == 1)
        self.counts += np.bincount(index[counted], minlength=4 * self.classes).reshape(self.counts.shape)

    def merge(self, other: MultilabelCounts) -> None:
        """Add the counts of another worker, or of another part of the dataset.

        Raises:
            ValueError: another number of classes or another ignore index.
        """
        _check_same(self, other)
        self.counts += other.counts

    @property
    def hits(self) -> np.ndarray:
        """Places that are of the class in target and prediction, int64 (C,)."""
        return self.counts[:, 1, 1]

    @property
    def actual(self) -> np.ndarray:
        """Places of the class in the target, int64 (C,)."""
        return self.counts[:, 1].sum(1)

    @property
    def predicted(self) -> np.ndarray:
        """Places of the class in the prediction, int64 (C,)."""
        return self.counts[:, :, 1].sum(1)

    @property
    def valid(self) -> np.ndarray:
        """Places that were counted for the class, int64 (C,)."""
        return self.counts.sum((1, 2))

    def accuracy(self) -> np.ndarray:
        """Return the share of each class's places that are right (C,); n/a where none was counted."""
        return ratio(self.counts[:, 0, 0] + self.hits, self.valid)

    def pixel_accuracy(self) -> float:
        """Return the share of counted places, over all classes, that are right; NaN where none was counted."""
        return float(ratio((self.counts[:, 0, 0] + self.hits).sum(), self.valid.sum()))

    def mcc(self) -> np.ndarray:
        """Return the Matthews correlation coefficient of each class (C,); see `ConfusionMatrix.mcc`."""
        return np.array([ConfusionMatrix(2, counts=counts).mcc() for counts in self.counts])

    def cohen_kappa(self) -> np.ndarray:
        """Return Cohen's kappa of each class (C,); see `ConfusionMatrix.cohen_kappa`."""
        return np.array([ConfusionMatrix(2, counts=counts).cohen_kappa() for counts in self.counts])


def refuse_one_hot(what: str, maps: np.ndarray, classes: int) -> None:
    """Raise ValueError for a one-hot array (..., H, W, C) where a map of class indices belongs.

    Its shape alone could be that of class maps; that each of its rows is one-hot settles it.
    """
    if maps.ndim < 3 or maps.shape[-1] != classes or maps.size == 0:
        return
    if maps.min() == 0 and maps.max() == 1 and (maps.sum(-1, dtype=np.int64) == 1).all():
        raise ValueError(f"{what} {maps.shape} is one-hot: give class indices, its argmax over the last axis.")


def _check_same(one: ClassCounts, other: ClassCounts) -> None:
    """Raise ValueError where two counts are not of the same classes and ignore index."""
    if (other.classes, other.ignore_index) != (one.classes, one.ignore_index):
        raise ValueError(
            f"Cannot merge {other.classes} classes with ignore index {other.ignore_index} into {one.classes} classes "
            f"with ignore index {one.ignore_index}."
        )


def mean_of(figures: float | np.ndarray) -> float:
    """Return the mean of the values that are not NaN, which stands for n/a; NaN if all are."""
    figures = np.atleast_1d(figures)
    known = figures[~np.isnan(figures)]
    return float(known.mean()) if known.size else float("nan")


def ratio(numerator: Any, denominator: Any) -> np.ndarray:
    """Divide in float64; 0 / 0 is NaN, which stands for n/a."""
    with np.errstate(invalid="ignore"):
        return np.divide(numerator, denominator, dtype=np.float64)


def pixel_counts(task: Task, counts: Any = None) -> ConfusionMatrix | MultilabelCounts:
    """Return the pixel counts that go with a task, to begin from `counts` where they are given."""
    kind = MultilabelCounts if task.multilabel else ConfusionMatrix
    return kind(len(task.classes), task.ignore_index, counts)

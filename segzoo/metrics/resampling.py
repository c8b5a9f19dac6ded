"""Bootstrap confidence intervals of metrics, resampled over images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segzoo.metrics.confusion import ratio


@dataclass(frozen=True)
class ImageCounts:
    """Pixel counts of one image by class.

    Attributes:
        name: the image's id.
        hits: correctly predicted pixels of each class, int64 (C,).
        actual: target pixels of each class, int64 (C,).
        predicted: predicted pixels of each class, int64 (C,).
        pixels: pixels that were counted, of classes that overlap those of the class with the most; None: not known.
    """

    name: str
    hits: np.ndarray
    actual: np.ndarray
    predicted: np.ndarray
    pixels: int | None = None

    def iou(self) -> np.ndarray:
        """Return IoU of each class (C,); NaN for one in neither target nor prediction."""
        return ratio(self.hits, self.actual + self.predicted - self.hits)

    def mean_iou(self) -> float:
        """Return the mean IoU over the classes that occur in the image's target or prediction; NaN where none does."""
        union = self.actual + self.predicted - self.hits
        return float((self.hits[union > 0] / union[union > 0]).mean()) if union.any() else math.nan


@dataclass(frozen=True)
class Intervals:
    """Percentile intervals; NaN for a metric without a value in any resample.

    Attributes:
        iou: lower and upper bound for each class, float64 (C, 2).
        mean_iou: lower and upper bound.
        pixel_accuracy: lower and upper bound.
    """

    iou: np.ndarray
    mean_iou: tuple[float, float]
    pixel_accuracy: tuple[float, float]


def bootstrap(
    images: Sequence[ImageCounts], resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> Intervals:
    """Return bootstrap intervals of the metrics of the pooled counts, from images drawn with replacement.

    A resample in which a class does not occur has no IoU for it, and its mean IoU is that of the others, as in a data
    set without the class.

    Source: Efron 1979, https://doi.org/10.1214/aos/1176344552; percentile intervals.

    Args:
        images: pixel counts of each image.
        resamples: number of bootstrap resamples, 1 or more.
        confidence: share of the resamples within the interval, 0..1.
        seed: seed of the resampling; the same seed gives the same intervals.

    Raises:
        ValueError: no images, or values out of range.
    """
    iou, mean, accuracy = resampled(images, resamples, seed, confidence)
    return Intervals(
        np.array([interval(column, confidence) for column in iou.T]),
        interval(mean, confidence),
        interval(accuracy, confidence),
    )


def resampled(
    images: Sequence[ImageCounts], resamples: int, seed: int, confidence: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return IoU (resamples, C), mean IoU and pixel accuracy (resamples,) of resamples of the images; NaN for n/a.

    As many images with the same seed are drawn alike, whatever their counts.

    Raises:
        ValueError: no images, or values out of range.
    """
    if not images or resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"The bootstrap needs images, 1 or more resamples and a confidence between 0 and 1, not {len(images)}, "
            f"{resamples} and {confidence}."
        )
    draws = np.random.default_rng(seed).multinomial(len(images), np.full(len(images), 1 / len(images)), resamples)
    counts = np.stack([[image.hits, image.actual, image.predicted] for image in images]).astype(np.float64)
    hits, actual, predicted = np.moveaxis(np.tensordot(draws, counts, axes=1), 1, 0)  # (resamples, C) each
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = hits / (actual + predicted - hits)
        accuracy = hits.sum(1) / actual.sum(1)
    known = ~np.isnan(iou)
    mean = np.where(known, iou, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)
    return iou, mean, accuracy


def interval(figures: np.ndarray, confidence: float) -> tuple[float, float]:
    """Return the percentile interval of a metric's resamples; NaN where none has a value."""
    figures = figures[~np.isnan(figures)]
    ends = (50 * (1 - confidence), 50 * (1 + confidence))
    low, high = np.percentile(figures, ends) if figures.size else (np.nan, np.nan)
    return float(low), float(high)

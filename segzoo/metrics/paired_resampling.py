"""Paired bootstrap of the differences between two models on the same images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segzoo.metrics.resampling import ImageCounts, interval, resampled


@dataclass(frozen=True)
class Difference:
    """Difference of a metric between two models.

    Attributes:
        value: difference on all images, -1..1; NaN where either model has no value.
        interval: lower and upper bound of the percentile interval; NaN where no resample has a value.
        p: twice the share of the resamples on the far side of 0 from `value`, (0, 1]: small where the sign of the
            difference does not depend on which images were drawn; NaN where no resample has a value.
    """

    value: float
    interval: tuple[float, float]
    p: float


@dataclass(frozen=True)
class Differences:
    """Differences of the metrics of one model to those of another.

    Attributes:
        iou: difference of IoU of each class.
        mean_iou: difference of mean IoU, each over the classes that occur in target or prediction.
    """

    iou: list[Difference]
    mean_iou: Difference


def paired_bootstrap(
    images: Sequence[ImageCounts],
    reference: Sequence[ImageCounts],
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Differences:
    """Return the differences of a model to a reference, with intervals from images drawn with replacement.

    Each resample draws the same images for both models, so that what is hard about an image for both cancels: the
    interval is narrower than one made of two independent intervals. With the same seed the images drawn are those of
    `bootstrap`.

    Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapters 13 (percentile intervals) and 15
    (tests by intervals); p counts the observed difference as one more resample, Davison and Hinkley 1997, Bootstrap
    Methods and their Application, section 4.2.

    Args:
        images: pixel counts of each image by the model.
        reference: pixel counts of the same images, in the same order, by the other model.
        resamples: number of bootstrap resamples, 1 or more.
        confidence: share of the resamples within the interval, 0..1.
        seed: seed of the resampling; the same seed gives the same intervals.

    Raises:
        ValueError: other images, other targets or classes, no images, or values out of range.
    """
    _check_pairs(images, reference)
    one, other = (resampled(counts, resamples, seed, confidence)[:2] for counts in (images, reference))
    whole, base = (_pooled(counts) for counts in (images, reference))
    iou = one[0] - other[0]
    return Differences(
        [_difference(whole[0][k] - base[0][k], iou[:, k], confidence) for k in range(iou.shape[1])],
        _difference(whole[1] - base[1], one[1] - other[1], confidence),
    )


def _difference(value: float, resamples: np.ndarray, confidence: float) -> Difference:
    known = resamples[~np.isnan(resamples)]
    if not known.size:
        return Difference(float(value), (np.nan, np.nan), np.nan)
    beyond = min((known <= 0).sum(), (known >= 0).sum())
    return Difference(float(value), interval(known, confidence), float(min(1.0, 2 * (beyond + 1) / (known.size + 1))))


def _pooled(images: Sequence[ImageCounts]) -> tuple[np.ndarray, float]:
    """Return IoU (C,) and mean IoU of the counts of all images together."""
    hits, actual, predicted = (
        np.sum([getattr(image, key) for image in images], axis=0) for key in ("hits", "actual", "predicted")
    )
    whole = ImageCounts("all", hits, actual, predicted)
    return whole.iou(), whole.mean_iou()


def _check_pairs(images: Sequence[ImageCounts], reference: Sequence[ImageCounts]) -> None:
    """Raise ValueError, naming the first difference, unless both are of the same images with the same targets."""
    for place, (one, other) in enumerate(itertools.zip_longest(images, reference)):
        if one is None or other is None or one.name != other.name:
            found, expected = ("missing" if image is None else repr(image.name) for image in (one, other))
            raise ValueError(f"image {place} is {found}, and {expected} in the reference.")
        if not np.array_equal(one.actual, other.actual):
            raise ValueError(
                f"the target of image {one.name!r} has other pixels of the classes than in the reference: "
                f"{one.actual.tolist()} and {other.actual.tolist()}."
            )

"""Class weights from the pixels of a data set, so that rare classes count."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from segzoo.errors import unknown_name


def class_weights(scheme: str, pixels: Sequence[int], shown_in: Sequence[int] | None = None) -> list[float]:
    """Return one weight per class, for the `class_weights` of a loss.

    Schemes, for a class of n pixels out of N in C classes that occur:
        balanced: N / (C n), the inverse frequency (King and Zeng 2001, https://doi.org/10.1093/oxfordjournals.pan.a004868,
            as in scikit-learn's `compute_class_weight`).
        median_frequency: the median of all frequencies over the class's own, a frequency being n over the labelled
            pixels of the images that show the class (Eigen and Fergus 2015, https://arxiv.org/abs/1411.4734, section
            6.3.2; SegNet's weights for CamVid).
        effective_number: (1 - beta) / (1 - beta^n), scaled to a mean of 1 (Cui et al. 2019,
            https://arxiv.org/abs/1901.05555). Their beta is (V - 1) / V for the number V of samples that are still new;
            here V is N / C: frequent classes weigh nearly alike, rare ones by their inverse frequency.

    Args:
        scheme: "balanced", "median_frequency" or "effective_number".
        pixels: number of pixels of each class, 0 or more, without ignored pixels.
        shown_in: labelled pixels, of all classes, of the images that show each class; for median_frequency.

    Returns:
        The weights, with 0 for a class without pixels.

    Raises:
        UnknownNameError: no such scheme.
        ValueError: no pixels, or `shown_in` is missing, has another length or is below `pixels`.
    """
    if scheme not in SCHEMES:
        raise unknown_name("scheme of class weights", scheme, SCHEMES)
    counts = np.asarray(pixels, np.float64)
    images = counts if shown_in is None else np.asarray(shown_in, np.float64)
    if counts.ndim != 1 or not counts.any() or (counts < 0).any():
        raise ValueError(f"Class weights need the pixels of each class, of which some must be there: {list(pixels)}.")
    if scheme == "median_frequency" and (shown_in is None or images.shape != counts.shape or (images < counts).any()):
        raise ValueError(f"median_frequency needs shown_in, for each class at least its pixels: {shown_in}.")
    there = counts > 0
    weights = np.zeros_like(counts)
    weights[there] = SCHEMES[scheme](counts[there], images[there])
    return [float(weight) for weight in weights]


def _balanced(pixels: np.ndarray, shown_in: np.ndarray) -> np.ndarray:
    return pixels.sum() / (len(pixels) * pixels)


def _median_frequency(pixels: np.ndarray, shown_in: np.ndarray) -> np.ndarray:
    frequencies = pixels / shown_in
    return np.median(frequencies) / frequencies


def _effective_number(pixels: np.ndarray, shown_in: np.ndarray) -> np.ndarray:
    log_beta = math.log1p(-1 / max(2.0, pixels.mean()))
    weights = -1 / np.expm1(pixels * log_beta)  # 1 - beta is a common factor
    return weights / weights.mean()


SCHEMES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "balanced": _balanced,
    "median_frequency": _median_frequency,
    "effective_number": _effective_number,
}

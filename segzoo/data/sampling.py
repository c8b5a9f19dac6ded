"""Which samples an epoch shows how often: all alike, or those of rare classes more."""

from __future__ import annotations

import numpy as np


def repeat_factors(presence: np.ndarray, threshold: float) -> np.ndarray:
    """Return how many times as often as others each sample should be shown, float64 (N,), 1 or more.

    max(1, sqrt(threshold / f)) of the rarest class in the sample, where f is the share of the samples that show the
    class. Gupta et al. 2019, LVIS, https://arxiv.org/abs/1908.03195, section 5.

    Args:
        presence: bool (N, C), which classes each sample shows.
        threshold: share of the samples below which a class counts as rare, 0..1.
    """
    share = presence.mean(0)
    factors = np.sqrt(np.divide(threshold, share, out=np.ones_like(share), where=share > 0)).clip(1)
    return np.where(presence, factors, 1.0).max(1)


def drawn(weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` indices in random order, each as often as its weight says, to less than one.

    Systematic sampling: index i comes floor or ceil of count * weights[i] / sum(weights) times.
    """
    edges = np.cumsum(weights) / np.sum(weights) * count
    edges[-1] = count
    points = np.arange(count) + rng.random()
    return rng.permutation(np.searchsorted(edges, points, side="right"))


def copies(order: np.ndarray) -> np.ndarray:
    """Return for each place of an order how often its sample came before: 0, 1, ..."""
    result = np.empty(len(order), np.int64)
    at = np.argsort(order, kind="stable")
    ordered = order[at]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    result[at] = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    return result

"""Class-balanced sampling: presence of classes per sample, and repeat factors for samples of rare classes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from segzoo.data.sources import Source
from segzoo.errors import DataError

# By fingerprint of the source: the splits of one data set, made one after the other, need the same.
_known: dict[str, np.ndarray] = {}
_MOST_KNOWN = 8


def presence(source: Source, workers: int = 2, strict: bool = True) -> np.ndarray:
    """Return the classes that each mask shows; masks are read once per process.

    Args:
        source: the samples.
        workers: threads that read.
        strict: raise where a sample cannot be read; otherwise it counts as one that shows nothing.

    Returns:
        `(samples, classes)`, bool.

    Raises:
        DataError: as the source raises.
    """
    fingerprint = source.fingerprint()
    if fingerprint in _known:
        return _known[fingerprint]
    classes = len(source.classes)
    unread: list[int] = []

    def shown(index: int) -> np.ndarray:
        try:
            mask = source[index].mask
        except DataError:
            if strict:
                raise
            unread.append(index)
            return np.zeros(classes, bool)
        if mask.ndim == 3:  # a channel for each class, 0 or 1 or the ignore index
            return (mask == 1).reshape(-1, classes).any(0)
        return np.bincount(mask[mask != source.ignore_index], minlength=classes)[:classes] > 0

    with ThreadPoolExecutor(max(1, workers)) as pool:
        found = np.array(list(pool.map(shown, range(len(source))))).reshape(len(source), classes)
    if unread:
        return found
    while len(_known) >= _MOST_KNOWN:
        del _known[next(iter(_known))]
    found.flags.writeable = False
    _known[fingerprint] = found
    return found


def repeat_factors(shown: np.ndarray, threshold: float) -> np.ndarray:
    """Compute repeat factors: the times, 1 or more, that each sample occurs in an epoch.

    A class that the share f of the samples shows asks for `sqrt(threshold / f)` and a sample gets the most that one of
    its classes asks for (Gupta, Dollar and Girshick, "LVIS", 2019, section 4).

    Args:
        shown: bool `(samples, classes)`.
        threshold: classes shown by a smaller share of the samples than this are seen more often, 0 to 1.

    Returns:
        `(samples,)`, float64.
    """
    share = shown.mean(0)
    asked = np.sqrt(threshold / np.where(share > 0, share, 1.0))
    return np.maximum(1.0, np.where(shown, asked, 0.0).max(1, initial=0.0))

"""Which classes each sample shows: what stratified splits and oversampling go by."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from segzoo.data.sources import Source

_KNOWN: dict[str, np.ndarray] = {}  # both splits are made from the same samples, which are read once


def class_presence(source: Source, workers: int = 2) -> np.ndarray:
    """Return whether each sample shows each class, bool (samples, classes); reads every sample once a process.

    Args:
        source: the samples.
        workers: threads that read.

    Raises:
        DataError: a sample that cannot be read.
    """
    key = source.fingerprint()
    if key and key in _KNOWN:
        return _KNOWN[key]

    def shown(index: int) -> np.ndarray:
        mask = source[index].mask
        if mask.ndim == 3:
            return (mask == 1).any(axis=(0, 1))
        found = np.zeros(len(source.classes), bool)
        labels = np.flatnonzero(np.bincount(mask.ravel())) if mask.dtype == np.uint8 else np.unique(mask)
        found[[label for label in labels if label != source.ignore_index]] = True
        return found

    with ThreadPoolExecutor(max(1, workers)) as pool:
        result = np.stack(list(pool.map(shown, range(len(source)))))
    _KNOWN[key] = result
    return result

"""In-memory cache of decoded samples, so that a small data set is read from disk once and not in every epoch."""

from __future__ import annotations

import threading

from segzoo.data.sources import Sample, Source


class CachedSource:
    """Cache the samples of a source in memory, up to a limit; samples beyond it are read every time.

    Nothing is thrown out to make room: under shuffling every sample is as likely to come next as any other, so the
    first ones to come are as good to keep as the last. Remembered arrays are read-only, since they are handed out
    again. Files that change after they were read go unnoticed.

    Args:
        source: source of the samples.
        max_bytes: most memory for images and masks together.
    """

    def __init__(self, source: Source, max_bytes: int):
        self.ids = source.ids
        self.classes = source.classes
        self.ignore_index = source.ignore_index
        self._source = source
        self._left = max_bytes
        self._kept: dict[int, Sample] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index` as the source does, from memory where it is there."""
        known = self._kept.get(index)
        if known is not None:
            return known
        sample = self._source[index]
        size = sample.image.nbytes + sample.mask.nbytes
        with self._lock:  # two threads may have read the same sample; it is kept and counted once
            if index not in self._kept and size <= self._left:
                sample.image.flags.writeable = False
                sample.mask.flags.writeable = False
                self._left -= size
                self._kept[index] = sample
        return sample

    @property
    def kept(self) -> int:
        """Number of samples in memory."""
        return len(self._kept)

    def fingerprint(self) -> str:
        """Return the source's fingerprint."""
        return self._source.fingerprint()

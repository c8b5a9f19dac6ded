"""On-disk cache of decoded samples, for data sets that are slow to decode and larger than the memory."""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np

from segzoo.data.arrays import read_npy
from segzoo.data.sources import Sample, Source
from segzoo.errors import DataError
from segzoo.files import replacing

_HEADER = 128  # bytes that NumPy writes before an array of few dimensions


class DiskCachedSource:
    """A source whose samples are written to disk as decoded when first read, and read from there afterwards.

    Files lie in a folder named after the source's fingerprint, so other data, or the same data changed, never meet
    them. They are written whole or not at all, and one that cannot be read is made again, so several runs may share
    the folder. Beyond the limit samples are read every time; nothing is thrown out.

    Args:
        source: source of the samples.
        folder: folder for the files; created if missing.
        max_bytes: most bytes on disk for this source. Each process looks how much is there when it starts and after
            every sixteenth of the limit that it wrote, so several at once may go over it by as much each.

    Raises:
        DataError: the folder cannot be created.
    """

    def __init__(self, source: Source, folder: str | Path, max_bytes: int):
        self.ids = source.ids
        self.classes = source.classes
        self.ignore_index = source.ignore_index
        self.folder = Path(folder) / source.fingerprint()[:32]
        self._source = source
        self._max_bytes = max_bytes
        self._writing: set[int] = set()
        self._lock = threading.Lock()
        self._full = False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(
                f"The cache folder {self.folder} cannot be made ({error}). Check data.disk_cache.folder."
            ) from error
        self._used, self._unseen = self._size(), 0

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index` as the source does, from the disk where it is there."""
        path = self._path(index)
        with suppress(OSError, ValueError, EOFError), path.open("rb") as stream:  # damaged or gone: made again below
            return Sample(read_npy(stream), read_npy(stream), self.ids[index])
        sample = self._source[index]
        if self._begin(index, sample.image.nbytes + sample.mask.nbytes + 2 * _HEADER):
            try:
                with replacing(path) as temporary, temporary.open("wb") as stream:
                    np.save(stream, sample.image)
                    np.save(stream, sample.mask)
            except OSError:  # a full disk makes the run slower, not impossible
                self._full = True
            finally:
                with self._lock:
                    self._writing.discard(index)
        return sample

    def fingerprint(self) -> str:
        """Return the source's fingerprint."""
        return self._source.fingerprint()

    def _path(self, index: int) -> Path:
        return self.folder / f"{hashlib.sha256(self.ids[index].encode()).hexdigest()[:32]}.npy"

    def _begin(self, index: int, size: int) -> bool:
        """Reserve sample `index` of about `size` bytes; return True if this thread is to write it."""
        with self._lock:
            if self._unseen > self._max_bytes // 16:
                self._used, self._unseen = self._size(), 0
            if self._full or index in self._writing or self._used + size > self._max_bytes:
                return False
            self._writing.add(index)
            self._used += size
            self._unseen += size
            return True

    def _size(self) -> int:
        total = 0
        for path in self.folder.glob("*.npy"):
            with suppress(OSError):  # replaced by another process meanwhile
                total += path.stat().st_size
        return total

"""Keeping decoded samples on disk, for data sets that are slow to decode and too large for memory."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from segzoo.data.sources import Sample, Source
from segzoo.errors import DataError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LEDGER = ".bytes"  # holds how many bytes have been promised to files, as text


class DiskCache:
    """A source that writes what it has read into a folder, up to a limit; samples beyond it are read every time.

    Several processes may share the folder: a file appears whole or not at all, and the bytes that are promised are
    counted in a ledger under a lock, before the file is written, so that together they stay below the limit. Files are
    named by the source's fingerprint, so another data set, or a changed one, does not get them; delete the folder to
    be rid of old ones. A damaged file is read from the source again.

    Args:
        source: where samples come from.
        folder: made if it does not exist.
        max_bytes: most disk space for all files in the folder.

    Raises:
        DataError: the folder cannot be made or written to; a system without POSIX file locks (Windows).
    """

    def __init__(self, source: Source, folder: str | Path, max_bytes: int):
        self.ids = source.ids
        self.classes = source.classes
        self.ignore_index = source.ignore_index
        self._source = source
        self._folder = Path(folder)
        self._max_bytes = max_bytes
        self._key = hashlib.sha256(source.fingerprint().encode()).hexdigest()[:24]
        self._full = False
        if fcntl is None:
            raise DataError("data.cache_dir needs POSIX file locks, which this system has not. Use data.cache_mb.")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with self._ledger() as ledger:
                if not ledger.read_text():
                    ledger.write_text(str(sum(entry.stat().st_size for entry in self._folder.glob("*.npz"))))
        except OSError as error:
            raise DataError(f"{folder}: cannot be used as data.cache_dir ({error}).") from error

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Sample:
        """Return sample `index` as the source does, from disk where it is there."""
        if not 0 <= index < len(self.ids):
            raise IndexError(f"sample {index} of {len(self.ids)}")
        path = self._folder / f"{self._key}-{index}.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return Sample(arrays["image"], arrays["mask"], self.ids[index])
        except FileNotFoundError:
            pass
        except Exception:  # a file cut off by a full disk raises what zipfile, zlib or NumPy like
            path.unlink(missing_ok=True)
        sample = self._source[index]
        if not self._full:
            self._keep(sample, path)
        return sample

    def fingerprint(self) -> str:
        """Return the source's fingerprint."""
        return self._source.fingerprint()

    def _keep(self, sample: Sample, path: Path) -> None:
        size = sample.image.nbytes + sample.mask.nbytes + 1024  # headers of the archive and its two arrays: 700
        with self._ledger() as ledger:
            promised = int(ledger.read_text() or 0)
            if promised + size > self._max_bytes:
                self._full = True
                return
            ledger.write_text(str(promised + size))
        try:
            with tempfile.NamedTemporaryFile(dir=self._folder, suffix=".part", delete=False) as stream:
                try:
                    np.savez(stream, image=sample.image, mask=sample.mask)
                except BaseException:
                    Path(stream.name).unlink(missing_ok=True)
                    raise
            Path(stream.name).replace(path)
        except OSError:  # a full disk: training goes on without
            self._full = True

    @contextmanager
    def _ledger(self) -> Iterator[Path]:
        """Hold the lock of all processes and threads; gives the ledger's path."""
        path = self._folder / _LEDGER
        # every caller opens the file itself: flock parts open files, so it parts threads too
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield path
        finally:
            os.close(descriptor)

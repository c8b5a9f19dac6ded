"""Writing files whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, it replaces `path` in one step.

    The content is flushed to the disk before the replacement and the folder after it, so that neither a crash nor a
    power cut leaves half a file. When the block raises, the temporary file is removed and `path` stays as it was.
    The temporary name keeps the ending of `path`, from which many libraries choose the format.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders, and needs no flush of them
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

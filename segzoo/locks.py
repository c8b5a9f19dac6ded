"""Lock files against other processes; the lock of a process that died is free at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from segzoo.errors import SegzooError
from segzoo.files import operation


@contextmanager
def locked(path: Path, refusal: Callable[[], SegzooError]) -> Iterator[None]:
    """Hold a lock file within the block; it stays there afterwards.

    Args:
        path: the lock file, made if it does not exist, in a folder that does.
        refusal: returns what is raised if another process holds it.

    Raises:
        SegzooError: what `refusal` returns.
        StorageError: the file cannot be made or locked.
    """
    held = filelock.FileLock(path)
    with operation("lock", path):
        try:
            held.acquire(timeout=0)
        except filelock.Timeout:
            raise refusal() from None
    try:
        yield
    finally:
        held.release()

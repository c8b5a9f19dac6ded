"""The file layer: files are written whole or not at all, and every operation can be made to fail by a test.

Nothing that a run must not lose is written in another way. Each operation is announced to `fault` first, so that a test
can stop the world before it, or make it fail as a full disk would.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from segzoo.errors import StorageError

#: Called before every file operation with its name ("make folder", "write", "flush", "keep", "replace", "flush folder",
#: "append", "remove") and its path. What it raises is what the operation would have raised. For tests.
fault: Callable[[str, Path], None] | None = None

_TEMPORARY = re.compile(r"\.\d+-.+")


@contextmanager
def operation(name: str, path: Path) -> Iterator[None]:
    """Announce a file operation to `fault`; what the operating system refuses becomes a StorageError."""
    try:
        if fault is not None:
            fault(name, path)
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError.of(error, path) from error


@contextmanager
def replacing(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, it replaces `path` in one step.

    The content is flushed to the disk before the replacement and the folder after it, so that neither a crash nor a
    power cut leaves half a file. When the block raises, the temporary file is removed and `path` stays as it was.
    The temporary name keeps the ending of `path`, from which many libraries choose the format.

    Args:
        path: the file to write.
        previous: where the file that `path` is now is kept, in place of what was there. Between the two renamings there
            is a moment in which only this one exists.

    Raises:
        StorageError: the disk is full, the folder read-only, or the like.
    """
    with operation("make folder", path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        with operation("write", path):
            yield temporary
        with operation("flush", path), temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        if previous is not None and path.exists():
            with operation("keep", path):
                path.replace(previous)
        with operation("replace", path):
            temporary.replace(path)
        with operation("flush folder", path.parent):
            _sync_folder(path.parent)
    except BaseException:
        with suppress(OSError), operation("remove", temporary):  # what went wrong before matters more
            temporary.unlink(missing_ok=True)
        raise


def append(path: Path, text: str) -> None:
    """Add `text` at the end of the file; StorageError where that is refused, then part of it may be there."""
    with operation("append", path), path.open("a", encoding="utf-8") as stream:
        stream.write(text)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it is there; StorageError where that is refused."""
    with operation("remove", path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed processes left of `replacing` in `folder` and below; nobody may be writing there."""
    for path in [path for path in folder.rglob(".*") if is_temporary(path)]:
        remove(path)


def is_temporary(path: Path) -> bool:
    """Whether `replacing` gave the file its name."""
    return _TEMPORARY.fullmatch(path.name) is not None


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders, and needs no flush of them
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""File layer: atomic writes, bounded reads, and a hook that lets tests inject faults into every operation.

Nothing that a run must not lose is written in another way. Each operation is announced to `fault` first, so that a test
can stop the world before it, or make it fail as a full disk would.
"""

from __future__ import annotations

import codecs
import errno
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from segzoo.errors import StorageError, WeightsError, shortened

#: Called before every file operation with its name ("make folder", "write", "flush", "keep", "replace", "flush folder",
#: "append", "remove", "lock", "check") and its path. What it raises is what the operation would have raised. For tests.
fault: Callable[[str, Path], None] | None = None

_TEMPORARY = re.compile(r"\.\d+-.+", re.DOTALL)
_MOST_TEXT = 2**28  # bytes: a list of three million paths; more is something else, given by mistake
_LONGEST_NAME = 255  # bytes of one name in a path, on every common file system
# What HDF5 says of a write that the system refused; closing the file then fails with other words each time.
_HDF5_ERRNO = re.compile(r"errno = (\d+)")
_HDF5_UNCLOSED = ("decrement id ref count", "unable to close file", "flush file", "file write failed")


@contextmanager
def operation(name: str, path: Path) -> Iterator[None]:
    """Announce a file operation to `fault`; what the operating system refuses becomes a StorageError."""
    try:
        if fault is not None:
            fault(name, path)
        if "\0" in str(path):
            raise StorageError(errno.EINVAL, "a path cannot hold the zero byte", repr(str(path)))
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError.of(error, path) from error
    except UnicodeEncodeError as error:
        if not is_of_names(error):
            raise
        raise StorageError(errno.EILSEQ, unnameable(error), str(path)) from error
    except RuntimeError as error:
        if (refused := _of_hdf5(error)) is None:
            raise
        raise StorageError.of(refused, path) from error


def name_files_in_utf8() -> None:
    """Begin the command anew in Python's UTF-8 mode where names of files can be ASCII alone.

    In the locale C Python does so by itself, unless PYTHONUTF8=0 forbids it; then no file could be opened whose name a
    configuration or a list gives in other letters. What is printed stays in the encoding of the terminal.
    """
    if sys.getfilesystemencoding() != "ascii" or "utf8" in sys._xoptions or not sys.executable:
        return
    if sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    os.environ["PYTHONUTF8"] = "1"  # for the processes that a command starts
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def is_of_names(error: UnicodeEncodeError) -> bool:
    """Return whether it was the name of a file that could not be encoded, because such names are not in UTF-8 here."""
    encoding = codecs.lookup(sys.getfilesystemencoding()).name
    return encoding != "utf-8" and codecs.lookup(error.encoding).name == encoding


def unnameable(error: UnicodeEncodeError) -> str:
    """Return why no file can have a name, which holds letters that the system's encoding of names lacks."""
    return (
        f"names of files are in {error.encoding} here, which has no {error.object[error.start]!r}. Set the environment "
        "variable PYTHONUTF8=1, or choose a locale in UTF-8, such as by LC_ALL=C.UTF-8"
    )


def _of_hdf5(error: BaseException | None) -> OSError | None:
    """Extract the OSError behind an HDF5 error, or one in its chain of causes; None if there is none."""
    found = None
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error
        if match := _HDF5_ERRNO.search(str(error)):
            return OSError(int(match[1]), os.strerror(int(match[1])))
        if any(words in str(error) for words in _HDF5_UNCLOSED):
            found = OSError("HDF5 could not write all of it, as on a full disk")
        error = error.__cause__ or error.__context__
    return found


@contextmanager
def replacing(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, it replaces `path` in one step.

    The content is flushed to the disk before the replacement and the folder after it, so that neither a crash nor a
    power cut leaves half a file. When the block raises, the temporary file is removed and `path` stays as it was.
    The temporary name keeps the ending of `path`, from which many libraries choose the format.

    Args:
        path: the file to write. A device or a pipe is written to as it is: a file must not take its place.
        previous: where the file that `path` is now is kept, in place of what was there. Between the two renamings there
            is a moment in which only this one exists.

    Raises:
        StorageError: the disk is full, the folder read-only, or the like.
    """
    if _is_device(path):
        with operation("write", path):
            yield path
        return
    make_folder(path.parent)
    temporary = _temporary_of(path)
    try:
        with operation("write", path):
            yield temporary
        move_whole(temporary, path, previous)
    except BaseException:
        with suppress(OSError), operation("remove", temporary):  # what went wrong before matters more
            temporary.unlink(missing_ok=True)
        raise


def move_whole(source: Path, path: Path, previous: Path | None = None) -> None:
    """Flush a file that is complete to the disk, and let it replace `path` in one step; see `replacing`.

    Raises:
        StorageError: the disk is full, the folder read-only, or the like.
    """
    flush(source, path)
    if previous is not None and path.exists():
        with operation("keep", path):
            path.replace(previous)
    with operation("replace", path):
        source.replace(path)
    with operation("flush folder", path.parent):
        _sync_folder(path.parent)


def flush(source: Path, path: Path | None = None) -> None:
    """Flush the content of a file to the disk; `path` is the name that an error tells, by default its own."""
    with operation("flush", path or source), source.open("rb") as stream:
        os.fsync(stream.fileno())


def _is_device(path: Path) -> bool:
    """Return True if `path` exists and is neither a file nor a folder: a device, a pipe, a socket."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # what is wrong with the path, writing says
        return False
    return _is_special(mode)


def _is_special(mode: int) -> bool:
    """Return True if a mode is of neither a file nor a folder."""
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _temporary_of(path: Path) -> Path:
    name = path.name
    while len(os.fsencode(f".{os.getpid()}-{name}")) > _LONGEST_NAME and len(os.fsencode(path.name)) <= _LONGEST_NAME:
        name = name[1:]  # from the left: the ending says the format
    return path.with_name(f".{os.getpid()}-{name}")


def expanded(path: str | os.PathLike[str]) -> Path:
    """Expand a leading ~ or ~user of a path.

    Raises:
        ValueError: there is no such user, or nothing says where the home is.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        user = os.fspath(path).partition("/")[0]
        raise ValueError(
            f"there is no user {shortened(user[1:])}, whose home {shortened(user)} would be"
            if user != "~"
            else "nothing says where the home folder ~ is (HOME is not set)"
        ) from None


def regular(path: Path) -> Path:
    """Return the path of a file, or of a link to one, that is about to be opened.

    Raises:
        OSError: it is a device, pipe or socket, reading which could wait for ever or never end; or it is not there.
    """
    if _is_special(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is a device, pipe or socket, where a file is due", str(path))
    return path


def read_text(path: Path, most: int = _MOST_TEXT) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark; raises as `read_at_most`."""
    return read_at_most(path, most).decode("utf-8-sig")


def read_at_most(path: Path, most: int) -> bytes:
    """Return the content of a file.

    Raises:
        OSError: the file cannot be read, or is not a regular file, see `regular`.
        ValueError: the file is larger than `most` bytes.
    """
    with regular(path).open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has over {most:,} bytes, which is too large")
    return content


def check_file(path: Path) -> None:
    """Raise StorageError unless a file can be written at `path`, as far as that can be known in advance.

    Nothing is left behind: an empty folder left by a command that failed later would be a surprise.
    """
    with operation("check", path):
        if path.is_dir():
            raise StorageError(errno.EISDIR, "it is a folder, and a file is to be written there", str(path))
        if _is_device(path):
            return  # writing tells
        _check_parents(path, path.parent)


def check_folder(path: Path) -> None:
    """Raise StorageError unless a folder can be created or written to at `path`, as far as can be known in advance."""
    with operation("check", path):
        if path.exists() and not path.is_dir():
            raise StorageError(errno.ENOTDIR, "it is a file, and a folder is to be made there", str(path))
        _check_parents(path, path)


def _check_parents(path: Path, folder: Path) -> None:
    """Raise OSError unless the nearest folder that exists, from `folder` up, can be written to, for `path`."""
    folder = folder.absolute()
    while not folder.exists():
        if len(os.fsencode(folder.name)) > _LONGEST_NAME:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if folder.is_symlink():
            raise StorageError(errno.ENOENT, f"{folder} is a link to what is not there", str(path))
        folder = folder.parent
    if not folder.is_dir():
        raise StorageError(errno.ENOTDIR, f"{folder} is a file, not a folder", str(path))
    try:
        with tempfile.TemporaryFile(dir=folder):  # without a name, where the system can; rights alone do not say it
            pass
    except OSError as error:
        raise StorageError(error.errno, f"no file can be made in {folder}: {error.strerror}", str(path)) from None


def make_folder(path: Path) -> None:
    """Create a folder and its parents if they do not exist; StorageError on failure."""
    with operation("make folder", path):
        path.mkdir(parents=True, exist_ok=True)


def append(path: Path, text: str) -> None:
    """Append `text` to the file; on StorageError part of it may have been written."""
    with operation("append", path), path.open("a", encoding="utf-8") as stream:
        stream.write(text)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, if it exists; StorageError on failure."""
    with operation("remove", path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def remove_temporaries(folder: Path) -> None:
    """Remove temporary files that killed processes left in `folder` and below; no other process may write there."""
    for path in [path for path in folder.rglob(".*") if is_temporary(path)]:
        remove(path)


def is_temporary(path: Path) -> bool:
    """Return True if the file has a temporary name of `replacing`."""
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


def check_digest(path: Path, found: str, expected: str) -> None:
    """Raise WeightsError if the sha256 of a weights file is not the expected one, both in hexadecimal."""
    if found != expected.lower():
        raise WeightsError(
            f"{path} is not the file that was asked for: its sha256 is {found}, expected was {expected.lower()}. "
            "It was not read."
        )

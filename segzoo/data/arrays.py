"""Loading of arrays from .npy and .npz files: plain numbers only, never pickled objects."""

from __future__ import annotations

import math
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from segzoo.data.refusals import too_many_pixels
from segzoo.errors import DataError
from segzoo.files import regular

_KINDS = {
    "O": "Python objects", "S": "text", "U": "text", "V": "a structure of fields", "c": "complex numbers", "M": "dates",
    "m": "durations", "T": "text",
}  # fmt: skip

# NumPy parses headers as Python's source, which several threads at once cannot in Python 3.11 ("AST constructor
# recursion depth mismatch", python/cpython#106905).
_PARSING = threading.Lock()


def load_array(
    path: Path, max_pixels: int, key: str | None = None, several: str = "Set masks.key to one of them."
) -> np.ndarray:
    """Read an array (H, W) or (H, W, C) from .npy or .npz, its shape before its data; never anything pickled.

    Numbers of the other order of bytes come in this machine's, so that their type compares equal to np.uint16 and such.

    Args:
        path: the file.
        max_pixels: refuse larger arrays before reading them.
        key: name of the array in an .npz; None: the only one.
        several: the cure where an .npz has no single array, or none of that name.

    Raises:
        DataError: a missing, damaged or truncated file; values other than finite real numbers; an unexpected number of
            axes; more than `max_pixels` pixels; an .npz without that key; or an .npy with data after its array.
    """
    with _opened(path, key, several) as (stream, length):
        header = _checked_header(stream, path, max_pixels, length)
        array = _read_numbers(stream, header)
        stream.read(1)  # at the end of its member zipfile compares the checksum
    check_finite(array, path)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def array_shape(path: Path, max_pixels: int) -> tuple[int, ...]:
    """Return the shape of the only array of an .npy or .npz; raises as `load_array` does, which reads it too."""
    with _opened(path, None, "It is not the only one.") as (stream, length):
        return _checked_header(stream, path, max_pixels, length).shape


def array_type(path: Path, max_pixels: int) -> np.dtype[Any]:
    """Return the number type that `load_array` gives of the only array of a file; raises as `array_shape`."""
    with _opened(path, None, "It is not the only one.") as (stream, length):
        return _checked_header(stream, path, max_pixels, length).dtype.newbyteorder("=")


def read_npy(stream: IO[bytes]) -> np.ndarray:
    """Read an array of plain numbers that segzoo wrote with `numpy.save`, one of several in a file.

    Raises:
        ValueError: no such array.
        EOFError: it ends early.
    """
    return _read_numbers(stream, _read_header(stream))


def check_finite(array: np.ndarray, path: Path) -> None:
    """Raise DataError that counts the pixels of (H, W) or (H, W, C) where a value is NaN or infinite."""
    if array.dtype.kind != "f":
        return
    finite = np.isfinite(array)
    if finite.all():
        return
    wrong = ~finite if array.ndim == 2 else ~finite.all(axis=-1)
    row, column = np.argwhere(wrong)[0]
    nan = int(np.isnan(array).sum())
    infinite = int(array.size - finite.sum()) - nan
    held = " and ".join(f"{count} {name}" for count, name in ((nan, "NaN"), (infinite, "infinite")) if count)
    raise DataError(
        f"{path}: {held} values in {int(wrong.sum())} of {wrong.size} pixels, the first at x {column}, y {row}. No "
        "network takes them: write numbers in their place (np.nan_to_num), or leave the file out.",
        "not_finite",
    )


@contextmanager
def _opened(path: Path, key: str | None, several: str) -> Iterator[tuple[IO[bytes], int]]:
    """Open the .npy that a file is or holds; yield a stream and its length in bytes.

    What zipfile, zlib and NumPy's parser raise on damaged files is of no fixed set: all of it becomes a DataError.
    """
    try:
        if path.suffix.lower() == ".npy":
            with regular(path).open("rb") as stream:
                yield stream, path.stat().st_size
            return
        with zipfile.ZipFile(regular(path)) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
            if len(keys) != 1 if key is None else key not in keys:
                wanted = "no single one" if key is None else f"none called {key!r}"
                raise DataError(f"{path}: of its arrays ({', '.join(keys)}) {wanted}. {several}")
            name = f"{key or keys[0]}.npy"
            with archive.open(name) as member:
                yield member, archive.getinfo(name).file_size
    except DataError:
        raise
    except Exception as error:
        empty = path.is_file() and path.stat().st_size == 0
        why = "it is empty" if empty else getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}: cannot be read as an array ({why}). Write the file again or remove it.",
            "zero_byte" if empty else "unreadable",
        ) from error


class _Header(NamedTuple):
    """Header of an .npy: shape, whether columns lie one behind the other, and number type."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]


def _read_header(stream: IO[bytes]) -> _Header:
    with _PARSING:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return _Header(*read(stream))


def _read_numbers(stream: IO[bytes], header: _Header) -> np.ndarray:
    """Read the numbers behind a header; EOFError if there are too few."""
    if header.dtype.hasobject:
        raise ValueError(f"an array of {header.dtype}, which is no plain number")
    array = np.empty(header.shape[::-1] if header.fortran else header.shape, header.dtype)
    if stream.readinto(array.reshape(-1).view(np.uint8)) < array.nbytes:  # type: ignore[attr-defined]  # all have it
        raise EOFError("the array ends early")
    return array.T if header.fortran else array


def _checked_header(stream: IO[bytes], path: Path, max_pixels: int, length: int) -> _Header:
    """Return the header of the array that begins a stream of `length` bytes; DataError if it cannot be used."""
    header = _read_header(stream)
    shape, dtype = header.shape, header.dtype
    if dtype.kind not in "biuf":
        raise DataError(
            f"{path}: holds {_KINDS.get(dtype.kind, dtype)} ({dtype}), which are not read. Save plain numbers: "
            "bool, integers or floats.",
            "unreadable",
        )
    if len(shape) not in (2, 3):
        raise DataError(f"{path}: an array of shape {shape}, where (H, W) or (H, W, C) is due.")
    if 0 in shape:
        raise DataError(f"{path}: an array of shape {shape} has no pixels. Write the file again or remove it.")
    if shape[0] * shape[1] > max_pixels:
        raise too_many_pixels(path, (shape[1], shape[0]), max_pixels)
    missing = stream.tell() + math.prod(shape) * dtype.itemsize - length
    if missing > 0:
        raise DataError(
            f"{path}: cannot be read as an array (it is truncated: {missing} bytes of its array of shape {shape} are "
            "missing). Write the file again or remove it.",
            "truncated",
        )
    if missing < 0:
        raise DataError(
            f"{path}: {-missing} bytes follow its array of shape {shape}, so it holds more than that one, and which is "
            "meant is not for segzoo to guess. Write each array into a file of its own.",
            "several_pictures",
        )
    return header

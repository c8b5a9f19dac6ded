"""Errors about files of pictures: what cannot be decoded, is too large, or holds more than one picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from PIL import UnidentifiedImageError

from segzoo.data.codecs import unlimited
from segzoo.errors import DataError, SegzooError

PNG_END = b"IEND\xaeB`\x82"  # the chunk that ends every complete PNG, with its checksum

# How PNG and JPEG begin, and how they end. Entropy-coded JPEG data cannot contain its end marker.
_WHOLE = ((b"\x89PNG", PNG_END), (b"\xff\xd8", b"\xff\xd9"))


def is_whole(data: bytes) -> bool:
    """Return True if a PNG or JPEG ends with its end marker."""
    return any(data.startswith(first) and data.endswith(last) for first, last in _WHOLE)


@contextmanager
def reading(path: Path, what: str = "image") -> Iterator[None]:
    """Turn any exception of a decoder, whose set is open for damaged files, into a DataError that names the file."""
    try:
        with unlimited():
            yield
    except SegzooError:
        raise
    except Exception as error:
        data = None
        if path.is_file():
            with suppress(OSError):  # which `error` says
                data = path.read_bytes()
        raise _unreadable(path, error, damage(data, error), what) from error


def check_size(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    """Raise DataError for a picture of (width, height) `size` that is over the limit."""
    if size[0] * size[1] > max_pixels:
        raise too_many_pixels(path, size, max_pixels)


def too_many_pixels(path: Path, size: tuple[int, int], max_pixels: int) -> DataError:
    """Return the error for a picture of (width, height) `size` that is over the limit."""
    width, height = size
    return DataError(
        f"{path}: {width} x {height} is {width * height} pixels, over the limit of {max_pixels} that guards memory. Of "
        "TIFFs, predict reads larger ones by windows, unless --tile is 0. To train or evaluate, cut image and mask "
        "into the same tiles (gdal_retile.py -ps 4096 4096 -targetDir FOLDER FILE); or raise the limit to "
        f"{width * height}, if the memory is enough, by data.max_pixels (on the command line --set "
        "data.max_pixels=..., of predict --max-pixels).",
        "too_large",
    )


def check_single(path: Path, count: int, parts: str) -> None:
    """Raise DataError for a file of several pages or frames."""
    if count > 1:
        raise DataError(
            f"{path}: has {count} {parts}, and which of them is meant is not for segzoo to guess. Write each that is "
            f"wanted into a file of its own, such as with Pillow: picture = Image.open({path.name!r}); "
            "picture.seek(0); picture.save('0.png'), where 0 is the first.",
            "several_pictures",
        )


def check_bands(path: Path, bands: Sequence[int], count: int) -> None:
    """Raise DataError unless `data.bands` names bands from 1 to `count`."""
    if max(bands) > count or min(bands) < 1:
        raise DataError(f"{path}: has the bands 1 to {count}, but data.bands is {list(bands)}.")


def refused(path: Path, held: str, cure: str) -> DataError:
    """Return the error for an intact file that no decoder reads correctly."""
    return DataError(f"{path}: {held}, which is not read. {cure}", "unreadable")


def damage(data: bytes | None, error: Exception) -> str:
    """Return the kind of problem of a picture file that could not be decoded.

    Args:
        data: content of the file, or None if it could not be read.
        error: error raised by the decoder.
    """
    if data == b"":
        return "zero_byte"
    cut = data is not None and any(data.startswith(first) and last not in data for first, last in _WHOLE)
    return "truncated" if cut or "truncated" in str(error).lower() else "unreadable"


def _unreadable(path: Path, error: Exception, kind: str, what: str) -> DataError:
    why: object = error
    if kind == "zero_byte":
        why = "it is empty"
    elif isinstance(error, UnidentifiedImageError):  # Pillow would name an object in memory
        why = "it is damaged, or in none of the formats JPEG, PNG, BMP, TIFF, WebP and GIF"
    elif isinstance(error, OSError) and error.strerror:
        why = error.strerror
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path}: there is no such file.", kind)
    if what == "image":
        cure = "The file is probably truncated or no image: copy it again or remove it, in a data set with its mask."
    else:
        cure = "Write the file again or remove it."
    article = "an" if what == "image" else "a"
    return DataError(f"{path}: cannot be read as {article} {what} ({why}). {cure}", kind)

"""What the pixel values of a mask mean: reading index masks, and refusing labels that are no class."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image

from segzoo.data.arrays import check_finite
from segzoo.data.decoding import (
    FORMATS,
    check_frames,
    check_single,
    check_size,
    is_whole,
    open_image,
    open_page,
    pillow_channels,
    reading,
    refused,
    upright_bytes,
)
from segzoo.data.headers import header
from segzoo.data.tiff import Page, Tiff, is_tiff, read_tiff
from segzoo.errors import DataError

# Pillow stretches 2- and 4-bit grey PNGs to 0..255 when it unpacks them; dividing gives the stored indices back.
_GREY_STRETCH = {"L;2": 85, "L;4": 17}


def read_index_mask(path: Path, max_pixels: int) -> np.ndarray:
    """Read a picture of class indices: grey (1 to 16 bits) or palette, whose palette is not applied.

    OpenCV and TensorFlow expand palette entries to grey levels and TensorFlow cuts 16 bits to the upper 8, so Pillow
    says what is stored and decodes all but plain grey files. An EXIF orientation is not applied, as with images.

    Returns:
        (H, W), uint8, or uint16 for files of more bits, or int64 for a TIFF whose values need them.

    Raises:
        DataError: the file is unreadable, truncated, has colours or fractions instead of indices, several pictures, or
            more than `max_pixels` pixels.
    """
    with reading(path, "mask"), path.open("rb", buffering=0) as stream:
        start = stream.read(4)
        stream.seek(0)
        if is_tiff(start):
            mask = _index_tiff(path, stream, max_pixels)
        else:
            mask = _index_plain(path, stream.read(), max_pixels)
    if mask.dtype == bool:
        return mask.astype(np.uint8)
    if mask.dtype.kind == "f":
        mask = _whole_numbers(mask, path)
    if mask.dtype in (np.uint8, np.uint16):
        return mask
    if mask.min(initial=0) >= 0 and mask.max(initial=0) <= 65535:
        return mask.astype(np.uint16)
    return mask.astype(np.int64)


def _index_plain(path: Path, data: bytes, max_pixels: int) -> np.ndarray:
    """Read a mask that is no TIFF, as it is stored."""
    first = header(data)
    if first is not None:
        check_size(path, first.size, max_pixels)
        check_single(path, first.frames, "frames")
        # Pillow decodes while it holds Python's lock; plain grey OpenCV reads alike, and beside other threads
        if first.grey_bits in (8, 16) and is_whole(data):
            mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if mask is not None and mask.shape == first.size[::-1]:
                return mask
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:  # reads the header only
        check_size(path, picture.size, max_pixels)
        check_frames(path, picture, data)
        return _indices(path, picture)


def _index_tiff(path: Path, stream: BinaryIO, max_pixels: int) -> np.ndarray:
    """Read a mask that is a TIFF, as it is stored."""
    found, page = open_page(path, stream, max_pixels)
    if pillow_channels(found, page) and page.samples == 1:
        with Image.open(io.BytesIO(upright_bytes(path, page)), formats=("TIFF",)) as picture:
            return _indices(path, picture)
    opened = open_image(path, max_pixels)
    if opened.channels != 1:
        raise _coloured(path, f"{opened.channels} channels")
    mask = opened.read()
    return mask[..., 0] if mask.ndim == 3 else mask


def _indices(path: Path, picture: Image.Image) -> np.ndarray:
    """Decode a picture that Pillow opened to the indices that it stores."""
    if picture.format == "GIF":
        # Programs that write GIF sort and drop entries of the palette, so that only grey says which class is meant
        colors = np.asarray(picture.convert("RGB"))
        if (colors != colors[..., :1]).any():
            raise _coloured(path, "GIF with a palette of colours, whose order is not kept")
        return colors[..., 0]
    if picture.mode not in ("L", "P", "1", "I", "I;16", "I;16B"):
        raise _coloured(path, f"mode {picture.mode}")
    stretch = _GREY_STRETCH.get(_raw_mode(picture), 1)
    mask = np.asarray(picture)
    return mask // np.uint8(stretch) if stretch > 1 else mask


def _coloured(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: a mask must hold class indices, but this one is a colour picture ({what}). "
        "Where its colours stand for classes, say so with data.masks: {format: rgb, colors: ...}; "
        "where it shows one thing in white, with data.masks: binary."
    )


def _whole_numbers(mask: np.ndarray, path: Path) -> np.ndarray:
    """Return a mask of floating-point numbers as integers; DataError counts those that are none."""
    check_finite(mask, path)
    wrong = int(((mask != np.rint(mask)) | (np.abs(mask) >= 2**31)).sum())
    if wrong:
        raise DataError(
            f"{path}: {wrong} of {mask.size} values of the mask are no whole numbers (they go from {mask.min():g} to "
            f"{mask.max():g}), so they are no class indices. Write the index of each pixel's class, as whole numbers."
        )
    return mask.astype(np.int32)


@contextmanager
def open_picture(path: Path, max_pixels: int, stacked: bool = False) -> Iterator[Image.Image]:
    """Give a mask's picture, completely decoded, as Pillow has it.

    Args:
        path: the file.
        max_pixels: refuse larger pictures before decoding them.
        stacked: whether a TIFF of several pages is meant to be one; the first is decoded.

    Raises:
        DataError: missing, unreadable or truncated; more than `max_pixels` pixels; several pictures; or numbers that
            Pillow would not give as they are stored.
    """
    with reading(path, "mask"):
        picture = Image.open(io.BytesIO(_checked_bytes(path, max_pixels, stacked)), formats=FORMATS)
        with picture:
            check_size(path, picture.size, max_pixels)
            picture.load()
            yield picture


def _checked_bytes(path: Path, max_pixels: int, stacked: bool) -> bytes:
    """Return a picture's file once it is known that Pillow reads it as it is meant."""
    with path.open("rb", buffering=0) as stream:
        start = stream.read(4)
        stream.seek(0)
        if is_tiff(start):
            found = read_tiff(stream)
            if not stacked:
                open_page(path, stream, max_pixels)
            for page in found.pages:
                _check_samples(path, pillow_channels(found, page) or _plain_grey(found, page), page.bits)
            return upright_bytes(path, found.pages[0])
        data = stream.read()
    first = header(data)
    if first is not None:
        check_single(path, first.frames, "frames")
        _check_samples(path, first.bits <= 8 or first.channels == 1, first.bits)
    else:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            check_frames(path, picture, data)
    return data


def _plain_grey(found: Tiff, page: Page) -> bool:
    """Return whether Pillow reads the wide numbers of a page of one channel: not those that it takes for others."""
    kinds = {(16, "u"), (16, "i"), (32, "i"), (32, "f")}
    native = found.little_endian or page.compression == 1
    return page.samples == 1 and page.photometric == 1 and (page.bits, page.number) in kinds and native


def _check_samples(path: Path, known: object, bits: int) -> None:
    if not known:
        raise refused(path, f"is a mask with samples of {bits} bits", "Write it in grey or RGB of 8 bits.")


def check_labels(mask: np.ndarray, classes: int, ignore_index: int, name: object) -> None:
    """Raise DataError unless every label is in 0..classes-1 or is the ignore index.

    Args:
        mask: integers of any shape.
        classes: how many classes there are.
        ignore_index: the one label outside them that is allowed.
        name: what the message calls the mask: its file.
    """
    if mask.dtype == np.uint8 and mask.ndim == 2:  # a table lookup: a third of the time of np.unique or bincount
        allowed = np.zeros(256, np.uint8)
        allowed[:classes] = 1
        if 0 <= ignore_index <= 255:
            allowed[ignore_index] = 1
        if cv2.countNonZero(cv2.LUT(mask, allowed)) == mask.size:
            return
    wrong = mask[((mask < 0) | (mask >= classes)) & (mask != ignore_index)]
    if wrong.size == 0:
        return
    values, counts = np.unique(wrong, return_counts=True)
    pairs = zip(values[:8], counts[:8], strict=True)
    shown = ", ".join(f"{v} ({n} pixels){_extent(mask, v)}" for v, n in pairs)
    more = f" and {len(values) - 8} more values" if len(values) > 8 else ""
    raise DataError(
        f"{name}: label {shown}{more} is neither a class (there are {classes}: 0..{classes - 1}) nor the ignore "
        f"index ({ignore_index}).{_meaning(mask, values.tolist(), name)} Correct the mask, or the list of classes "
        "(data.classes), or set data.ignore_index to the label that marks unlabelled pixels.",
        "label",
    )


def _meaning(mask: np.ndarray, wrong: list[int], name: object) -> str:
    """Say what labels that are no class probably mean."""
    if wrong == [255] and int(mask.min()) == 0 and not ((mask != 0) & (mask != 255)).any():
        return " Where 255 is one thing in white, masks: binary reads it."
    if isinstance(name, Path) and (value := nodata(name)) in wrong:
        return f" The file calls {value} no data: set data.ignore_index: {value}, or in masks.values ignore: {value}."
    return ""


_NODATA = 42113  # the tag of a TIFF in which GDAL writes the value that stands for no data


def nodata(path: Path) -> int | None:
    """Return the whole number that stands for no data in a GeoTIFF; None where there is none."""
    try:
        with Image.open(path, formats=("TIFF",)) as picture:
            value = float(str(picture.tag_v2[_NODATA]).strip("\0 "))  # type: ignore[attr-defined]
        return int(value) if value.is_integer() else None
    except Exception:  # no TIFF, no such tag, no number
        return None


def _extent(mask: np.ndarray, value: int) -> str:
    """Return where a label lies, as " at x 3..17, y 0..5"; nothing for an array that is no picture."""
    if mask.ndim != 2:
        return ""
    rows, columns = np.nonzero(mask == value)
    return f" at x {columns.min()}..{columns.max()}, y {rows.min()}..{rows.max()}"


def _raw_mode(picture: Image.Image) -> str:
    """Return how a freshly opened picture's pixels are packed in its file ("L;4"), or ""."""
    tiles = getattr(picture, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""

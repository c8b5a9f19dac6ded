"""What the pixel values of a mask mean: reading index masks, and refusing labels that are no class."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segzoo.data.headers import header
from segzoo.errors import DataError

# Pillow stretches 2- and 4-bit grey PNGs to 0..255 when it unpacks them; dividing gives the stored indices back.
_GREY_STRETCH = {"L;2": 85, "L;4": 17}
PNG_END = b"IEND\xaeB`\x82"  # the chunk that ends every complete PNG, with its checksum
_WHOLE = ((b"\x89PNG", PNG_END), (b"\xff\xd8\xff", b"\xff\xd9"))  # how PNG and JPEG begin, and how they end


def read_index_mask(path: Path, max_pixels: int) -> np.ndarray:
    """Read a PNG or TIFF of class indices: grey (1 to 16 bits) or palette, whose palette is not applied.

    OpenCV and TensorFlow expand palette entries to grey levels and TensorFlow cuts 16 bits to the upper 8, so Pillow
    says what is stored and decodes all but plain grey files. An EXIF orientation is not applied, as with images.

    Returns:
        (H, W), uint8, or uint16 for 16-bit files, or int32 for a TIFF of 32 bits that needs them.

    Raises:
        DataError: the file is unreadable, truncated, has colours instead of indices, or more than `max_pixels` pixels.
    """
    data = None
    try:
        data = path.read_bytes()
        first = header(data)
        # Pillow decodes while it holds Python's lock; plain grey OpenCV reads alike, and beside other threads
        if first is not None and first.grey_bits in (8, 16) and data.endswith(PNG_END):
            if first.size[0] * first.size[1] > max_pixels:
                raise too_many_pixels(path, first.size, max_pixels)
            mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if mask is not None and mask.shape == first.size[::-1]:
                return mask
        with Image.open(io.BytesIO(data)) as picture:  # reads the header only
            if picture.width * picture.height > max_pixels:
                raise too_many_pixels(path, picture.size, max_pixels)
            if picture.mode not in ("L", "P", "1", "I", "I;16", "I;16B"):
                raise DataError(
                    f"{path}: a mask must hold class indices, but this one is a colour picture (mode {picture.mode}). "
                    "Where its colours stand for classes, say so with data.masks: {format: rgb, colors: ...}; "
                    "where it shows one thing in white, with data.masks: binary."
                )
            stretch = _GREY_STRETCH.get(_raw_mode(picture), 1)
            mask = np.asarray(picture)
    except DataError:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{path}: cannot be read as a mask ({error}). Write the file again or remove it.",
            damage(data, error),
        ) from error
    if mask.dtype == bool:
        return mask.astype(np.uint8)
    if mask.dtype == np.int32 and mask.min(initial=0) >= 0 and mask.max(initial=0) <= 65535:
        return mask.astype(np.uint16)  # 16-bit files in older Pillow; TIFF can also hold 32 bits
    return mask // np.uint8(stretch) if stretch > 1 else mask


@contextmanager
def open_picture(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """Give a mask's picture, completely decoded, as Pillow has it.

    Raises:
        DataError: missing, unreadable, truncated, or more than `max_pixels` pixels.
    """
    try:
        picture = Image.open(path)
        with picture:
            if picture.width * picture.height > max_pixels:
                raise too_many_pixels(path, picture.size, max_pixels)
            picture.load()
            yield picture
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        data = path.read_bytes() if path.is_file() else None
        raise DataError(
            f"{path}: cannot be read as a mask ({error}). Write the file again or remove it.",
            damage(data, error),
        ) from error


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


def damage(data: bytes | None, error: Exception) -> str:
    """Return the kind of problem of a picture file that could not be decoded.

    Args:
        data: what the file holds; None where not even that could be read.
        error: what Pillow raised.
    """
    if isinstance(error, Image.DecompressionBombError):
        return "too_large"
    if data == b"":
        return "zero_byte"
    cut = data is not None and any(data.startswith(first) and last not in data for first, last in _WHOLE)
    return "truncated" if cut or "truncated" in str(error).lower() else "unreadable"


def too_many_pixels(path: Path, size: tuple[int, int], max_pixels: int) -> DataError:
    """Return the error for a picture of (width, height) `size` that is over the limit."""
    width, height = size
    return DataError(
        f"{path}: {width} x {height} is {width * height} pixels, over the limit of {max_pixels} that guards memory. "
        f"Raise the limit to {width * height}, by data.max_pixels (on the command line --set data.max_pixels=..., of "
        "predict --max-pixels), or cut the picture into tiles.",
        "too_large",
    )


def _raw_mode(picture: Image.Image) -> str:
    """Return how a freshly opened picture's pixels are packed in its file ("L;4"), or ""."""
    tiles = getattr(picture, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""

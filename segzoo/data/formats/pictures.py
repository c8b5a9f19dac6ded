"""Pictures that hold masks: what they store, or a refusal where a decoder would change it without a word.

Pillow decodes them, since it says how a file stores its pixels: it gives palette masks as indices, where OpenCV and
TensorFlow expand them to grey levels.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from segzoo.data.decoding import PNG_END, damage, too_many_pixels
from segzoo.data.headers import header
from segzoo.errors import DataError

# Pillow stretches 2- and 4-bit grey PNGs to 0..255 when it unpacks them; dividing gives the stored indices back.
GREY_STRETCH = {"L;2": 85, "L;4": 17}
NUMBER_MODES = ("L", "P", "1", "I", "I;16", "I;16B", "I;16L", "F")  # Pillow's modes of one channel of numbers
_PNG = b"\x89PNG\r\n\x1a\n"
_SMEARING = ("jpeg", "old-jpeg", "webp")  # compressions of a TIFF that change values
# Tags of a TIFF (TIFF 6.0, section 8): bits, samples of a pixel, what a page is for, type of numbers, orientation
_BITS, _SAMPLES, _SUBFILE, _NUMBERS, _ORIENTATION = 258, 277, 254, 339, 274
# What undoes the turn of an orientation
_BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
_NUMBER_TYPES = {1: "unsigned", 2: "signed", 3: "float", 5: "complex", 6: "complex"}
# What a mask may be inside, whatever its ending says; Pillow knows others, of which one runs a program (EPS)
_FORMATS = ("PNG", "TIFF", "BMP", "DIB", "GIF", "WEBP", "JPEG")
_LARGEST = 2**31  # whole numbers from here on are no labels, and would not survive a cast to 32 bits


class Picture(NamedTuple):
    """A mask's picture, completely decoded.

    Attributes:
        image: as Pillow has it.
        packing: how the file stores pixels, in Pillow's words ("L;4", "RGB;16B"); "" where it does not say.
        signed: whether a TIFF calls its whole numbers signed, which Pillow forgets where they have 8 bits.
    """

    image: Image.Image
    packing: str
    signed: bool = False


def read_indices(path: Path, max_pixels: int) -> np.ndarray:
    """Read a picture of class indices: grey (1 to 32 bits, or float) or palette, whose palette is not applied.

    An EXIF orientation is not applied, as with images. The three equal channels in which WebP stores grey are taken as
    one. Of a GIF the grey of the palette counts, as programs that write it sort and drop the palette's entries.

    Returns:
        (H, W), uint8, or uint16 for 16-bit files, or int32 or int64 where values need them.

    Raises:
        DataError: the file is unreadable, truncated, has colours or transparency instead of indices, fractions, lossy
            compression, several pages, or more than `max_pixels` pixels.
    """
    with _decoding(path) as data:
        first = header(data)
        # Pillow decodes while it holds Python's lock; plain grey OpenCV reads alike, and beside other threads
        if first is not None and first.grey_bits in (8, 16) and data.endswith(PNG_END):
            if first.size[0] * first.size[1] > max_pixels:
                raise too_many_pixels(path, first.size, max_pixels)
            mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if mask is not None and mask.shape == first.size[::-1]:
                return mask
        picture = _decoded(_opened(data, path, max_pixels))
    check_lossless(picture.image, path, data)
    if picture.image.format == "GIF":
        return _one_channel(np.asarray(picture.image.convert("RGB")), "P with a palette of colours", path)
    if picture.packing.startswith("L;") and "I" in picture.packing:
        raise DataError(f"{path}: a TIFF in which 0 is white, so its values may be meant inverted. Write it anew.")
    if picture.image.mode == "LA" or (picture.image.mode in ("RGB", "RGBA") and picture.image.format == "WEBP"):
        return _one_channel(np.asarray(picture.image), picture.image.mode, path)
    if picture.image.mode not in NUMBER_MODES:
        raise _coloured(path, picture.image.mode)
    return stored_numbers(picture, path)


def load_picture(path: Path, max_pixels: int, lossless: bool = False) -> Picture:
    """Read a mask's picture of one page.

    Args:
        path: its file.
        max_pixels: refuse larger ones before decoding them.
        lossless: refuse compression that changes values.

    Raises:
        DataError: missing, unreadable, truncated, of several pages, or as the arguments say.
    """
    with _decoding(path) as data:
        picture = _decoded(_opened(data, path, max_pixels))
    if lossless:
        check_lossless(picture.image, path, data)
    return picture


def load_pages(path: Path, max_pixels: int, most: int) -> list[Picture]:
    """Read all pages of a mask's picture.

    Raises:
        DataError: missing, unreadable, truncated, lossy, more than `most` pages, a page over `max_pixels`.
    """
    pages: list[Picture] = []
    with _decoding(path) as data:
        first = _opened(data, path, max_pixels, several=True)
        check_lossless(first.image, path, data)
        count = getattr(first.image, "n_frames", 1)
        if count > most:
            raise DataError(f"{path}: has more pages ({count}) than there are classes ({most}).")
        for number in range(count):
            first.image.seek(number)
            page = _decoded(_described(first.image, path, max_pixels))
            pages.append(page._replace(image=page.image.copy()))
    return pages


def stored_numbers(picture: Picture, path: Path) -> np.ndarray:
    """Return the numbers (H, W) of a picture of one of `NUMBER_MODES`, as the file stores them.

    Raises:
        DataError: fractions, or numbers that are none.
    """
    image, packing, signed = picture
    array = np.asarray(image)
    if array.dtype == bool:
        return array.astype(np.uint8)
    if image.mode == "L" and signed:
        return array.view(np.int8).astype(np.int16)
    if packing == "I;32N" and not signed:  # 32 bits without a sign, which Pillow reads as if they had one
        array = array.view(np.uint32)
    if (stretch := GREY_STRETCH.get(packing, 1)) > 1:
        return array // np.uint8(stretch)
    return compact(whole_numbers(array, path))


def whole_numbers(array: np.ndarray, name: object) -> np.ndarray:
    """Return whole numbers that are stored as floats as integers, and integers as they are.

    Raises:
        DataError: fractions, NaN, infinity and numbers beyond 32 bits, with their number of pixels.
    """
    if array.dtype.kind != "f":
        return array
    with np.errstate(invalid="ignore"):
        wrong = ~((np.rint(array) == array) & (np.abs(array) < _LARGEST))
    if wrong.any():
        values, counts = np.unique(array[wrong], return_counts=True)
        shown = ", ".join(f"{v:g} ({n} pixels)" for v, n in zip(values[:4], counts[:4], strict=True))
        raise DataError(
            f"{name}: {int(wrong.sum())} of {array.size} values of the mask are no whole numbers of 32 bits: {shown}"
            f"{', ...' if len(values) > 4 else ''}. Labels are whole numbers: write the mask again without smoothing, "
            "scaling or probabilities, and pixels without a label as the ignore index.",
            "label",
        )
    return array.astype(np.int64)


def compact(array: np.ndarray) -> np.ndarray:
    """Return integers of more than 16 bits as uint16, int32 or int64, the first that holds them all."""
    if array.dtype.itemsize <= 2:
        return array
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    for dtype in (np.uint16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype, copy=False)
    return array


def check_lossless(image: Image.Image, path: Path, data: bytes) -> None:
    """Raise DataError where a picture's compression changes values, so that a label could become another."""
    lossy_webp = image.format == "WEBP" and b"VP8L" not in data[:64]
    if image.format in ("JPEG", "MPO") or lossy_webp or image.info.get("compression") in _SMEARING:
        raise DataError(
            f"{path}: its lossy compression changes values, and so labels. Write the mask without loss, as PNG."
        )


def alpha_of(image: Image.Image) -> np.ndarray | None:
    """Return the alpha channel (H, W) of a picture, 0..255; None where nothing of it can be transparent."""
    if image.mode in ("LA", "RGBA", "PA", "La", "RGBa"):
        return np.asarray(image.convert("RGBA") if image.mode == "PA" else image)[..., -1]
    if "transparency" in image.info and image.mode in ("1", "L", "P", "RGB"):
        return np.asarray(image.convert("RGBA"))[..., -1]
    return None


@contextmanager
def _decoding(path: Path) -> Iterator[bytes]:
    """Give the bytes of a mask's file; whatever their decoding raises becomes a DataError that names the file."""
    data = None
    try:
        data = path.read_bytes()
        yield data
    except DataError:
        raise
    except Exception as error:  # decoders raise classes of all kinds for damaged data
        kind = damage(data, error)
        why: object = error if str(error) else type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # Pillow would name an object in memory
            why = "it is empty" if kind == "zero_byte" else _unknown_kind(data or b"")
        raise DataError(
            f"{path}: cannot be read as a mask ({why}). Write the file again or remove it.", kind
        ) from error


def _opened(data: bytes, path: Path, max_pixels: int, several: bool = False) -> Picture:
    """Open a picture, of which only the header is read yet."""
    if data.startswith(_PNG) and not _intact(data):  # Pillow takes damaged pixels for sound ones
        raise DataError(
            f"{path}: cannot be read as a mask (its checksums do not fit, or it is truncated). Write the file again or "
            "remove it.",
            damage(data, ValueError()),
        )
    image = Image.open(io.BytesIO(data), formats=_FORMATS)
    if not several and (pages := _full_pages(image)) > 1:
        raise DataError(
            f"{path}: holds {pages} pages or frames, of which only one can be the mask. Write it with one; pages that "
            "are classes are read by masks: channels with mode: multilabel."
        )
    return _described(image, path, max_pixels)


def _described(image: Image.Image, path: Path, max_pixels: int) -> Picture:
    """Check the size, depth and channels of a page that is not decoded yet."""
    if image.width * image.height > max_pixels:
        raise too_many_pixels(path, image.size, max_pixels)
    packing, tags = _packing(image), getattr(image, "tag_v2", {})
    if ";16" in packing and not image.mode.startswith("I"):
        raise DataError(
            f"{path}: colours of 16 bits, of which Pillow reads the upper 8. Write the mask with 8 bits a channel."
        )
    stored = tags.get(_SAMPLES, 1)
    if stored > len(image.getbands()):
        raise DataError(
            f"{path}: stores {stored} channels, of which {len(image.getbands())} have a meaning that is known. Write "
            "the mask without the others."
        )
    return Picture(image, packing, 2 in _tuple(tags.get(_NUMBERS, ())))


def _decoded(picture: Picture) -> Picture:
    """Decode a page as it is stored: Pillow turns a TIFF by its orientation, as neither images nor masks are here."""
    image = picture.image
    back = _BACK.get(getattr(image, "tag_v2", {}).get(_ORIENTATION, 1))
    image.load()
    if back is None:
        return picture
    stored = image.transpose(back)
    stored.format = image.format
    return picture._replace(image=stored)


def _packing(image: Image.Image) -> str:
    """Return how a freshly opened picture's pixels are packed in its file ("L;4"), or ""."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""


def _full_pages(image: Image.Image) -> int:
    """Return how many pages or frames a picture has, without the smaller copies and masks of a GeoTIFF."""
    count = getattr(image, "n_frames", 1)
    if image.format not in ("TIFF", "GIF", "PNG", "WEBP") or count == 1:
        return 1
    if image.format != "TIFF":
        return int(count)
    full = 1
    for number in range(1, count):
        image.seek(number)
        full += not int(image.tag_v2.get(_SUBFILE, 0)) & 0b101  # type: ignore[attr-defined]
    image.seek(0)
    return full


def _one_channel(array: np.ndarray, mode: str, path: Path) -> np.ndarray:
    """Return the one channel of a picture (H, W, 2 to 4) whose colours are equal and which is nowhere transparent."""
    if array.shape[2] in (2, 4) and int(array[..., -1].min(initial=255)) < 255:
        clear = int((array[..., -1] < 255).sum())
        raise DataError(
            f"{path}: {clear} of {array[..., 0].size} pixels of the mask are transparent, so its labels could be in "
            "the alpha channel or in the others. Write it with one channel of class indices; where the alpha channel "
            "shows one thing, read it with data.masks: {format: binary, channel: alpha}."
        )
    first = array[..., 0]
    if array.shape[2] > 2 and not all(np.array_equal(first, array[..., n]) for n in (1, 2)):
        raise _coloured(path, mode)
    return np.ascontiguousarray(first)


def _coloured(path: Path, mode: str) -> DataError:
    return DataError(
        f"{path}: a mask must hold class indices, but this one is a colour picture (mode {mode}). "
        "Where its colours stand for classes, say so with data.masks: {format: rgb, colors: ...}; "
        "where it shows one thing in white, with data.masks: binary."
    )


def _intact(data: bytes) -> bool:
    """Return whether all chunks of a PNG fit their checksums, up to the end (ISO/IEC 15948, section 5.3)."""
    at = len(_PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        end = at + 8 + length
        if end + 4 > len(data) or zlib.crc32(data[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return False
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at = end + 4
    return False


def _unknown_kind(data: bytes) -> str:
    """Say what a file is that Pillow does not know; of a TIFF, which numbers it stores."""
    if data[:2] not in (b"II", b"MM"):
        return "it is in no known picture format"
    try:
        tags = ImageFileDirectory_v2(data[:8])
        stream = io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        if _BITS not in tags:
            return "a TIFF whose directory is damaged"
        bits, kind = _tuple(tags[_BITS])[0], _NUMBER_TYPES.get(_tuple(tags.get(_NUMBERS, 1))[0], "unknown")
        return f"a TIFF of {tags.get(_SAMPLES, 1)} channel(s) of {bits} bits, {kind}, which Pillow does not read"
    except Exception:  # a damaged directory
        return "a TIFF of a kind that Pillow does not read"


def _tuple(value: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)

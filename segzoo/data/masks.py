"""What the pixel values of a mask mean: reading index masks, and refusing labels that are no class."""

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

from segzoo.data.headers import header
from segzoo.errors import DataError

# Pillow stretches 2- and 4-bit grey PNGs to 0..255 when it unpacks them; dividing gives the stored indices back.
GREY_STRETCH = {"L;2": 85, "L;4": 17}
NUMBER_MODES = ("L", "P", "1", "I", "I;16", "I;16B", "I;16L", "F")  # Pillow's modes of one channel of numbers
PNG_END = b"IEND\xaeB`\x82"  # the chunk that ends every complete PNG, with its checksum
_PNG = b"\x89PNG\r\n\x1a\n"
_WHOLE = ((b"\x89PNG", PNG_END), (b"\xff\xd8\xff", b"\xff\xd9"))  # how PNG and JPEG begin, and how they end
_SMEARING = ("jpeg", "old-jpeg", "webp")  # compressions of a TIFF that change values
# Tags of a TIFF (TIFF 6.0, and GDAL's): bits, samples of a pixel, what a page is for, type of numbers, value of no data
_BITS, _SAMPLES, _SUBFILE, _NUMBERS, _NODATA = 258, 277, 254, 339, 42113
_NUMBER_TYPES = {1: "unsigned", 2: "signed", 3: "float", 5: "complex", 6: "complex"}
# What a mask may be inside, whatever its ending says; Pillow knows others, of which one runs a program (EPS)
_FORMATS = ("PNG", "TIFF", "BMP", "DIB", "GIF", "WEBP", "JPEG", "MPO", "PPM", "TGA", "JPEG2000")
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


def read_index_mask(path: Path, max_pixels: int) -> np.ndarray:
    """Read a picture of class indices: grey (1 to 32 bits, or float) or palette, whose palette is not applied.

    OpenCV and TensorFlow expand palette entries to grey levels and TensorFlow cuts 16 bits to the upper 8, so Pillow
    says what is stored and decodes all but plain grey files. An EXIF orientation is not applied, as with images. The
    three equal channels in which WebP stores grey are taken as one.

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
        picture = _opened(data, path, max_pixels)
        picture.image.load()
    check_lossless(picture.image, path, data)
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
        picture = _opened(data, path, max_pixels)
        picture.image.load()
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
            page = _described(first.image, path, max_pixels)
            page.image.load()
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
        bits, kind = _tuple(tags.get(_BITS, 1))[0], _NUMBER_TYPES.get(_tuple(tags.get(_NUMBERS, 1))[0], "unknown")
        return f"a TIFF of {tags.get(_SAMPLES, 1)} channel(s) of {bits} bits, {kind}, which Pillow does not read"
    except Exception:  # a damaged directory
        return "a TIFF of a kind that Pillow does not read"


def _tuple(value: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)


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
        "Cut the picture into tiles, or raise max_pixels.",
        "too_large",
    )


def _packing(picture: Image.Image) -> str:
    """Return how a freshly opened picture's pixels are packed in its file ("L;4"), or ""."""
    tiles = getattr(picture, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""

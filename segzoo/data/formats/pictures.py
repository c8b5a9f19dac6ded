"""Lossless decoding of mask pictures: the stored values, or a refusal where a decoder would change them silently.

Pillow decodes them, since it says how a file stores its pixels: it gives palette masks as indices, where OpenCV and
TensorFlow expand them to grey levels. Of TIFFs it reads some kinds wrong; those of one channel are decoded as images
are (segzoo.data.decoding), the others refused. docs/sample-types.md says what each kind of sample becomes.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from segzoo.data import tiff
from segzoo.data.codecs import opencv_holds, unlimited
from segzoo.data.decoding import check_bmp
from segzoo.data.headers import gif_frames, header, stated_size
from segzoo.data.refusals import PNG_END, check_size, damage, refused
from segzoo.data.tiff import Page, Tiff, is_tiff, read_tiff
from segzoo.data.tiff_decoding import LOSSY_IN_TIFF, check_page, page_bytes, page_picture, pillow_channels
from segzoo.errors import DataError
from segzoo.files import regular

# Samples of few bits are stretched to 0..255 when they are unpacked; dividing gives the stored indices back.
GREY_STRETCH = {"L;1": 255, "L;2": 85, "L;4": 17}
NUMBER_MODES = ("L", "P", "1", "I", "I;16", "I;16B", "I;16L", "F")  # Pillow's modes of one channel of numbers
_PNG = b"\x89PNG\r\n\x1a\n"
_COLOURS = {tiff.CMYK: "CMYK", tiff.YCBCR: "YCbCr", tiff.LAB: "LAB"}
_KINDS_OF_NUMBERS = {"u": "unsigned", "i": "signed", "f": "float"}
# What a mask may be inside, whatever its ending says; Pillow knows others, of which one runs a program (EPS)
_FORMATS = ("PNG", "TIFF", "BMP", "DIB", "GIF", "WEBP", "JPEG")
_LARGEST = 2**31  # whole numbers from here on are no labels, and would not survive a cast to 32 bits


class Picture(NamedTuple):
    """A mask's picture, completely decoded.

    Attributes:
        image: as Pillow has it; one of mode F and a single pixel where `numbers` stand in its place.
        packing: how the file stores pixels, in Pillow's words ("L;4", "RGB;16B"); "" where it does not say.
        numbers: (H, W), of a TIFF of one channel that Pillow does not read as it is meant.
        white_is_zero: whether a TIFF says so of grey; its values are turned round.
    """

    image: Image.Image
    packing: str
    numbers: np.ndarray | None = None
    white_is_zero: bool = False

    @property
    def is_grey(self) -> bool:
        """Return whether it holds one channel of numbers, or indices of a palette."""
        return self.numbers is not None or self.image.mode in NUMBER_MODES

    def array(self) -> np.ndarray:
        """Return the pixels as they were decoded, (H, W) or (H, W, C)."""
        return np.asarray(self.image) if self.numbers is None else self.numbers


def read_indices(path: Path, max_pixels: int) -> np.ndarray:
    """Read a picture of class indices: grey (1 to 32 bits, or float) or palette, whose palette is not applied.

    An EXIF orientation is not applied, as with images. The three equal channels in which WebP stores grey are taken as
    one. Of a GIF the grey of the palette counts, as programs that write it sort and drop the palette's entries.

    Returns:
        (H, W), uint8, or uint16 for 16-bit files, or int32 or int64 if the values require it.

    Raises:
        DataError: the file is unreadable, truncated, has colours or transparency instead of indices, fractions, lossy
            compression, several pages, or more than `max_pixels` pixels.
    """
    with _decoding(path) as data:
        if (mask := _plain_grey(data, path, max_pixels)) is not None:
            return mask
    picture = load_picture(path, max_pixels, lossless=True)
    if picture.image.format == "GIF":
        return _one_channel(np.asarray(picture.image.convert("RGB")), "P with a palette of colours", path)
    # Of one bit, the two values can only be meant as black and white
    if picture.white_is_zero and picture.image.mode != "1" and picture.packing != "L;1":
        raise DataError(f"{path}: a TIFF in which 0 is white, so its values may be meant inverted. Write it anew.")
    if picture.image.mode == "LA" or (picture.image.mode in ("RGB", "RGBA") and picture.image.format == "WEBP"):
        return _one_channel(np.asarray(picture.image), picture.image.mode, path)
    if not picture.is_grey:
        raise _coloured(path, picture.image.mode)
    return stored_numbers(picture, path)


def read_plain_grey(path: Path, max_pixels: int) -> np.ndarray | None:
    """Read an undamaged PNG of plain grey of 8 or 16 bits, (H, W) uint8 or uint16; None for all other files.

    Of a PNG with a grey value that is transparent nothing is returned either.

    Raises:
        DataError: a missing file, or more than `max_pixels` pixels.
    """
    with _decoding(path) as data:
        first = header(data)
        if first is None or first.transparent is not None or not data.startswith(_PNG) or not _intact(data):
            return None
        return _plain_grey(data, path, max_pixels)


def load_picture(path: Path, max_pixels: int, lossless: bool = False) -> Picture:
    """Read a mask's picture of one page.

    Args:
        path: its file.
        max_pixels: refuse larger ones before decoding them.
        lossless: refuse compression that changes values.

    Raises:
        DataError: a missing, unreadable, truncated or multi-page file, or one that the arguments exclude.
    """
    with _decoding(path) as data:
        if not is_tiff(data):
            return _plain(data, path, max_pixels, lossless)
        found = read_tiff(io.BytesIO(data))
        if (pages := len(found.pages)) > 1:
            raise _several(path, pages)
        return _page(path, found, found.pages[0], max_pixels, lossless)


def load_pages(path: Path, max_pixels: int, most: int) -> list[Picture]:
    """Read all pages of a mask's picture.

    Raises:
        DataError: a missing, unreadable, truncated or lossy file, more than `most` pages, or a page over `max_pixels`.
    """
    with _decoding(path) as data:
        if not is_tiff(data):
            return [_plain(data, path, max_pixels, True)]
        found = read_tiff(io.BytesIO(data))
        if len(found.pages) > most:
            raise DataError(f"{path}: has more pages ({len(found.pages)}) than there are classes ({most}).")
        return [_page(path, found, page, max_pixels, True) for page in found.pages]


def stored_numbers(picture: Picture, path: Path) -> np.ndarray:
    """Return the numbers (H, W) of a picture that `is_grey`, as the file stores them.

    Raises:
        DataError: fractions, NaN or infinity.
    """
    array = picture.array()
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype == np.int8:  # which OpenCV cannot warp
        return array.astype(np.int16)
    if (stretch := GREY_STRETCH.get(picture.packing, 1)) > 1:
        return array // np.uint8(stretch)
    return compact(whole_numbers(array, path))


def whole_numbers(array: np.ndarray, name: object) -> np.ndarray:
    """Return whole numbers that are stored as floats as integers, and integers as they are.

    Raises:
        DataError: fractions, NaN, infinity or numbers beyond 32 bits; the message counts their pixels.
    """
    if array.dtype.kind != "f":
        return array
    with np.errstate(invalid="ignore", over="ignore"):  # 2^31 is more than float16 holds
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
    if image.format in ("JPEG", "MPO") or lossy_webp:
        raise _lossy(path)


def _lossy(path: Path) -> DataError:
    return DataError(
        f"{path}: its lossy compression changes values, and so labels. Write the mask without loss, as PNG."
    )


def alpha_of(image: Image.Image) -> np.ndarray | None:
    """Return the alpha channel (H, W) of a picture, 0..255; None if no pixel can be transparent."""
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
        data = regular(path).read_bytes()
        with unlimited():
            yield data
    except DataError:
        raise
    except Exception as error:  # decoders raise classes of all kinds for damaged data
        kind = damage(data, error)
        why: object = error if str(error) else type(error).__name__
        if isinstance(error, UnidentifiedImageError):  # Pillow would name an object in memory
            why = "it is empty" if kind == "zero_byte" else "it is in no known picture format"
        raise DataError(
            f"{path}: cannot be read as a mask ({why}). Write the file again or remove it.", kind
        ) from error


def _plain_grey(data: bytes, path: Path, max_pixels: int) -> np.ndarray | None:
    """Decode a PNG of plain grey of 8 or 16 bits; None for all other files, and where it is damaged.

    Pillow decodes while it holds Python's lock; plain grey OpenCV reads alike, and beside other threads.
    """
    first = header(data)
    if first is None or first.grey_bits not in (8, 16) or first.frames != 1 or not opencv_holds(first.size):
        return None
    if not data.endswith(PNG_END):
        return None
    check_size(path, first.size, max_pixels)
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    return mask if mask is not None and mask.shape == first.size[::-1] else None


def _plain(data: bytes, path: Path, max_pixels: int, lossless: bool) -> Picture:
    """Decode a picture other than TIFF."""
    if data.startswith(_PNG) and not _intact(data):  # Pillow takes damaged pixels for sound ones
        raise DataError(
            f"{path}: cannot be read as a mask (its checksums do not fit, or it is truncated). Write the file again or "
            "remove it.",
            damage(data, ValueError()),
        )
    if (size := stated_size(data)) is not None:
        check_size(path, size, max_pixels)
    image = Image.open(io.BytesIO(data), formats=_FORMATS)
    check_size(path, image.size, max_pixels)
    if (frames := _frames(image, data)) > 1:
        raise _several(path, frames)
    check_bmp(path, image, data)
    packing = _packing(image)
    if ";16" in packing and not image.mode.startswith("I"):
        raise _deep_colours(path)
    if lossless:
        check_lossless(image, path, data)
    image.load()
    return Picture(image, packing)


def _page(path: Path, found: Tiff, page: Page, max_pixels: int, lossless: bool) -> Picture:
    """Decode a page of a TIFF as stored; the caller applies its orientation, as with images."""
    check_page(path, page, max_pixels)
    if lossless and page.compression in LOSSY_IN_TIFF:
        raise _lossy(path)
    white_is_zero = page.photometric == tiff.WHITE_IS_ZERO
    if pillow_channels(found, page):
        image = Image.open(io.BytesIO(page_bytes(path, found, page)), formats=("TIFF",))
        packing = _packing(image)
        image.load()
        return Picture(image, packing, white_is_zero=white_is_zero)
    if page.photometric in _COLOURS:
        mode = _COLOURS[page.photometric]
        raise DataError(f"{path}: a picture of mode {mode}, which has no grey values. Write it as grey PNG.")
    if page.samples == 1:
        numbers = page_picture(path, found, page).read().reshape(page.size[::-1])
        return Picture(Image.new("F", (1, 1)), f"L;{page.bits}", numbers, white_is_zero)
    if page.bits == 16 and page.photometric == tiff.RGB and page.number == "u":
        raise _deep_colours(path)
    kind = f"{page.samples} channels of {page.bits} bits, {_KINDS_OF_NUMBERS[page.number]}"
    cure = "Write it as PNG, with one channel of class indices, or in grey or RGB of 8 bits without other channels."
    raise refused(path, f"is a mask that is a TIFF of {kind}", cure)


def _frames(image: Image.Image, data: bytes) -> int:
    """Return how many pictures a file holds; previews behind a JPEG are none."""
    if image.format == "GIF":
        return len(gif_frames(data))
    return int(getattr(image, "n_frames", 1)) if image.format in ("PNG", "WEBP") else 1


def _several(path: Path, count: int) -> DataError:
    return DataError(
        f"{path}: holds {count} pages or frames, of which only one can be the mask. Write it with one; pages that "
        "are classes are read by masks: channels with mode: multilabel."
    )


def _deep_colours(path: Path) -> DataError:
    return DataError(
        f"{path}: colours of 16 bits, of which Pillow reads the upper 8. Write the mask with 8 bits a channel."
    )


def _packing(image: Image.Image) -> str:
    """Return how a freshly opened picture's pixels are packed in its file ("L;4"), or ""."""
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""


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

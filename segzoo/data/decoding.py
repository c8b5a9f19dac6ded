"""Lossless image decoding: choice of a decoder for each file, and refusal of files that decoders would misread.

docs/sample-types.md says what each kind of sample becomes. OpenCV decodes PNG and JPEG (a JPEG of
480 x 360 in 1.5 ms, Pillow in 2.0 ms), Pillow what else has 8 bits, OpenCV TIFFs of more bits where it reads them
right, and GDAL, by rasterio, those that remain.
"""

from __future__ import annotations

import functools
import io
import struct
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from segzoo.data import tiff
from segzoo.data.headers import Header, bmp_bits, gif_frames, header, stated_size
from segzoo.data.tiff import Page, Tiff, is_tiff, read_tiff
from segzoo.errors import DataError, SegzooError
from segzoo.extras import install_command
from segzoo.files import regular

# Others are not even tried: Pillow runs Ghostscript on EPS, and reads 16 bits of JPEG 2000 as 8.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF")
PNG_END = b"IEND\xaeB`\x82"  # the chunk that ends every complete PNG, with its checksum
# How PNG and JPEG begin, and how they end. Entropy-coded JPEG data cannot contain its end marker.
_WHOLE = ((b"\x89PNG", PNG_END), (b"\xff\xd8", b"\xff\xd9"))
# Pillow's modes, and those that they are converted to: grey or RGB, with or without alpha, as viewers show them.
_MODES = {
    "1": "L", "L": "L", "LA": "LA", "La": "LA", "P": "RGB", "PA": "RGBA", "RGB": "RGB", "RGBA": "RGBA", "CMYK": "RGB",
    "YCbCr": "RGB",
}  # fmt: skip
_WITH_ALPHA = {"L": "LA", "RGB": "RGBA"}
# TIFFs of up to 8 bits that Pillow reads as they are meant: (photometric, samples, extra samples) to channels.
_BY_PILLOW = {
    (tiff.WHITE_IS_ZERO, 1, ()): 1,
    (tiff.BLACK_IS_ZERO, 1, ()): 1,
    (tiff.BLACK_IS_ZERO, 2, (tiff.STRAIGHT,)): 2,
    (tiff.BLACK_IS_ZERO, 2, (tiff.PREMULTIPLIED,)): 2,
    (tiff.RGB, 3, ()): 3,
    (tiff.RGB, 4, (tiff.STRAIGHT,)): 4,
    (tiff.RGB, 4, (tiff.PREMULTIPLIED,)): 4,
    (tiff.PALETTE, 1, ()): 3,
    (tiff.PALETTE, 2, (tiff.STRAIGHT,)): 4,
    (tiff.CMYK, 4, ()): 3,
    (tiff.YCBCR, 3, ()): 3,
}
_COMPRESSIONS_OF_OPENCV = (1, 5, 8, 32773, 32946)  # none, LZW, Deflate, PackBits, Deflate's old number
_COMPRESSIONS_OF_PILLOW = (*_COMPRESSIONS_OF_OPENCV, 2, 3, 4, 6, 7, 34925, 50000)  # and fax, JPEG, LZMA, Zstandard
_JPEG_IN_TIFF = (6, 7)
LOSSY_IN_TIFF = (*_JPEG_IN_TIFF, 34887, 34892, 50001, 50002)  # JPEG, and what can lose: LERC, JPEG, WebP, JPEG XL
# OpenCV decodes no more, whatever is asked for (its CV_IO_MAX_IMAGE_PIXELS and CV_IO_MAX_IMAGE_WIDTH)
_OPENCV_PIXELS, _OPENCV_SIDE = 2**30, 2**20
_STRETCHED = {1: 255, 2: 85, 4: 17}  # bits of a sample to the factor that makes them 0..255
_NAMES = {tiff.PALETTE: "a palette", tiff.CMYK: "CMYK", tiff.YCBCR: "YCbCr", tiff.LAB: "CIE L*a*b*"}


class Picture(NamedTuple):
    """Image file with a parsed header and pixels that are not decoded yet.

    Attributes:
        size: width and height in pixels.
        channels: what `read` returns.
        bands: whether channels are bands, each with a meaning of its own, and not grey or colours and perhaps alpha.
        read: decodes, (H, W) or (H, W, channels), in the type of numbers that the file holds; raises anything.
    """

    size: tuple[int, int]
    channels: int
    bands: bool
    read: Callable[[], np.ndarray]


def open_image(path: Path, max_pixels: int, bands: Sequence[int] | None = None) -> Picture:
    """Read the header of a PNG, JPEG, BMP, WebP, GIF or TIFF, and choose how its pixels are decoded.

    Palettes are applied, CMYK and YCbCr become RGB, white that is zero is turned round, and 1, 2 and 4 bits are
    stretched to 0..255, all as viewers show them. An orientation is applied neither here nor to masks.

    Args:
        path: the file.
        max_pixels: refuse larger images before decoding them.
        bands: those to read, the first being 1; of a TIFF as they are stored, with nothing applied.

    Raises:
        DataError: missing, unreadable or cut; too large; several pictures in one file; or of a kind that no decoder
            reads as it is meant.
    """
    with reading(path), regular(path).open("rb", buffering=0) as stream:
        start = stream.read(4)
        stream.seek(0)
        if is_tiff(start):
            return _open_tiff(path, stream, max_pixels, bands)
        data = stream.read()
        picture = _open_plain(path, data, max_pixels)
        return picture if bands is None else _chosen(path, picture, data, bands)


class _PillowsLimit:
    """Reference-counted removal of Pillow's pixel limit, which is global to the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._limit: int | None = None

    @contextmanager
    def lifted(self) -> Iterator[None]:
        with self._lock:
            if not self._readers:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1
                if not self._readers:
                    Image.MAX_IMAGE_PIXELS = self._limit


_pillows_limit = _PillowsLimit()


def unlimited() -> AbstractContextManager[None]:
    """Lift Pillow's limit of 89 million pixels (twice that is an error), so that `max_pixels` is the only one.

    What reads under it compares the size that the header states with `max_pixels` before it decodes.
    """
    return _pillows_limit.lifted()


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


def _open_plain(path: Path, data: bytes, max_pixels: int) -> Picture:
    """Open a file other than TIFF."""
    if (size := stated_size(data)) is not None:
        check_size(path, size, max_pixels)
    first = header(data)
    if first is not None:
        check_single(path, first.frames, "frames")
        if first.format == "JPEG" and (first.bits != 8 or first.channels not in (1, 3, 4)):
            held = f"is a JPEG of {first.channels} channels of {first.bits} bits"
            raise refused(path, held, "Write it as PNG or TIFF, in 16 bits where it has more than 8.")
        large = not opencv_holds(first.size)
        if large and first.bits > 8:
            raise refused(path, f"has {first.bits} bits and more pixels than OpenCV decodes", "Write it as TIFF.")
        if not large and (first.format == "PNG" or first.channels != 4):  # OpenCV's CMYK is another than Pillow's
            if not is_whole(data):
                with Image.open(io.BytesIO(data), formats=(first.format,)) as picture:
                    picture.load()  # where pixels are missing Pillow raises; OpenCV may return them grey
            channels = 2 if first.transparent is not None else first.channels
            return Picture(first.size, channels, False, functools.partial(_opencv, data, first))
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:  # reads the header only
        check_size(path, picture.size, max_pixels)
        check_picture(path, picture, data)
        channels = len(_mode(picture))  # a letter each
        return Picture(picture.size, channels, False, functools.partial(_pillow, data))


def _chosen(path: Path, picture: Picture, data: bytes, bands: Sequence[int]) -> Picture:
    """Return a picture with some of its channels, the first being 1."""
    first = header(data)
    if data.startswith(b"GIF") or (first is not None and first.palette) or (data[:2] == b"BM" and bmp_bits(data) <= 8):
        raise refused(path, "has a palette, so its channels are no bands", "Leave data.bands out.")
    _check_bands(path, bands, picture.channels)
    chosen = [band - 1 for band in bands]

    def read() -> np.ndarray:
        pixels = picture.read()
        return (pixels[..., None] if pixels.ndim == 2 else pixels)[..., chosen]

    return Picture(picture.size, len(chosen), True, read)


def _check_bands(path: Path, bands: Sequence[int], count: int) -> None:
    if max(bands) > count or min(bands) < 1:
        raise DataError(f"{path}: has the bands 1 to {count}, but data.bands is {list(bands)}.")


def _opencv(data: bytes, first: Header) -> np.ndarray:
    """Decode a PNG or JPEG: (H, W), or (H, W, C) with colours as RGB."""
    pixels = _in_rgb(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    if pixels.shape[:2] != first.size[::-1]:
        raise ValueError("its data are damaged")
    if first.format == "PNG" and first.channels == 2:  # OpenCV repeats the grey
        return pixels[..., [0, 3]]
    if first.transparent is not None:
        most = np.iinfo(pixels.dtype).max
        key = first.transparent * _STRETCHED.get(first.bits, 1)
        return np.stack([pixels, np.where(pixels == key, 0, most).astype(pixels.dtype)], axis=-1)
    return pixels


def _in_rgb(pixels: np.ndarray | None) -> np.ndarray:
    if pixels is None:
        raise ValueError("its data are damaged")
    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        order = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
        if pixels.dtype in (np.uint8, np.uint16, np.float32):
            return cv2.cvtColor(pixels, order)
        return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    return pixels


def _pillow(data: bytes) -> np.ndarray:
    """Decode a picture as viewers show it: (H, W), or (H, W, C) of grey and alpha, RGB or RGBA, uint8."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
        mode = _mode(picture)
        picture.load()
        return np.asarray(picture if picture.mode == mode else picture.convert(mode))


def _mode(picture: Image.Image) -> str:
    """Return the mode that a picture is converted to."""
    if picture.mode not in _MODES:
        raise ValueError(f"its pixels are of the kind {picture.mode}, which is not read")
    mode = _MODES[picture.mode]
    return _WITH_ALPHA.get(mode, mode) if picture.has_transparency_data else mode


def _open_tiff(path: Path, stream: BinaryIO, max_pixels: int, bands: Sequence[int] | None) -> Picture:
    found, page = _only_page(path, stream, max_pixels)
    if bands is None:
        return page_picture(path, found, page)
    _check_bands(path, bands, page.samples)
    plain = page.photometric != tiff.YCBCR or page.compression in _JPEG_IN_TIFF  # which libtiff decodes to RGB
    if page.photometric in (tiff.CMYK, tiff.LAB) or not plain:
        raise refused(path, f"is a TIFF in {_NAMES[page.photometric]}, which has no bands", "Convert it to RGB.")
    _refuse_odd_bits(path, page)
    _require_rasterio(path, "bands are")
    return Picture(page.size, len(bands), True, functools.partial(_gdal, path, page, list(bands)))


def page_picture(path: Path, found: Tiff, page: Page) -> Picture:
    """Choose how a page of a TIFF, checked by `check_page`, is decoded to what viewers show.

    Raises:
        DataError: of a kind that no decoder reads as it is meant.
    """
    if channels := pillow_channels(found, page):
        return Picture(page.size, channels, False, lambda: _pillow(page_bytes(path, found, page)))
    _refuse_unknown_colours(path, page)
    _refuse_odd_bits(path, page)
    if page.bits < 8 and page.bits not in _STRETCHED:
        cure = "Write it with 8 bits, or name its bands by data.bands to take them as they are stored."
        raise refused(path, f"has samples of {page.bits} bits", cure)
    colours = page.photometric == tiff.RGB and page.samples in (3, 4)
    grey = page.samples == 1 or (page.samples == 2 and page.extra == (tiff.STRAIGHT,))
    if _opencv_reads(page):
        read = functools.partial(_opencv_tiff, path, found, page)
    else:
        kind = f"{page.samples} band(s) of {page.bits} bits"
        _require_rasterio(path, f"TIFFs of {kind}{'' if page.chunky else ', band after band,'} are")
        read = functools.partial(_gdal, path, page)
    return Picture(page.size, page.samples, not (colours or grey), read)


def _only_page(path: Path, stream: BinaryIO, max_pixels: int) -> tuple[Tiff, Page]:
    """Return the directory of a single-page TIFF.

    Raises:
        TiffError: the directory is damaged, or pixels are missing.
        DataError: several pages, too many pixels, or complex numbers.
    """
    found = read_tiff(stream)
    page = found.pages[0]
    check_page(path, page, max_pixels)
    check_single(path, len(found.pages), "pages")
    if not found.first:
        raise refused(path, "begins with an overview instead of its page", "Write the page alone.")
    return found, page


def check_page(path: Path, page: Page, max_pixels: int) -> None:
    """Raise DataError for a page of too many pixels, or of complex numbers."""
    check_size(path, page.size, max_pixels)
    if page.number == "c":
        raise refused(path, "holds complex numbers", "Write their magnitude, or two bands of real numbers.")


def pillow_channels(found: Tiff, page: Page) -> int:
    """Return the number of channels of a page that Pillow decodes correctly; 0 for any other page."""
    readable = page.number == "u" and not page.sparse and (found.little_endian or not found.big)
    if page.bits not in (1, 2, 4, 8) or (page.bits < 8 and page.samples > 1) or not readable:
        return 0
    if not (page.chunky or (page.photometric == tiff.RGB and tiff.PREMULTIPLIED not in page.extra)):
        return 0
    if page.compression not in _COMPRESSIONS_OF_PILLOW:
        return 0
    return _BY_PILLOW.get((page.photometric, page.samples, page.extra), 0)


def _refuse_unknown_colours(path: Path, page: Page) -> None:
    """Raise DataError for pages whose samples are neither plain numbers nor read by Pillow."""
    if page.photometric not in (tiff.WHITE_IS_ZERO, tiff.BLACK_IS_ZERO, tiff.RGB):
        name = _NAMES.get(page.photometric, f"photometric {page.photometric}")
        held = f"is a TIFF in {name} ({page.samples} samples of {page.bits} bits)"
        raise refused(path, held, "Convert it to grey or RGB.")
    if tiff.PREMULTIPLIED in page.extra:
        raise refused(
            path,
            f"stores colours of {page.bits} bits multiplied by their alpha",
            "Write it with straight alpha, or name its bands by data.bands to take them as they are stored.",
        )
    if page.photometric == tiff.WHITE_IS_ZERO and page.number != "u":
        raise refused(path, "says that white is zero, of numbers with a sign", "Write it with black as zero.")


def _refuse_odd_bits(path: Path, page: Page) -> None:
    """Raise DataError for samples of bits whose order in the file programs do not agree on, such as 24."""
    if page.bits > 16 and page.bits not in (32, 64) and page.number != "f":
        raise refused(path, f"has samples of {page.bits} bits", "Write it with 8, 16, 32 or 64 bits.")
    if page.number == "f" and page.bits not in (16, 32, 64):
        raise refused(path, f"has floating-point samples of {page.bits} bits", "Write it with 16, 32 or 64 bits.")


def opencv_holds(size: tuple[int, int]) -> bool:
    """Return True if OpenCV accepts a picture of (width, height) `size`."""
    return size[0] * size[1] <= _OPENCV_PIXELS and max(size) <= _OPENCV_SIDE


def _opencv_reads(page: Page) -> bool:
    """Return True if OpenCV decodes a page as it is stored, as found for 4.10 to 5.0 by comparing with GDAL."""
    if not page.chunky or page.sparse or page.compression not in _COMPRESSIONS_OF_OPENCV:
        return False
    if not opencv_holds(page.size) or (page.tiled and page.bits == 8 and page.number == "i"):
        return False
    if page.bits in (32, 64):
        known = page.bits == 32 or page.number == "f"
        return known and page.samples in (1, 3, 4) and page.photometric != tiff.WHITE_IS_ZERO
    if page.bits not in (8, 16) or page.number == "f":
        return False
    if page.photometric == tiff.BLACK_IS_ZERO:
        return page.samples == 1
    multiplied = page.bits == 8 and page.extra == (tiff.STRAIGHT,)  # by OpenCV
    return page.photometric == tiff.RGB and page.samples in (3, 4) and not multiplied


def _opencv_tiff(path: Path, found: Tiff, page: Page) -> np.ndarray:
    data = np.frombuffer(page_bytes(path, found, page), np.uint8)
    return _as_declared(_in_rgb(cv2.imdecode(data, cv2.IMREAD_UNCHANGED)), page)


def _gdal(path: Path, page: Page, bands: Sequence[int] | None = None) -> np.ndarray:
    """Decode all bands of a page as viewers show it, or some as they are stored: (H, W, bands)."""
    with _rasterio().open(f"GTIFF_DIR:off:{page.directory}:{path.absolute()}", driver="GTiff") as raster:
        pixels = np.ascontiguousarray(raster.read(bands).transpose(1, 2, 0))
    if bands is not None:
        return pixels
    _as_declared(pixels, page)
    if page.photometric == tiff.WHITE_IS_ZERO:
        pixels = ((1 << page.bits) - 1 - pixels).astype(pixels.dtype)
    return pixels * np.uint8(_STRETCHED[page.bits]) if page.bits < 8 else pixels


def _as_declared(pixels: np.ndarray, page: Page) -> np.ndarray:
    """Return a decoded page; ValueError if its shape or type contradicts the directory."""
    shape = pixels.shape if pixels.ndim == 3 else (*pixels.shape, 1)
    if shape != (page.size[1], page.size[0], page.samples) or pixels.dtype.kind != page.number:
        raise ValueError(f"its decoder returns {shape} {pixels.dtype}, which its directory does not tell of")
    return pixels


def page_bytes(path: Path, found: Tiff, page: Page) -> bytes:
    """Return a TIFF whose first page is this one, with its `misleading` tags neutralised.

    Pillow and OpenCV would apply an orientation: that is for the caller to say.
    """
    data = bytearray(path.read_bytes())
    place, form = found.first_at
    struct.pack_into(form, data, place, page.directory)
    for place, form in page.misleading:
        struct.pack_into(form, data, place, 1)
    return bytes(data)


@functools.cache
def _rasterio() -> Any:
    """Import rasterio with its warning about missing georeferencing disabled, as filters are not thread-safe."""
    import rasterio
    import rasterio.errors

    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    return rasterio


def _require_rasterio(path: Path, what: str) -> None:
    try:
        _rasterio()
    except ImportError as error:
        raise DataError(
            f"{path}: {what} read by rasterio, which is not installed: {install_command('geo')}."
        ) from error


def is_whole(data: bytes) -> bool:
    """Return True if a PNG or JPEG ends with its end marker."""
    return any(data.startswith(first) and data.endswith(last) for first, last in _WHOLE)


def check_size(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    """Raise DataError for a picture of (width, height) `size` that is over the limit."""
    if size[0] * size[1] > max_pixels:
        raise too_many_pixels(path, size, max_pixels)


def too_many_pixels(path: Path, size: tuple[int, int], max_pixels: int) -> DataError:
    """Return the error for a picture of (width, height) `size` that is over the limit."""
    width, height = size
    return DataError(
        f"{path}: {width} x {height} is {width * height} pixels, over the limit of {max_pixels} that guards memory. "
        f"Raise the limit to {width * height}, by data.max_pixels (on the command line --set data.max_pixels=..., of "
        "predict --max-pixels), or cut the picture into tiles.",
        "too_large",
    )


def check_picture(path: Path, picture: Image.Image, data: bytes) -> None:
    """Raise DataError for a picture that Pillow opened and that holds several, or that Pillow would misread.

    Of a JPEG with others appended (MPO), as cameras write them, the first is the picture and those are previews.
    """
    check_bmp(path, picture, data)
    if picture.format == "GIF":
        frames = gif_frames(data)
        check_single(path, len(frames), "frames")
        if not frames or frames[0] != (0, 0, *picture.size):
            raise refused(path, "has a frame smaller than itself", "Write it with a frame of its whole size.")
    elif picture.format != "MPO":
        check_single(path, getattr(picture, "n_frames", 1), "frames")


def check_bmp(path: Path, picture: Image.Image, data: bytes) -> None:
    """Raise DataError for a BMP whose palette makes Pillow assume a wrong number of bits per pixel."""
    if picture.format not in ("BMP", "DIB") or picture.mode not in ("1", "L"):
        return
    bits = bmp_bits(data)
    if bits != (1 if picture.mode == "1" else 8):
        held = (
            f"is a BMP of {bits} bits with a palette of {'black and white alone' if picture.mode == '1' else 'greys'}"
        )
        raise refused(path, held, "Write it as PNG.")


def check_single(path: Path, count: int, parts: str) -> None:
    """Raise DataError for a file of several pages or frames."""
    if count > 1:
        raise DataError(
            f"{path}: has {count} {parts}, and which of them is meant is not for segzoo to guess. Write each that is "
            f"wanted into a file of its own, such as with Pillow: picture = Image.open({path.name!r}); "
            "picture.seek(0); picture.save('0.png'), where 0 is the first.",
            "several_pictures",
        )


def refused(path: Path, held: str, cure: str) -> DataError:
    """Return the error for an intact file that no decoder reads correctly."""
    return DataError(f"{path}: {held}, which is not read. {cure}", "unreadable")


def damage(data: bytes | None, error: Exception) -> str:
    """Return the kind of problem of a picture file that could not be decoded.

    Args:
        data: what the file holds; None where not even that could be read.
        error: what the decoder raised.
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
    if what == "image":
        cure = "The file is probably truncated or no image: copy it again, or remove it together with its mask."
    else:
        cure = "Write the file again or remove it."
    article = "an" if what == "image" else "a"
    return DataError(f"{path}: cannot be read as {article} {what} ({why}). {cure}", kind)

"""Choice of a decoder for each page of a TIFF, and refusal of those that none reads as they are meant."""

from __future__ import annotations

import functools
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from segzoo.data import tiff
from segzoo.data.codecs import STRETCHED, Picture, in_rgb, opencv_holds, pillow
from segzoo.data.refusals import check_bands, check_single, check_size, refused
from segzoo.data.tiff import Page, Tiff, read_tiff
from segzoo.errors import DataError
from segzoo.extras import install_command

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

_COLOURS = {tiff.PALETTE: "a palette", tiff.CMYK: "CMYK", tiff.YCBCR: "YCbCr", tiff.LAB: "CIE L*a*b*"}


def open_tiff(path: Path, stream: BinaryIO, max_pixels: int, bands: Sequence[int] | None) -> Picture:
    """Choose how the only page of a TIFF is decoded: as viewers show it, or `bands` as they are stored.

    Raises:
        TiffError: the directory is damaged, or pixels are missing.
        DataError: several pages, too many pixels, or a kind of file that no decoder reads correctly.
    """
    found, page = _only_page(path, stream, max_pixels)
    if bands is None:
        return page_picture(path, found, page)
    check_bands(path, bands, page.samples)
    plain = page.photometric != tiff.YCBCR or page.compression in _JPEG_IN_TIFF  # which libtiff decodes to RGB
    if page.photometric in (tiff.CMYK, tiff.LAB) or not plain:
        raise refused(path, f"is a TIFF in {_COLOURS[page.photometric]}, which has no bands", "Convert it to RGB.")
    _refuse_odd_bits(path, page)
    _require_rasterio(path, "bands are")
    return Picture(page.size, len(bands), True, functools.partial(_gdal, path, page, list(bands)))


def page_picture(path: Path, found: Tiff, page: Page) -> Picture:
    """Choose how a page of a TIFF, checked by `check_page`, is decoded to what viewers show.

    Raises:
        DataError: a kind of file that no decoder reads correctly.
    """
    if channels := pillow_channels(found, page):
        return Picture(page.size, channels, False, lambda: pillow(page_bytes(path, found, page)))
    _refuse_unknown_colours(path, page)
    _refuse_odd_bits(path, page)
    if page.bits < 8 and page.bits not in STRETCHED:
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
    check_single(path, len(found.pictures), "pages")
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
    """Raise DataError for pages whose samples are not plain numbers and that Pillow does not read."""
    if page.photometric not in (tiff.WHITE_IS_ZERO, tiff.BLACK_IS_ZERO, tiff.RGB):
        name = _COLOURS.get(page.photometric, f"photometric {page.photometric}")
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
    return _as_declared(in_rgb(cv2.imdecode(data, cv2.IMREAD_UNCHANGED)), page)


def _gdal(path: Path, page: Page, bands: Sequence[int] | None = None) -> np.ndarray:
    """Decode all bands of a page as viewers show it, or some as they are stored: (H, W, bands)."""
    with import_rasterio().open(f"GTIFF_DIR:off:{page.directory}:{path.absolute()}", driver="GTiff") as raster:
        pixels = np.ascontiguousarray(raster.read(bands).transpose(1, 2, 0))
    if bands is not None:
        return pixels
    _as_declared(pixels, page)
    if page.photometric == tiff.WHITE_IS_ZERO:
        pixels = ((1 << page.bits) - 1 - pixels).astype(pixels.dtype)
    return pixels * np.uint8(STRETCHED[page.bits]) if page.bits < 8 else pixels


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
def import_rasterio() -> Any:
    """Import rasterio with its warning about missing georeferencing disabled, as filters are not thread-safe."""
    import rasterio
    import rasterio.errors

    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    return rasterio


def _require_rasterio(path: Path, what: str) -> None:
    try:
        import_rasterio()
    except ImportError as error:
        raise DataError(
            f"{path}: {what} read by rasterio, which is not installed: {install_command('geo')}."
        ) from error

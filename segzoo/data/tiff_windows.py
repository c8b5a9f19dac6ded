"""TIFFs that are read by windows, for images that memory does not hold: the same pixels as whole reading gives.

JPEG in TIFF is decoded by another library than whole reading uses, whose values differ by a few levels of 255.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from segzoo.data import tiff
from segzoo.data.codecs import STRETCHED
from segzoo.data.refusals import check_bands, check_single, refused
from segzoo.data.tiff import Page, TiffError, is_tiff, read_tiff
from segzoo.data.tiff_decoding import check_page, import_rasterio
from segzoo.errors import DataError, MissingPackageError
from segzoo.extras import install_command
from segzoo.files import regular

_MOST_BLOCK = 2**26  # pixels of a strip or tile of the file: GDAL decodes it whole for a single pixel
_NO_LIMIT = 2**63
_CACHE = 2**26  # bytes of decoded blocks that GDAL keeps; its default is 5% of the machine's memory


def tiff_size(path: Path) -> tuple[int, int] | None:
    """Return width and height of the first page of a TIFF; None for another file, or one that cannot be read."""
    try:
        with regular(path).open("rb", buffering=0) as stream:
            return read_tiff(stream).pages[0].size if is_tiff(stream.read(4)) else None
    except (OSError, ValueError):  # the reader of images says why
        return None


def limited_cache() -> Any:
    """Return a context in which GDAL keeps at most 64 MiB of decoded blocks."""
    return import_rasterio().Env(GDAL_CACHEMAX=_CACHE)


class TiffWindows:
    """Page of a TIFF, opened for reading windows of it by rasterio; a context manager.

    Args:
        path: the file.
        bands: those to read, the first being 1, as they are stored; None: all, as viewers show them.

    Attributes:
        size: height and width in pixels.
        channels: number of channels of a window.
        of_bands: whether channels are bands, and not grey or colours and perhaps alpha.

    Raises:
        MissingPackageError: rasterio is not installed.
        DataError: the file is damaged, has several pages, or is of a kind that is not read by windows.
    """

    def __init__(self, path: Path, bands: Sequence[int] | None):
        try:
            rasterio = import_rasterio()
        except ImportError as error:
            raise MissingPackageError(
                f"{path}: images over the limit of pixels (--max-pixels) are read by windows, which needs rasterio, "
                f"which is not installed: {install_command('geo')}."
            ) from error
        self._path = path
        self._bands = None if bands is None else list(bands)
        self._page = page = _page(path)
        if bands is not None:
            check_bands(path, bands, page.samples)
        _check_readable(path, page, bands is not None)
        self.size = page.size[::-1]
        self.channels = page.samples if bands is None else len(bands)
        grey = page.samples == 1 or (page.samples == 2 and page.extra == (tiff.STRAIGHT,))
        colours = page.photometric in (tiff.RGB, tiff.YCBCR) and page.samples in (3, 4)
        self.of_bands = bands is not None or not (colours or grey)
        self._errors = (rasterio.errors.RasterioError, ValueError)
        self._raster = self._tried(lambda: rasterio.open(f"GTIFF_DIR:off:{page.directory}:{path.absolute()}"))
        height, width = self._raster.block_shapes[0]
        if height * width > _MOST_BLOCK:
            self._raster.close()
            raise refused(
                path,
                f"is stored in blocks of {width} x {height} pixels, larger than windows can be read from",
                f"Write it in tiles: gdal_translate -co TILED=YES -co BIGTIFF=IF_SAFER {path.name} tiled.tif.",
            )

    def __enter__(self) -> TiffWindows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._raster.close()

    def read(self, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
        """Read a window `(h, w, channels)` in the numbers that the file holds.

        Args:
            rows: first row and the one after the last.
            columns: first column and the one after the last.

        Raises:
            DataError: pixels are damaged or missing.
        """
        pixels = self._tried(lambda: self._raster.read(self._bands, window=(rows, columns)))
        pixels = np.ascontiguousarray(pixels.transpose(1, 2, 0))
        if self._bands is not None:
            return pixels
        page = self._page
        if page.photometric == tiff.WHITE_IS_ZERO:
            pixels = ((1 << page.bits) - 1 - pixels).astype(pixels.dtype)
        return pixels * np.uint8(STRETCHED[page.bits]) if page.bits < 8 else pixels

    def _tried(self, function: Callable[[], Any]) -> Any:
        try:
            return function()
        except self._errors as error:
            raise DataError(
                f"{self._path}: cannot be read as an image ({error}). The file is probably damaged: copy it again.",
                "unreadable",
            ) from error


def _page(path: Path) -> Page:
    """Return the only page of a TIFF, whatever its size."""
    try:
        with regular(path).open("rb", buffering=0) as stream:
            found = read_tiff(stream)
    except (OSError, TiffError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error}). Copy it again.", "unreadable") from error
    check_single(path, len(found.pictures), "pages")
    check_page(path, found.pages[0], _NO_LIMIT)
    if not found.first:
        raise refused(path, "begins with an overview instead of its page", "Write the page alone.")
    return found.pages[0]


def _check_readable(path: Path, page: Page, bands: bool) -> None:
    """Raise DataError unless GDAL reads a page as whole reading shows it."""
    plain = page.photometric in (tiff.WHITE_IS_ZERO, tiff.BLACK_IS_ZERO, tiff.RGB)
    if not plain and not (page.photometric == tiff.YCBCR and page.compression == 7):  # which libtiff decodes to RGB
        held = f"is a TIFF of photometric {page.photometric} (such as a palette, CMYK or YCbCr)"
    elif tiff.PREMULTIPLIED in page.extra and not bands:
        held = "stores colours multiplied by their alpha"
    elif page.bits not in (*STRETCHED, 8, 16, 32, 64) or (page.bits < 8 and bands):
        held = f"has samples of {page.bits} bits"
    elif page.photometric == tiff.WHITE_IS_ZERO and page.number != "u":
        held = "says that white is zero, of numbers with a sign"
    else:
        return
    raise refused(
        path,
        f"{held} and more pixels than --max-pixels (max_pixels), above which images are read by windows",
        "Convert it to grey or RGB, 8 or 16 bits: gdal_translate -co TILED=YES does.",
    )

"""Place of an image on Earth, read from a GeoTIFF and written into the rasters that are made of it."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segzoo.data.tiff import is_tiff, names_a_place
from segzoo.data.tiff_decoding import import_rasterio
from segzoo.errors import DataError, MissingPackageError
from segzoo.extras import install_command
from segzoo.files import regular, replacing

# Web Mercator and its old numbers: metres at the equator alone, so areas would be up to 100 times too large.
_NOT_TRUE_TO_AREA = (3857, 3785, 900913, 102100, 102113)
_TILED_FROM = 512  # pixels along both sides; GDAL pads what is smaller than a tile
_DEGREES = "EPSG:4326"


@dataclass(frozen=True)
class Bands:
    """Bands of a raster.

    Attributes:
        count: their number.
        dtype: type of their numbers; float16 is stored in 16 bits, which GDAL reads as float32.
        nodata: value of pixels without data; None: no value means that.
        colours: palette of an 8-bit raster, `(n, 3)` uint8.
        names: descriptions of the bands.
    """

    count: int
    dtype: Any
    nodata: float | None = None
    colours: np.ndarray | None = None
    names: Sequence[str] = ()


@dataclass(frozen=True)
class Georeference:
    """Place of an image on Earth.

    Attributes:
        crs: coordinate reference system, rasterio's `CRS`; None where the file states a transform alone.
        transform: affine transform from (column, row), 0 at the outer corner of the first pixel, to coordinates.
        gcps: ground control points, where the file has these in place of a transform.
        size: height and width of the raster in pixels.
    """

    crs: Any
    transform: Any
    gcps: tuple[Any, ...] = ()
    size: tuple[int, int] = (0, 0)

    @property
    def square_metres(self) -> float | None:
        """Area of a pixel; None where the CRS has no length, as degrees and Web Mercator have none."""
        if self.crs is None or self.gcps or not self.crs.is_projected or self.crs.to_epsg() in _NOT_TRUE_TO_AREA:
            return None
        metres = self.crs.linear_units_factor[1]
        return abs(self.transform.determinant) * metres * metres

    @property
    def has_coordinates(self) -> bool:
        """True where every pixel has coordinates in a CRS."""
        return self.crs is not None and not self.gcps

    @property
    def crs_name(self) -> str:
        """Authority and number of the CRS, such as "EPSG:25832"; where it has none its WKT; "" without a CRS."""
        authority = None if self.crs is None else self.crs.to_authority()
        return ":".join(authority) if authority else "" if self.crs is None else self.crs.to_wkt()

    @property
    def crs_urn(self) -> str:
        """OGC's URN of the CRS, as GeoJSON of 2008 names it; where it has none its WKT, which GDAL reads there."""
        if self.crs.to_authority() is None:
            return self.crs_name
        return "urn:ogc:def:crs:{}::{}".format(*self.crs.to_authority())

    def in_degrees(self, geometry: dict[str, Any]) -> dict[str, Any]:
        """Return a GeoJSON geometry of the CRS in longitude and latitude of WGS 84."""
        import_rasterio()
        from rasterio.warp import transform_geom

        return transform_geom(self.crs, _DEGREES, geometry)


def read_georeference(path: Path) -> Georeference | None:
    """Read the place of an image; None for an image without one, and for a file that cannot be read.

    Raises:
        MissingPackageError: the file has a place, and rasterio is not installed.
        DataError: the file has a place that rasterio cannot read.
    """
    try:
        with regular(path).open("rb", buffering=0) as stream:
            if not is_tiff(stream.read(4)):
                return None
    except OSError:  # the reader of images says why
        return None
    try:
        rasterio = import_rasterio()
    except ImportError as error:
        if not names_a_place(path):
            return None
        raise MissingPackageError(
            f"{path} is a GeoTIFF, and results with its place on Earth need rasterio, which is not installed: "
            f"{install_command('geo')}. Or leave the place out by --no-georeference (georeference=False)."
        ) from error
    try:
        with rasterio.open(path, driver="GTiff") as raster:
            points, crs = raster.gcps
            if points:
                return Georeference(crs or raster.crs, raster.transform, tuple(points), raster.shape)
            if raster.crs is None and raster.transform.is_identity:
                return None
            return Georeference(raster.crs, raster.transform, (), raster.shape)
    except rasterio.errors.RasterioError as error:
        if not names_a_place(path):  # the reader of images says what is wrong with it
            return None
        raise _unreadable(path, error) from error


def valid_pixels(path: Path, georeference: Georeference, size: tuple[int, int]) -> np.ndarray | None:
    """Return the pixels of a GeoTIFF that have data, `(H, W)` bool; None where all have.

    No data is by the nodata value of every band, by a mask or by alpha, as GDAL has it.

    Args:
        path: the GeoTIFF.
        georeference: its place.
        size: height and width of the image as it was read.

    Raises:
        DataError: the image was turned by an orientation, so that its place is no longer that of the file; or the file
            cannot be read.
    """
    if georeference.size != size:
        raise DataError(
            f"{path}: is {georeference.size[1]} x {georeference.size[0]} (width x height) on Earth and "
            f"{size[1]} x {size[0]} as it was read, turned by its orientation. Write it without one."
        )
    rasterio = import_rasterio()
    try:
        with rasterio.open(path, driver="GTiff") as raster:
            valid = raster.dataset_mask() != 0
    except rasterio.errors.RasterioError as error:
        raise _unreadable(path, error) from error
    return None if valid.all() else valid


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path}: its place on Earth cannot be read ({error}). Write it anew by gdal_translate, or leave the place out "
        "by --no-georeference (georeference=False)."
    )


def write_geotiff(path: Path, pixels: np.ndarray, georeference: Georeference, bands: Bands) -> None:
    """Write a GeoTIFF, whole or not at all.

    Args:
        path: the file.
        pixels: `(H, W)` or `(H, W, bands)`, of the type of the bands.
        georeference: CRS and transform.
        bands: its bands.
    """
    rasterio = import_rasterio()
    layers = pixels[..., None] if pixels.ndim == 2 else pixels
    tiled = {"tiled": True} if min(layers.shape[:2]) >= _TILED_FROM else {}
    # In memory first: an error of GDAL on a full disk may be told by its log alone.
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", **_profile(layers.shape, bands, georeference), **tiled) as raster:
            for number in range(bands.count):
                raster.write(_stored(layers[..., number]), number + 1)
            _describe(raster, bands)
        with replacing(path) as temporary:
            temporary.write_bytes(memory.getbuffer())


def create_geotiff(
    path: Path, size: tuple[int, int], bands: Bands, georeference: Georeference | None, block: int
) -> None:
    """Create a GeoTIFF of tiles that are still to be written, by `write_window`; BigTIFF where 4 GB may not do.

    Args:
        path: the file.
        size: height and width in pixels.
        bands: its bands.
        georeference: CRS and transform; None for a raster without a place on Earth.
        block: side of the tiles of the file, a multiple of 16.
    """
    # Sparse: without what is still to come, which would be written as zeros first.
    tiles = {"tiled": True, "blockxsize": block, "blockysize": block, "sparse_ok": True}
    with import_rasterio().open(path, "w", driver="GTiff", **_profile(size, bands, georeference), **tiles) as raster:
        _describe(raster, bands)


def write_window(raster: Any, pixels: np.ndarray, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """Write pixels `(h, w)` or `(h, w, bands)` into a window, its rows and columns, of an open rasterio dataset."""
    layers = pixels[..., None] if pixels.ndim == 2 else pixels
    raster.write(_stored(np.ascontiguousarray(layers.transpose(2, 0, 1))), window=(rows, columns))


def read_window(raster: Any, rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    """Return a window `(h, w, bands)`, its rows and columns, of an open rasterio dataset."""
    return raster.read(window=(rows, columns)).transpose(1, 2, 0)


def checksum(pixels: np.ndarray, bands: Bands) -> int:
    """Return the CRC-32 of pixels `(h, w)` or `(h, w, bands)` as the raster's type holds them; every NaN is alike."""
    numbers = pixels.astype(bands.dtype)
    if numbers.dtype.kind == "f":
        numbers = np.nan_to_num(numbers, nan=-math.inf)
    return zlib.crc32(np.ascontiguousarray(numbers).tobytes())


def _stored(pixels: np.ndarray) -> np.ndarray:
    """Return pixels in a type of GDAL, which has no float16 before 3.11, and stores it all the same."""
    return pixels.astype(np.float32) if pixels.dtype == np.float16 else pixels


def _profile(size: Sequence[int], bands: Bands, georeference: Georeference | None) -> dict[str, Any]:
    """Return the options of rasterio for a raster of this height and width."""
    profile: dict[str, Any] = {
        "height": size[0],
        "width": size[1],
        "count": bands.count,
        "dtype": bands.dtype,
        "nodata": bands.nodata,
        "compress": "deflate",
        "bigtiff": "if_safer",
    }
    if bands.dtype == np.float16:
        profile |= {"dtype": np.float32, "nbits": 16}
    if georeference is None:
        return profile
    if georeference.gcps:
        return {**profile, "crs": georeference.crs, "gcps": list(georeference.gcps)}
    return {**profile, "crs": georeference.crs, "transform": georeference.transform}


def _describe(raster: Any, bands: Bands) -> None:
    """Write the names of the bands, and the palette, into an open rasterio dataset."""
    for number, name in enumerate(bands.names):
        raster.set_band_description(number + 1, name)
    if bands.colours is not None and bands.dtype == np.uint8:
        raster.write_colormap(1, {index: (*map(int, colour), 255) for index, colour in enumerate(bands.colours)})

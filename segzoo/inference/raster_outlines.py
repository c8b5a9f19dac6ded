"""Outlines and run lengths of objects whose numbers are a raster on the disk."""

from __future__ import annotations

import errno
import itertools
import json
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from segzoo.data.tiff_decoding import import_rasterio
from segzoo.errors import StorageError
from segzoo.files import operation
from segzoo.inference.objects import Measures
from segzoo.inference.polygons import Outline, Ring, rings_of

_MOST_PIXELS = 2**24  # of a strip of an object's box
# GDAL takes a mask of bytes alone, so the raster is shown to it as bytes; numbers above 255 are 255 then.
_MASK = """<VRTDataset rasterXSize="{width}" rasterYSize="{height}">
<VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename relativeToVRT="1">{name}</SourceFilename><SourceBand>{band}</SourceBand>
</SimpleSource></VRTRasterBand>
</VRTDataset>
"""


def raster_outlines(raster: Path, count: int, in_pixels: bool) -> Iterator[Outline]:
    """Iterate over the outlines of all objects, by their numbers; as `outlines` gives them of arrays.

    GDAL reads the raster row by row, and holds all polygons, some 16 bytes for each corner. They go to a file without a
    name from there, because GDAL does not have them in the order of their numbers.

    Args:
        raster: numbers of objects, a GeoTIFF of 16 or 32 bits with one or more bands.
        count: number of objects.
        in_pixels: whether points are in pixels, and not by the transform of the raster.

    Raises:
        StorageError: GDAL did not find all objects, as when it cannot read the raster.
    """
    found = 0
    with import_rasterio().open(raster, driver="GTiff") as opened:
        bands = range(1, opened.count + 1)
    for band in bands:
        for outline in _sorted(_polygons(raster, band, in_pixels), raster):
            found += 1
            yield outline
    if found != count:
        raise StorageError(errno.EIO, f"GDAL found the outlines of {found} of {count} objects in it", str(raster))


def _polygons(raster: Path, band: int, in_pixels: bool) -> Iterator[tuple[int, list[Ring]]]:
    """Yield the object and the rings of each polygon of a band."""
    rasterio = import_rasterio()
    from rasterio.features import shapes

    place = {"GEOREF_SOURCES": "NONE"} if in_pixels else {}
    with rasterio.open(raster, driver="GTiff", **place) as source, _mask(raster, band) as mask:
        for shape, number in shapes(rasterio.band(source, band), mask=rasterio.band(mask, 1), connectivity=4):
            yield int(number), rings_of(shape, in_pixels)


@contextmanager
def _mask(raster: Path, band: int) -> Iterator[Any]:
    """Yield a dataset of bytes, not 0 where a band is not; a file beside the raster describes it in the block."""
    rasterio = import_rasterio()
    path = raster.with_suffix(".vrt")
    with rasterio.open(raster, driver="GTiff") as opened:
        text = _MASK.format(width=opened.width, height=opened.height, name=raster.name, band=band)
    try:
        with operation("write", path):
            path.write_text(text)
        with rasterio.open(path, driver="VRT") as mask:
            yield mask
    finally:
        path.unlink(missing_ok=True)


def _sorted(polygons: Iterable[tuple[int, list[Ring]]], raster: Path) -> Iterator[Outline]:
    """Gather the polygons of each object, in the order of the objects, by a file beside the raster."""
    numbers, ends = array("q"), array("q", [0])
    with tempfile.TemporaryFile(dir=raster.parent) as stream:
        with operation("write", raster.with_suffix(".polygons")):
            for number, rings in polygons:
                numbers.append(number)
                ends.append(ends[-1] + stream.write(json.dumps(rings).encode("ascii")))
            stream.flush()
        order = np.argsort(np.array(numbers), kind="stable").tolist()
        for number, places in itertools.groupby(order, numbers.__getitem__):
            found = []
            for place in places:
                stream.seek(ends[place])
                found.append(json.loads(stream.read(ends[place + 1] - ends[place])))
            yield Outline(number, found)


def run_lengths(source: Any, band: int, found: Measures) -> dict[str, Any]:
    """Return the compressed run lengths of an object as COCO has them, down the columns of the whole image.

    Args:
        source: raster of numbers, an open rasterio dataset; read in strips of the object's box.
        band: its band that has the object.
        found: number and box of the object.
    """
    import pycocotools.mask

    height, width = source.shape
    rows, right = (found.top, found.top + found.height), found.left + found.width
    step = max(1, _MOST_PIXELS // found.height)
    bounds = []  # where a run begins, and where it ends, counted down the columns
    for left in range(found.left, right, step):
        window = source.read(band, window=(rows, (left, min(left + step, right))))
        inside = np.pad((found.object == window.T).astype(np.int8), ((0, 0), (1, 1)))
        column, row = np.nonzero(np.diff(inside, axis=1))
        bounds.append((left + column) * height + found.top + row)
    ends = np.concatenate(bounds).reshape(-1, 2)
    whole = ends[1:, 0] == ends[:-1, 1]  # runs that go on at the top of the next column
    starts = ends[np.r_[True, ~whole], 0]
    stops = ends[np.r_[~whole, True], 1]
    counts = np.diff(np.r_[0, np.stack([starts, stops], axis=1).ravel(), height * width])
    counts = counts[:-1] if counts[-1] == 0 else counts
    coded = pycocotools.mask.frPyObjects({"size": [height, width], "counts": counts.tolist()}, height, width)
    return {"size": list(coded["size"]), "counts": coded["counts"].decode("ascii")}

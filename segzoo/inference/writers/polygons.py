"""Polygons of objects as GeoJSON, in the coordinates of the image's CRS, in degrees or in pixels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segzoo.errors import SegzooError
from segzoo.files import operation, replacing
from segzoo.inference.georeference import Georeference
from segzoo.inference.json_lists import json_with_list
from segzoo.inference.objects import Measures
from segzoo.inference.polygons import Outline, outlines
from segzoo.inference.writers.contract import Job, Output, Prediction
from segzoo.inference.writers.table import OUTPUTS

if TYPE_CHECKING:
    from segzoo.inference.raster_objects import RasterObjects

_PIXELS = "pixels: x to the right, y down, from the outer corner of the first pixel"
_DEGREES = "longitude and latitude in degrees, WGS 84"
_DIGITS_OF_DEGREES = 9  # a tenth of a millimetre
_WGS84 = "EPSG:4326"


@OUTPUTS.register("polygons")
class Polygons(Output):
    """GeoJSON of the objects' outlines along the edges of pixels, with holes, and with class and area of each.

    Its member "coordinate_system" says what its coordinates are. Those of a CRS are named by the member "crs" of the
    specification of 2008, which GDAL and QGIS read; a CRS without a number of an authority by its WKT. Longitude and
    latitude (RFC 7946) need no name.
    """

    folder = "polygons"
    by_windows = True
    by_objects = True
    options_by_windows = ("min_area", "fill_holes", "coordinates")
    packages = (("skimage", "objects"), ("rasterio", "geo"))

    def suffixes(self, job: Job) -> tuple[str, ...]:
        """Return .geojson."""
        return (".geojson",)

    def check(self, job: Job) -> None:
        """Raise SegzooError where coordinates in a CRS are wanted of an image without one."""
        wanted, place = self.options.coordinates, job.georeference
        if wanted in ("crs", "wgs84") and (place is None or not place.has_coordinates):
            raise SegzooError(
                f"{job.image}: CRS missing: it has no coordinates on Earth that polygons could be in. Write it as a "
                "GeoTIFF with a CRS and a transform (gdal_edit.py -a_srs, gdalwarp), or take pixels by --coordinates "
                "auto or pixels (coordinates=...)."
            )

    def write(self, prediction: Prediction) -> list[Path]:
        """Write the polygons of an image."""
        (path,) = self.files(prediction.job)
        place = self._place(prediction.job)
        transform = None if place is None else place.transform
        found = (outline for layer in prediction.objects.layers for outline in outlines(layer, transform))
        with replacing(path) as temporary:
            self._put(temporary, prediction.job, found, prediction.measures.__getitem__)
        return [path]

    def write_objects(self, job: Job, objects: RasterObjects, totals: dict[str, Any]) -> None:
        """Write the polygons of an image, one after another."""
        path = self.unfinished(job, ".geojson")
        with operation("write", path):
            self._put(path, job, objects.outlines(in_pixels=self._place(job) is None), objects.measures)

    def _put(self, path: Path, job: Job, found: Iterable[Outline], measures: Callable[[int], Measures]) -> None:
        """Write a feature for each outline, of which one is in memory at a time."""
        place = self._place(job)
        head: dict[str, Any] = {"type": "FeatureCollection", "coordinate_system": self._system(place)}
        if place is not None and self.options.coordinates != "wgs84" and place.crs_name != _WGS84:
            head["crs"] = {"type": "name", "properties": {"name": place.crs_urn}}
        features = (
            {
                "type": "Feature",
                "geometry": outline.geometry() if place is None else self._rounded(outline.geometry(), place),
                "properties": _properties(measures(outline.number)),
            }
            for outline in found
        )
        with path.open("w", encoding="utf-8") as stream:
            stream.writelines(json_with_list(head, "features", features))
            stream.write("\n")

    def _place(self, job: Job) -> Georeference | None:
        """Return the place that coordinates are taken from; None for pixels."""
        place = job.georeference
        return place if place is not None and place.has_coordinates and self.options.coordinates != "pixels" else None

    def _system(self, place: Georeference | None) -> str:
        if place is None:
            return _PIXELS
        return _DEGREES if self.options.coordinates == "wgs84" or place.crs_name == _WGS84 else place.crs_name

    def _rounded(self, geometry: dict[str, Any], place: Georeference) -> dict[str, Any]:
        """Return a geometry in degrees or in the CRS, with a thousandth of a pixel."""
        if self.options.coordinates == "wgs84":
            geometry, digits = place.in_degrees(geometry), _DIGITS_OF_DEGREES
        else:
            digits = max(0, 3 - math.floor(math.log10(math.sqrt(abs(place.transform.determinant)))))
        several = geometry["type"] == "MultiPolygon"
        wound = [_wound(rings) for rings in geometry["coordinates"]] if several else _wound(geometry["coordinates"])
        return {"type": geometry["type"], "coordinates": _round(wound, digits)}


def _wound(rings: Any) -> list[Any]:
    """Return a polygon's rings, the outer one counterclockwise and the holes clockwise, as RFC 7946 requires.

    Rows of most rasters run south; of one whose rows run north the outlines are mirrored.
    """
    return [
        list(ring) if (_doubled_area(ring) > 0) == (place == 0) else list(ring)[::-1]
        for place, ring in enumerate(rings)
    ]


def _doubled_area(ring: Any) -> float:
    """Return twice the area of a closed ring, negative where it runs clockwise."""
    left, top = ring[0]  # from here: coordinates of millions of metres would leave no digits for a small pixel's area
    points = [(x - left, y - top) for x, y in ring]
    return sum(x * after_y - after_x * y for (x, y), (after_x, after_y) in itertools.pairwise(points))


def _properties(found: Measures) -> dict[str, Any]:
    """Return number, class and area of an object, and its mean probability where that is known."""
    given = {
        "object": found.object,
        "class": found.name,
        "class_index": found.class_index,
        "pixels": found.pixels,
        "square_metres": found.square_metres,
        "probability": found.probability,
    }
    return {name: value for name, value in given.items() if value is not None}


def _round(values: Any, digits: int) -> Any:
    return round(values, digits) if isinstance(values, float) else [_round(value, digits) for value in values]

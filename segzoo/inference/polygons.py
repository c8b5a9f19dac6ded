"""Outlines of objects as polygons along the edges of their pixels, by GDAL through rasterio."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

from segzoo.data.tiff_decoding import import_rasterio

Ring = list[tuple[float, float]]


class Outline(NamedTuple):
    """Outline of an object.

    Attributes:
        number: number of the object.
        polygons: one for each part that touches the others at corners alone; of each the outer ring, then its holes.
            A ring ends with the point that it begins with.
    """

    number: int
    polygons: list[list[Ring]]

    @property
    def has_holes(self) -> bool:
        """True if one of the polygons has a hole."""
        return any(len(rings) > 1 for rings in self.polygons)

    def geometry(self) -> dict[str, Any]:
        """Return the outline as a GeoJSON geometry."""
        if len(self.polygons) == 1:
            return {"type": "Polygon", "coordinates": self.polygons[0]}
        return {"type": "MultiPolygon", "coordinates": self.polygons}


def outlines(layer: np.ndarray, transform: Any = None) -> list[Outline]:
    """Return the outlines of objects, by their numbers.

    Args:
        layer: numbers of the objects `(H, W)` int32, 0 for none.
        transform: affine transform of the points; None: pixels, x to the right and y down, from the outer corner of the
            first one.
    """
    import_rasterio()
    from rasterio.features import shapes
    from rasterio.transform import IDENTITY

    found: dict[int, list[list[Ring]]] = defaultdict(list)
    # Parts that touch at a corner, as one polygon, would have a ring that crosses itself there.
    for shape, number in shapes(layer, mask=layer > 0, connectivity=4, transform=transform or IDENTITY):
        found[int(number)].append(rings_of(shape, in_pixels=transform is None))
    return [Outline(number, found[number]) for number in sorted(found)]


def rings_of(shape: dict[str, Any], in_pixels: bool) -> list[Ring]:
    """Return the rings of a polygon of GDAL; of pixels, which are whole numbers and half as long as text, as those."""
    rings = shape["coordinates"]
    return [[(int(x), int(y)) for x, y in ring] for ring in rings] if in_pixels else rings

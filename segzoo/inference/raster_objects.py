"""Objects of a class map that is a raster on the disk, found and drawn band by band: those of `find_objects`."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segzoo.data.tiff_decoding import import_rasterio
from segzoo.errors import StorageError
from segzoo.files import flush
from segzoo.inference.georeference import Bands, Georeference, checksum, create_geotiff, read_window, write_window
from segzoo.inference.holes import owners_of_holes
from segzoo.inference.legend import Legend
from segzoo.inference.objects import Measures, dtype_of_numbers
from segzoo.inference.pieces import BLOCKED, FIRST, FREE, Pieces, Table, bands_of, combined, components, find_pieces
from segzoo.inference.pieces import label as labelled
from segzoo.inference.polygons import Outline
from segzoo.inference.raster_outlines import raster_outlines

BLOCK = 256  # side of the raster's tiles; heights of bands divide it


class _Layer(NamedTuple):
    """Objects of a band of the class map.

    Attributes:
        band: its number, from 1.
        keys: key of each value in it; see `segzoo.inference.pieces`.
        numbers: number of the object that each label of a piece belongs to, 0 for none.
        offsets: number of labels in all bands of rows above each one.
    """

    band: int
    keys: np.ndarray
    numbers: np.ndarray
    offsets: list[int]


class RasterObjects:
    """Objects of an image that is predicted by windows; memory grows with their number.

    Pieces connected by edges are labelled in bands of rows, joined across them, and make objects where they touch at
    corners; a second pass labels them again, and writes their numbers as a raster.

    Args:
        class_map: raster of classes; in multilabel a band of 0 and 1 for each class.
        legend: the classes, without a border.
        georeference: place of the image on Earth, or None.
        place: where the raster of numbers is written.
        min_area: pixels of the smallest object that is kept.
        fill_holes: pixels of the largest hole that is filled; 0: none is.

    Attributes:
        size: height and width of the image.
        classes: class of each object, `(n,)`; that of object 1 comes first.
        layers: number of bands of the raster of numbers: one, or where classes may overlap one for each foreground
            class.
    """

    def __init__(
        self,
        class_map: Path,
        legend: Legend,
        georeference: Georeference | None,
        place: Path,
        min_area: int = 1,
        fill_holes: int = 0,
    ):
        self._class_map = class_map
        self._legend = legend
        self._georeference = georeference
        self._place = place
        self._layers: list[_Layer] = []
        tables: list[Table] = []
        fill = fill_holes if legend.multilabel or legend.empty is not None else 0
        with import_rasterio().open(class_map, driver="GTiff") as source:
            self.size: tuple[int, int] = source.shape
            for band, keys in _keys(legend, source.dtypes[0], fill > 0):
                pieces = find_pieces(lambda *rows, b=band, k=keys: k[_rows(source, b, rows)], self.size, fill > 0)
                table, numbers = _objects(pieces, self.size, min_area, fill, sum(len(found["key"]) for found in tables))
                tables.append(table)
                self._layers.append(_Layer(band, keys, numbers[pieces.piece], pieces.offsets))
        self._table = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
        self.classes = self._table["key"] - FIRST
        self.layers = len(self._layers)

    def of_class(self, label: int) -> int:
        """Return the number of objects of a class."""
        return int((self.classes == label).sum())

    def layer(self, label: int) -> int:
        """Return the layer of the objects of a foreground class, from 0."""
        return self._legend.foreground.index(label) if self._legend.multilabel else 0

    def measures(self, number: int) -> Measures:
        """Return the measures of an object, as `segzoo.inference.objects.measure` does."""
        row = {name: int(column[number - 1]) for name, column in self._table.items()}
        metres = None if self._georeference is None else self._georeference.square_metres
        label, pixels = row["key"] - FIRST, row["pixels"]
        return Measures(
            number,
            self._legend.names[label],
            label,
            pixels,
            None if metres is None else pixels * metres,
            row["left"],
            row["top"],
            row["right"] - row["left"],
            row["bottom"] - row["top"],
            row["sum_x"] / pixels + 0.5,
            row["sum_y"] / pixels + 0.5,
            None,
        )

    def all_measures(self) -> Iterator[Measures]:
        """Iterate over the measures of all objects, by their numbers."""
        return map(self.measures, range(1, len(self.classes) + 1))

    @cached_property
    def raster(self) -> Path:
        """GeoTIFF of the numbers of the objects, written when it is first asked for.

        Raises:
            StorageError: other numbers were read back than were written, as on a disk that is full.
        """
        path = self._place
        names = [self._legend.names[label] for label in self._legend.foreground] if self._legend.multilabel else ()
        bands = Bands(self.layers, dtype_of_numbers(len(self.classes)), names=names)
        create_geotiff(path, self.size, bands, self._georeference, BLOCK)
        rasterio, columns, sums = import_rasterio(), (0, self.size[1]), []
        with (
            rasterio.open(self._class_map, driver="GTiff") as source,
            rasterio.open(path, "r+", driver="GTiff") as target,
        ):
            for rows, numbers in self._drawn(source):
                write_window(target, numbers.astype(bands.dtype), rows, columns)
                sums.append((rows, checksum(numbers, bands)))
        flush(path)
        with rasterio.open(path, driver="GTiff") as written:
            for rows, expected in sums:
                if checksum(read_window(written, rows, columns), bands) != expected:
                    raise StorageError(errno.EIO, "other numbers arrived than were written", str(path))
        return path

    def outlines(self, in_pixels: bool) -> Iterator[Outline]:
        """Iterate over the outlines of the objects, by their numbers; see `raster_outlines`."""
        return raster_outlines(self.raster, len(self.classes), in_pixels)

    def _drawn(self, source: Any) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
        """Yield rows of tiles of the raster, their first row and the one after the last, and the numbers in them."""
        found = np.zeros((BLOCK, self.size[1], self.layers), np.int32)
        for index, rows in enumerate(bands_of(self.size)):
            top = rows[0] // BLOCK * BLOCK
            for place, layer in enumerate(self._layers):
                labels = labelled(layer.keys[_rows(source, layer.band, rows)])
                first = layer.offsets[index]
                numbers = np.concatenate([[0], layer.numbers[first : first + int(labels.max(initial=0))]])
                found[rows[0] - top : rows[1] - top, :, place] = numbers[labels]
            if rows[1] % BLOCK == 0 or rows[1] == self.size[0]:
                yield (top, rows[1]), found[: rows[1] - top]


def _rows(source: Any, band: int, rows: tuple[int, ...]) -> np.ndarray:
    return source.read(band, window=(rows, (0, source.width)))


def _keys(legend: Legend, dtype: str, holes: bool) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the bands of a class map that have objects, and the key of each value in them."""
    blank = np.full(np.iinfo(dtype).max + 1, BLOCKED if holes else 0, np.int32)
    if not legend.multilabel:
        if legend.empty is not None and holes:
            blank[legend.empty] = FREE
        blank[legend.foreground] = np.add(legend.foreground, FIRST)
        yield 1, blank
        return
    for label in legend.foreground:
        keys = blank.copy()
        keys[:2] = (FREE if holes else 0), FIRST + label
        yield label + 1, keys


def _objects(
    pieces: Pieces, size: tuple[int, int], min_area: int, fill_holes: int, before: int
) -> tuple[Table, np.ndarray]:
    """Return the table of the objects of a layer, and the number of the object of each piece, 0 for none.

    Args:
        pieces: pieces of the layer.
        size: height and width of the image.
        min_area: pixels of the smallest object that is kept.
        fill_holes: pixels of the largest hole that is filled.
        before: number of objects in the layers before.
    """
    count, group = components(len(pieces.table["key"]), pieces.diagonal)
    table = combined(pieces.table, group, count)
    order = np.lexsort((table["first"], table["key"]))
    order = order[table["key"][order] >= FIRST]
    place = np.full(count, -1, np.int64)
    place[order] = np.arange(len(order))
    owner = place[group]
    if fill_holes:
        filled = owners_of_holes(pieces.table, pieces.adjacent, owner, size, fill_holes)
        owner = np.where(owner >= 0, owner, filled)
    owned = owner >= 0
    found = combined({name: column[owned] for name, column in pieces.table.items()}, owner[owned], len(order))
    found["key"] = table["key"][order]  # holes have another
    kept = found["pixels"] >= min_area
    numbers = np.zeros(len(order) + 1, np.int32)  # the last is that of pieces without an owner, -1
    numbers[:-1][kept] = np.arange(before + 1, before + 1 + int(kept.sum()))
    return {name: column[kept] for name, column in found.items()}, numbers[owner]

"""Objects: an image of their numbers, and a table of their class, area and place."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from segzoo.files import operation, replacing
from segzoo.inference.frames import frame_archive
from segzoo.inference.georeference import Bands, write_geotiff
from segzoo.inference.objects import Measures, Objects, dtype_of_numbers
from segzoo.inference.writers.classes import write_pages
from segzoo.inference.writers.contract import Job, Output, Prediction
from segzoo.inference.writers.table import OUTPUTS

if TYPE_CHECKING:
    from segzoo.inference.raster_objects import RasterObjects

_COLUMNS = ("object", "class", *Measures._fields[2:])


@OUTPUTS.register("objects")
class ObjectImages(Output):
    """Objects of the foreground classes: their numbers as an image, 0 for none, and a CSV with a row for each.

    The image is a PNG of 16 bits; for more than 65,535 objects, and for classes that may overlap, a TIFF, in multilabel
    with a page for each class but the background; for a GeoTIFF, and by windows, a GeoTIFF with a band a page.
    """

    folder = "objects"
    by_windows = True
    by_objects = True
    options_by_windows = ("min_area", "fill_holes")
    video_suffixes = (".npz", ".csv")
    packages = (("skimage", "objects"),)

    def suffixes(self, job: Job) -> tuple[str, ...]:
        """Return .csv, and .png or .tif or both, as the number of objects decides."""
        tiff = job.is_raster or self.legend.multilabel
        return (".tif", ".csv") if tiff else (".png", ".tif", ".csv")

    def write(self, prediction: Prediction) -> list[Path]:
        """Write image and table of an image's objects."""
        job, layers = prediction.job, _small(prediction.objects)
        small = layers[0].dtype == np.uint16
        if job.georeference is not None:
            image = self.file(job, ".tif")
            names = [self.legend.names[label] for label in self.legend.foreground] if self.legend.multilabel else ()
            bands = Bands(len(layers), layers[0].dtype, names=names)
            write_geotiff(image, np.stack(layers, axis=-1), job.georeference, bands)
        elif small and not self.legend.multilabel:
            image = self.file(job, ".png")
            with replacing(image) as temporary:
                Image.fromarray(layers[0]).save(temporary, format="PNG")
        else:
            image = self.file(job, ".tif")
            write_pages(image, layers)
        table = self.file(job, ".csv")
        write_csv(table, _COLUMNS, list(prediction.measures.values()))
        return [image, table]

    def write_objects(self, job: Job, objects: RasterObjects, totals: dict[str, Any]) -> None:
        """Write the table; the image is the raster of the objects."""
        assert objects.raster == self.unfinished(job, ".tif")
        path = self.unfinished(job, ".csv")
        with operation("write", path):
            put_csv(path, _COLUMNS, objects.all_measures())

    @contextmanager
    def open_video(self, job: Job, rate: float) -> Iterator[Callable[[Prediction], None]]:
        """Open an archive of the numbers, in multilabel `(H, W, foreground classes)`, and a table of all frames."""
        numbers, table = self.files_of_video(job)
        rows: list[Sequence[Any]] = []
        with frame_archive(numbers, rate) as put:

            def add(prediction: Prediction) -> None:
                layers = _small(prediction.objects)
                put(prediction.frame or 0, np.stack(layers, axis=-1) if self.legend.multilabel else layers[0])
                rows.extend((prediction.frame, *found) for found in prediction.measures.values())

            yield add
        write_csv(table, ("frame", *_COLUMNS), rows)


def _small(objects: Objects) -> list[np.ndarray]:
    """Return the layers of objects in 16 bits, and in 32 where there are too many."""
    dtype = dtype_of_numbers(len(objects.classes))
    return [layer.astype(dtype) for layer in objects.layers]


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV as `put_csv` does, whole or not at all."""
    with replacing(path) as temporary:
        put_csv(temporary, columns, rows)


def put_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV in UTF-8 row by row; None is an empty cell, fractions have nine significant digits."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([f"{cell:.9g}" if isinstance(cell, float) else cell for cell in row] for row in rows)

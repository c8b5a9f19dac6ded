"""Objects: an image of their numbers, and a table of their class, area and place."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from segzoo.files import replacing
from segzoo.inference.frames import frame_archive
from segzoo.inference.georeference import Bands, write_geotiff
from segzoo.inference.objects import Measures, Objects
from segzoo.inference.writers.classes import write_pages
from segzoo.inference.writers.contract import Job, Output, Prediction
from segzoo.inference.writers.table import OUTPUTS

_MOST_IN_PNG = 65_535
_COLUMNS = ("object", "class", *Measures._fields[2:])


@OUTPUTS.register("objects")
class ObjectImages(Output):
    """Objects of the foreground classes: their numbers as an image, 0 for none, and a CSV with a row for each.

    The image is a PNG of 16 bits; for more than 65,535 objects, and for classes that may overlap, a TIFF, in multilabel
    with a page for each class but the background; for a GeoTIFF a GeoTIFF, with a band a page.
    """

    folder = "objects"
    video_suffixes = (".npz", ".csv")
    packages = (("skimage", "objects"),)

    def suffixes(self, job: Job) -> tuple[str, ...]:
        """Return .csv, and .png or .tif or both, as the number of objects decides."""
        tiff = job.georeference is not None or self.legend.multilabel
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
    dtype = np.uint16 if len(objects.classes) <= _MOST_IN_PNG else np.int32
    return [layer.astype(dtype) for layer in objects.layers]


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV in UTF-8, whole or not at all; None is an empty cell, fractions have nine significant digits."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([f"{cell:.9g}" if isinstance(cell, float) else cell for cell in row] for row in rows)

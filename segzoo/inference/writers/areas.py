"""Table of a prediction: area and number of objects of each class in each image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segzoo.inference.legend import Legend
from segzoo.inference.outputs import OutputOptions
from segzoo.inference.writers.contract import Job, Output, Prediction
from segzoo.inference.writers.objects import write_csv
from segzoo.inference.writers.table import OUTPUTS

_COLUMNS = ("image", "frame", "class", "class_index", "pixels", "share", "square_metres", "objects")


@OUTPUTS.register("table")
class Areas(Output):
    """CSV with a row for each class of an image or frame: pixels, share of those with data, square metres, objects.

    Square metres are known for a GeoTIFF in a projected CRS but Web Mercator, whose metres are none away from the
    equator. Background and border have no objects. Pixels are those of the class map, and not of the objects.
    """

    folder = "table"
    packages = (("skimage", "objects"),)
    video_suffixes = ()

    def __init__(self, out: Path, legend: Legend, options: OutputOptions):
        super().__init__(out, legend, options)
        self.run_file = out / "table.csv"
        self._rows: list[tuple[Any, ...]] = []

    def write(self, prediction: Prediction) -> list[Path]:
        """Keep the rows of an image."""
        self._rows += self._rows_of(prediction)
        return []

    @contextmanager
    def open_video(self, job: Job, rate: float) -> Iterator[Callable[[Prediction], None]]:
        """Keep the rows of a video's frames, if it is read to its end."""
        rows: list[tuple[Any, ...]] = []
        yield lambda prediction: rows.extend(self._rows_of(prediction))
        self._rows += rows

    def _rows_of(self, prediction: Prediction) -> list[tuple[Any, ...]]:
        place, counted = prediction.job.georeference, prediction.counted
        metres = None if place is None else place.square_metres
        rows = []
        for label, name in enumerate(self.legend.names):
            pixels = int(prediction.where(label).sum())
            rows.append(
                (
                    prediction.job.shown,
                    prediction.frame,
                    name,
                    label,
                    pixels,
                    pixels / counted if counted else None,
                    None if metres is None else pixels * metres,
                    prediction.objects.of_class(label) if label in self.legend.foreground else None,
                )
            )
        return rows

    def finish(self) -> None:
        """Write the table."""
        assert self.run_file is not None
        write_csv(self.run_file, _COLUMNS, self._rows)

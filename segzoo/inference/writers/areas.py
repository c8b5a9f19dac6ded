"""Table of a prediction: area and number of objects of each class in each image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from segzoo.inference.legend import Legend
from segzoo.inference.outputs import OutputOptions
from segzoo.inference.writers.contract import Output, Prediction
from segzoo.inference.writers.objects import write_csv
from segzoo.inference.writers.table import OUTPUTS

_COLUMNS = ("image", "class", "class_index", "pixels", "share", "square_metres", "objects")


@OUTPUTS.register("table")
class Areas(Output):
    """CSV with a row for each image and class: pixels, their share of those with data, square metres, objects.

    Square metres are known for a GeoTIFF in a projected CRS but Web Mercator, whose metres are none away from the
    equator. Background and border have no objects. Pixels are those of the class map, and not of the objects.
    """

    folder = "table"
    packages = (("skimage", "objects"),)

    def __init__(self, out: Path, legend: Legend, options: OutputOptions):
        super().__init__(out, legend, options)
        self.run_file = out / "table.csv"
        self._rows: list[tuple[Any, ...]] = []

    def write(self, prediction: Prediction) -> list[Path]:
        """Keep the rows of an image."""
        place, counted = prediction.job.georeference, prediction.counted
        metres = None if place is None else place.square_metres
        for label, name in enumerate(self.legend.names):
            pixels = int(prediction.where(label).sum())
            self._rows.append(
                (
                    prediction.job.shown,
                    name,
                    label,
                    pixels,
                    pixels / counted if counted else None,
                    None if metres is None else pixels * metres,
                    prediction.objects.of_class(label) if label in self.legend.foreground else None,
                )
            )
        return []

    def finish(self) -> None:
        """Write the table."""
        assert self.run_file is not None
        write_csv(self.run_file, _COLUMNS, self._rows)

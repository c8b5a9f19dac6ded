"""Table of a prediction: area and number of objects of each class in each image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segzoo.inference.legend import Legend
from segzoo.inference.outputs import OutputOptions
from segzoo.inference.writers.contract import Job, Output, Prediction
from segzoo.inference.writers.objects import write_csv
from segzoo.inference.writers.table import OUTPUTS

if TYPE_CHECKING:
    from segzoo.inference.raster_objects import RasterObjects

_COLUMNS = ("image", "frame", "class", "class_index", "pixels", "share", "square_metres", "objects")


@OUTPUTS.register("table")
class Areas(Output):
    """CSV with a row for each class of an image or frame: pixels, share of those with data, square metres, objects.

    Square metres are known for a GeoTIFF in a projected CRS but Web Mercator, whose metres are none away from the
    equator. Background and border have no objects. Pixels are those of the class map, and not of the objects, which
    are not counted by windows where a border parts them.
    """

    folder = "table"
    by_windows = True
    options_by_windows = ("min_area", "fill_holes")
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

    def tally(self, prediction: Prediction, totals: dict[str, Any]) -> None:
        """Add the pixels of a window."""
        before = totals.get("pixels", [0] * len(self.legend.names))
        totals["pixels"] = [count + int(prediction.where(label).sum()) for label, count in enumerate(before)]
        totals["counted"] = totals.get("counted", 0) + prediction.counted

    @property
    def by_objects(self) -> bool:
        """True unless a border parts the objects."""
        return self.legend.border is None

    def write_objects(self, job: Job, objects: RasterObjects, totals: dict[str, Any]) -> None:
        """Keep the numbers of objects."""
        totals["objects"] = [objects.of_class(label) for label in range(len(self.legend.names))]

    def finish_windows(self, job: Job, totals: dict[str, Any]) -> None:
        """Keep the rows of an image."""
        numbers = totals.get("objects", [None] * len(self.legend.names))
        self._rows += self._rows_with(job, totals, numbers.__getitem__)

    def _rows_of(self, prediction: Prediction) -> list[tuple[Any, ...]]:
        totals: dict[str, Any] = {}
        self.tally(prediction, totals)
        return self._rows_with(prediction.job, totals, prediction.objects.of_class, prediction.frame)

    def _rows_with(
        self, job: Job, totals: dict[str, Any], objects: Callable[[int], int | None], frame: int | None = None
    ) -> list[tuple[Any, ...]]:
        metres = None if job.georeference is None else job.georeference.square_metres
        counted, rows = totals["counted"], []
        for label, (name, pixels) in enumerate(zip(self.legend.names, totals["pixels"], strict=True)):
            rows.append(
                (
                    job.shown,
                    frame,
                    name,
                    label,
                    pixels,
                    pixels / counted if counted else None,
                    None if metres is None else pixels * metres,
                    objects(label) if label in self.legend.foreground else None,
                )
            )
        return rows

    def finish(self) -> None:
        """Write the table."""
        assert self.run_file is not None
        write_csv(self.run_file, _COLUMNS, self._rows)

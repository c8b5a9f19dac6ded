"""Probabilities of the classes at each pixel, in 16 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from segzoo.files import replacing
from segzoo.inference.frames import frame_archive
from segzoo.inference.georeference import Bands, write_geotiff
from segzoo.inference.writers.contract import Job, Output, Prediction
from segzoo.inference.writers.table import OUTPUTS


@OUTPUTS.register("probabilities")
class Probabilities(Output):
    """Probabilities of all classes, or of the most probable one, as float16.

    An .npz with "probabilities", `(H, W, classes)` or `(H, W)`, and "classes", the names; or a GeoTIFF with a band a
    class, NaN where the image has no data. Binary mode has two classes, whose probabilities add up to 1.
    """

    folder = "probabilities"
    video_suffixes = (".npz",)
    needs_probabilities = True
    by_windows = True
    options_by_windows = ("probabilities",)

    def suffixes(self, job: Job) -> tuple[str, ...]:
        """Return .npz, or .tif for a GeoTIFF."""
        return (".tif",) if job.is_raster else (".npz",)

    def write(self, prediction: Prediction) -> list[Path]:
        """Write the probabilities of an image."""
        numbers = self.pixels(prediction)
        (path,) = self.files(prediction.job)
        if prediction.job.georeference is None:
            write_npz(path, probabilities=numbers, classes=np.array(self.legend.names))
        else:
            write_geotiff(path, numbers, prediction.job.georeference, self.bands())
        return [path]

    def bands(self) -> Bands:
        """Return one band for each class, or one of the largest probability."""
        names = ("largest probability",) if self.options.probabilities == "top" else self.legend.names
        return Bands(len(names), np.float16, np.nan, names=names)

    def pixels(self, prediction: Prediction) -> np.ndarray:
        """Return the probabilities, NaN where the image has no data."""
        found = prediction.probabilities
        assert found is not None
        numbers = (found.max(axis=-1) if self.options.probabilities == "top" else found).astype(np.float16)
        if prediction.valid is not None:
            numbers[~prediction.valid] = np.nan
        return numbers

    @contextmanager
    def open_video(self, job: Job, rate: float) -> Iterator[Callable[[Prediction], None]]:
        """Open an archive of the probabilities, with the names of the classes under "classes"."""
        (path,) = self.files_of_video(job)
        with frame_archive(path, rate, classes=np.array(self.legend.names)) as put:
            yield lambda prediction: put(prediction.frame or 0, self.pixels(prediction))


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays as a compressed .npz, whole or not at all; none needs pickle to be read."""
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]

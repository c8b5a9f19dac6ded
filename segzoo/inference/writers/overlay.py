"""Overlays: the image under the colours of its classes, with a legend below."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from segzoo.files import replacing
from segzoo.inference.drawing import draw
from segzoo.inference.frames import video_file
from segzoo.inference.georeference import Bands
from segzoo.inference.writers.contract import Job, Output, Prediction
from segzoo.inference.writers.table import OUTPUTS


@OUTPUTS.register("overlay")
class Overlay(Output):
    """Image under the colours of its classes, with contours and a legend, as JPEG; background and nodata are untinted.

    The image has its own place and size at the top left: the legend is below it, and covers none of it. By windows a
    GeoTIFF of red, green and blue, on the image's grid: without a legend, and without contours, whose width depends on
    the size of the image.
    """

    folder = "overlays"
    video_suffixes = (".mp4",)
    by_windows = True
    options_by_windows = ("alpha",)

    def suffixes(self, job: Job) -> tuple[str, ...]:
        """Return .jpg, by windows .tif."""
        return (".tif",) if job.by_windows else (".jpg",)

    def write(self, prediction: Prediction) -> list[Path]:
        """Write the overlay of an image."""
        (path,) = self.files(prediction.job)
        with replacing(path) as temporary:
            Image.fromarray(drawn(prediction)).save(temporary, format="JPEG", quality=92)
        return [path]

    @contextmanager
    def open_video(self, job: Job, rate: float) -> Iterator[Callable[[Prediction], None]]:
        """Open a video of overlays, whose legend has all classes so that it is one."""
        (path,) = self.files_of_video(job)
        with video_file(path, rate) as append:
            yield lambda prediction: append(drawn(prediction, "all"))

    def bands(self) -> Bands:
        """Return red, green and blue."""
        return Bands(3, np.uint8, names=("red", "green", "blue"))

    def pixels(self, prediction: Prediction) -> np.ndarray:
        """Return the overlay of a window, without contours and legend."""
        return draw(
            prediction.image,
            prediction.class_map,
            prediction.legend,
            valid=prediction.valid,
            alpha=prediction.options.alpha,
            contours=False,
        )


def drawn(prediction: Prediction, named: Literal["present", "all"] = "present") -> np.ndarray:
    """Draw the overlay of an image by its options, uint8 `(h, w, 3)`; see `segzoo.inference.drawing.draw`."""
    options = prediction.options
    return draw(
        prediction.image,
        prediction.class_map,
        prediction.legend,
        valid=prediction.valid,
        alpha=options.alpha,
        contours=options.contours,
        named=named if options.legend else None,
    )

"""Overlays: the image under the colours of its classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from segzoo.files import replacing
from segzoo.inference.writers.contract import Job, Output, Prediction
from segzoo.inference.writers.table import OUTPUTS


@OUTPUTS.register("overlay")
class Overlay(Output):
    """Image under the colours of its classes with their contours, as JPEG; background and nodata stay untinted."""

    folder = "overlays"

    def suffixes(self, job: Job) -> tuple[str, ...]:
        """Return .jpg."""
        return (".jpg",)

    def write(self, prediction: Prediction) -> list[Path]:
        """Write the overlay of an image."""
        (path,) = self.files(prediction.job)
        with replacing(path) as temporary:
            Image.fromarray(drawn(prediction)).save(temporary, format="JPEG", quality=92)
        return [path]


def drawn(prediction: Prediction) -> np.ndarray:
    """Draw the overlay of an image, `(H, W, 3)` uint8, with the opacity of the prediction's options."""
    from segzoo.reporting.pictures import overlay

    legend, classes, ignored = prediction.legend, prediction.class_map, None
    if prediction.valid is not None and legend.multilabel:
        classes = classes * prediction.valid[..., None]
    elif prediction.valid is not None:
        ignored = len(legend.names)
        classes = np.where(prediction.valid, classes, ignored)
    return overlay(
        prediction.image,
        classes,
        legend.colours,
        prediction.options.alpha,
        ignored,
        background=legend.background,
        contours=True,
    )

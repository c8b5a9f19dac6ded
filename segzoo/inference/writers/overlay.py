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
        from segzoo.reporting.pictures import overlay

        (path,) = self.files(prediction.job)
        classes, ignored = prediction.class_map, None
        if prediction.valid is not None and self.legend.multilabel:
            classes = classes * prediction.valid[..., None]
        elif prediction.valid is not None:
            ignored = len(self.legend.names)
            classes = np.where(prediction.valid, classes, ignored)
        picture = overlay(
            prediction.image,
            classes,
            self.legend.colours,
            self.options.alpha,
            ignored,
            background=self.legend.background,
            contours=True,
        )
        with replacing(path) as temporary:
            Image.fromarray(picture).save(temporary, format="JPEG", quality=92)
        return [path]

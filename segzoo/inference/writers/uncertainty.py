"""Uncertainty: entropy of the predicted probabilities, as a picture and as numbers."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from segzoo.files import replacing
from segzoo.inference.georeference import write_geotiff
from segzoo.inference.writers.contract import Job, Output, Prediction
from segzoo.inference.writers.probabilities import write_npz
from segzoo.inference.writers.table import OUTPUTS


@OUTPUTS.register("uncertainty")
class Uncertainty(Output):
    """Entropy of the probabilities at each pixel, 0 (certain) to 1 (all classes equally probable); see `entropy`.

    A PNG of 8 bits, 0..255 for 0..1, with the colour map magma as its palette; and float16 in an .npz under the key
    "uncertainty", or in place of it a GeoTIFF, NaN where the image has no data.
    """

    folder = "uncertainty"
    needs_probabilities = True

    def suffixes(self, job: Job) -> tuple[str, ...]:
        """Return .png, and .npz or .tif."""
        return (".png", ".npz" if job.georeference is None else ".tif")

    def write(self, prediction: Prediction) -> list[Path]:
        """Write picture and numbers of an image."""
        assert prediction.probabilities is not None
        picture, numbers = self.files(prediction.job)
        found = entropy(prediction.probabilities, self.legend.multilabel)
        if prediction.valid is not None:
            found[~prediction.valid] = np.nan
        shown = Image.fromarray(np.rint(255 * np.nan_to_num(found)).astype(np.uint8))
        shown.putpalette(_magma())
        with replacing(picture) as temporary:
            shown.save(temporary, format="PNG")
        if prediction.job.georeference is None:
            write_npz(numbers, uncertainty=found.astype(np.float16))
        else:
            write_geotiff(numbers, found.astype(np.float16), prediction.job.georeference, np.nan)
        return [picture, numbers]


def entropy(probabilities: np.ndarray, multilabel: bool = False) -> np.ndarray:
    """Return the Shannon entropy `(H, W)` of probabilities `(H, W, classes)`, normalised to 0..1, float32.

    The logarithm has the number of classes as its base, so that 1 is a uniform distribution. Where classes may overlap,
    each is an event of its own: the mean of their entropies to base 2.
    """
    safe = np.clip(probabilities, np.finfo(np.float32).tiny, 1)
    if multilabel:
        rest = np.clip(1 - probabilities, np.finfo(np.float32).tiny, 1)
        found = -(safe * np.log2(safe) + rest * np.log2(rest)).mean(axis=-1)
    else:
        found = -(safe * np.log(safe)).sum(axis=-1) / np.log(probabilities.shape[-1])
    return np.clip(found, 0, 1).astype(np.float32)


@cache
def _magma() -> bytes:
    """Return matplotlib's colour map magma as the palette of a picture: black is certain, yellow is uncertain."""
    from matplotlib import colormaps

    return colormaps["magma"](np.arange(256), bytes=True)[:, :3].tobytes()

"""Uncertainty: entropy of probabilities or disagreement of an ensemble, as a picture and as numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from segzoo.files import replacing
from segzoo.inference.frames import frame_archive, video_file
from segzoo.inference.georeference import Bands, write_geotiff
from segzoo.inference.uncertainty import entropy
from segzoo.inference.writers.contract import Job, Output, Prediction
from segzoo.inference.writers.probabilities import write_npz
from segzoo.inference.writers.table import OUTPUTS


@OUTPUTS.register("uncertainty")
class Uncertainty(Output):
    """Uncertainty of each pixel, 0..1, by the option `uncertainty`; see `segzoo.inference.uncertainty`.

    "entropy" is that of the probabilities, 0 (certain) to 1 (all classes equally probable); "disagreement" that of the
    members of an ensemble, 0 (all predict the same probabilities) to 1.

    A PNG of 8 bits, 0..255 for 0..1, with the colour map magma as its palette; and float16 in an .npz under the key
    "uncertainty", or in place of it a GeoTIFF, NaN where the image has no data.
    """

    folder = "uncertainty"
    video_suffixes = (".mp4", ".npz")
    needs_probabilities = True
    by_windows = True
    options_by_windows = ("uncertainty",)

    @property
    def needs_disagreement(self) -> bool:
        """True where disagreement is wanted."""
        return self.options.uncertainty == "disagreement"

    def suffixes(self, job: Job) -> tuple[str, ...]:
        """Return .png, and .npz or .tif; by windows .tif alone, as a PNG is written from top to bottom."""
        numbers = ".tif" if job.is_raster else ".npz"
        return (numbers,) if job.by_windows else (".png", numbers)

    def write(self, prediction: Prediction) -> list[Path]:
        """Write picture and numbers of an image."""
        picture, numbers = self.files(prediction.job)
        found = self._measured(prediction)
        shown = Image.fromarray(_in_bytes(found))
        shown.putpalette(_magma().tobytes())
        with replacing(picture) as temporary:
            shown.save(temporary, format="PNG")
        if prediction.job.georeference is None:
            write_npz(numbers, uncertainty=found.astype(np.float16))
        else:
            write_geotiff(numbers, found.astype(np.float16), prediction.job.georeference, self.bands())
        return [picture, numbers]

    @contextmanager
    def open_video(self, job: Job, rate: float) -> Iterator[Callable[[Prediction], None]]:
        """Open a video of the pictures, and an archive of the numbers."""
        shown, numbers = self.files_of_video(job)
        with video_file(shown, rate) as append, frame_archive(numbers, rate) as put:

            def add(prediction: Prediction) -> None:
                found = self._measured(prediction)
                append(_magma()[_in_bytes(found)])
                put(prediction.frame or 0, found.astype(np.float16))

            yield add

    def bands(self) -> Bands:
        """Return one band."""
        return Bands(1, np.float16, np.nan)

    def pixels(self, prediction: Prediction) -> np.ndarray:
        """Return the uncertainty of a window, NaN where the image has no data."""
        return self._measured(prediction).astype(np.float16)

    def _measured(self, prediction: Prediction) -> np.ndarray:
        if self.needs_disagreement:
            assert prediction.disagreement is not None
            found = prediction.disagreement.copy()
        else:
            assert prediction.probabilities is not None
            found = entropy(prediction.probabilities, self.legend.multilabel)
        if prediction.valid is not None:
            found[~prediction.valid] = np.nan
        return found


def _in_bytes(uncertainty: np.ndarray) -> np.ndarray:
    """Return 0..255 for 0..1, and 0 for NaN."""
    return np.rint(255 * np.nan_to_num(uncertainty)).astype(np.uint8)


@cache
def _magma() -> np.ndarray:
    """Return matplotlib's colour map magma as a palette `(256, 3)` uint8: black is certain, yellow is uncertain."""
    from matplotlib import colormaps

    return colormaps["magma"](np.arange(256), bytes=True)[:, :3]

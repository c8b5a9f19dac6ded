"""Answers: what a prediction is sent back as, by the writers of `segzoo predict`."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from segzoo.errors import MissingPackageError, SegzooError
from segzoo.inference.legend import Legend
from segzoo.inference.outputs import OutputOptions
from segzoo.inference.predictor import Predictor
from segzoo.inference.writers.contract import Output, Prediction
from segzoo.inference.writers.overlay import drawn
from segzoo.inference.writers.table import OUTPUTS
from segzoo.serving.limits import RefusedError
from segzoo.serving.uploads import Upload, told

_MEDIA_TYPES = {
    ".png": "image/png",
    ".tif": "image/tiff",
    ".npz": "application/octet-stream",
    ".geojson": "application/geo+json",
}


class Answer(NamedTuple):
    """Body of an answer and its media type."""

    body: bytes
    media_type: str


def _file(name: str, prediction: Prediction) -> Answer:
    """Write the file of an output, as `segzoo predict` does, and return its content."""
    with tempfile.TemporaryDirectory(prefix="segzoo-") as folder:
        (path,) = OUTPUTS[name](Path(folder), prediction.legend, prediction.options).write(prediction)
        return Answer(path.read_bytes(), _MEDIA_TYPES[path.suffix])


def _overlay(prediction: Prediction) -> Answer:
    """Encode the overlay as PNG, and not as the JPEG that `segzoo predict` writes: a page shows it at any size."""
    stream = io.BytesIO()
    Image.fromarray(drawn(prediction)).save(stream, format="PNG", compress_level=1)
    return Answer(stream.getvalue(), _MEDIA_TYPES[".png"])


ANSWERS: dict[str, Callable[[Prediction], Answer]] = {
    "classes": partial(_file, "classes"),
    "overlay": _overlay,
    "probabilities": partial(_file, "probabilities"),
    "polygons": partial(_file, "polygons"),
}


class Answers:
    """Answers that a predictor, and the packages of this machine, can give.

    Args:
        predictor: its legend, and whether it has probabilities.

    Attributes:
        legend: the classes.
        missing: outputs that cannot be given, with the reason; it may name a path of this machine.
    """

    def __init__(self, predictor: Predictor):
        self.legend: Legend = predictor.legend(None, predictor.class_names)
        self.missing: dict[str, str] = {}
        for name in ANSWERS:
            try:
                self._writer(name, OutputOptions([name])).check_packages()
            except MissingPackageError as error:
                self.missing[name] = str(error)
        if predictor.network.decides:
            self.missing["probabilities"] = "The model was exported with --output classes, and has no probabilities."

    @property
    def names(self) -> list[str]:
        """Outputs that can be given."""
        return [name for name in ANSWERS if name not in self.missing]

    def needs_probabilities(self, options: OutputOptions) -> bool:
        """Return whether the output is made of probabilities."""
        return OUTPUTS[options.names[0]].needs_probabilities

    def check(self, options: OutputOptions, upload: Upload | None = None) -> None:
        """Check that the output can be given, for an upload if there is one yet.

        Raises:
            RefusedError: 501, not by this server; 422, not for this image.
        """
        (name,) = options.names
        if name in self.missing:
            raise RefusedError(501, f"This server cannot give {name}; it gives {', '.join(self.names)}.")
        if upload is not None:
            try:
                self._writer(name, options).check(upload.job)
            except SegzooError as error:
                raise RefusedError(422, told(error, upload.job.image)) from error

    def _writer(self, name: str, options: OutputOptions) -> Output:
        return OUTPUTS[name](Path(), self.legend, options)  # writes nothing, so its folder does not matter

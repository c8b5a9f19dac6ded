"""Pixel counts per class of the training split, counted once and cached in the run folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from segzoo.data import Source, check_source
from segzoo.errors import RunError
from segzoo.files import replacing


@dataclass(frozen=True)
class ClassPixels:
    """Pixel counts per class of a split, before augmentation and without ignored pixels.

    Attributes:
        fingerprint: the source's, so that counts of other data are told apart.
        pixels: class name to its pixels.
        shown_in: class name to the labelled pixels, of all classes, of the samples that show it.
    """

    fingerprint: str
    pixels: dict[str, int]
    shown_in: dict[str, int]

    @classmethod
    def of(cls, source: Source, workers: int) -> ClassPixels:
        """Count the pixels, reading every sample once; DataError if some cannot be read."""
        report = check_source(source, workers)
        report.raise_if_bad()
        return cls(report.fingerprint, report.pixels, report.shown_in)

    @classmethod
    def read(cls, path: Path) -> ClassPixels:
        """Read the file that `write` wrote; RunError if it cannot be read."""
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except (OSError, ValueError) as error:
            # pydantic's is a ValueError of several lines.
            why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
            raise RunError(
                f"{path} cannot be read ({why}), which holds the pixel counts that the loss's class weights are made "
                "from. Train again with --overwrite."
            ) from error

    def write(self, path: Path) -> None:
        """Write as JSON, atomically."""
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

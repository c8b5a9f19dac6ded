"""Uploaded image: its pixels, its place on Earth, and refusals that tell nothing of this machine."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segzoo.data.images import ImageReader
from segzoo.errors import MissingPackageError, SegzooError
from segzoo.inference.georeference import read_georeference, valid_pixels
from segzoo.inference.outputs import OutputOptions
from segzoo.inference.writers.contract import Job
from segzoo.serving.limits import RefusedError

# Pictures are told by their content whatever their ending, arrays by the ending alone.
_ENDINGS = {b"\x93NUMPY": ".npy", b"PK\x03\x04": ".npz"}
_NAME = "image"


@dataclass(frozen=True)
class Upload:
    """Decoded image.

    Attributes:
        job: its name and its place on Earth; the file itself is gone.
        image: `(H, W, C)`, uint8 or float32.
        valid: `(H, W)` bool, False where the image has no data; None: it has data everywhere.
    """

    job: Job
    image: np.ndarray
    valid: np.ndarray | None


def decode(data: bytes, reader: ImageReader, options: OutputOptions) -> Upload:
    """Decode an image file as `segzoo predict` reads it.

    Args:
        data: content of the file.
        reader: reader of image files.
        options: the outputs, for the georeference.

    Raises:
        RefusedError: 422, an image that the reader refuses, with its message; 501, a GeoTIFF where rasterio is missing.
    """
    ending = next((ending for start, ending in _ENDINGS.items() if data.startswith(start)), "")
    with tempfile.TemporaryDirectory(prefix="segzoo-") as folder:
        path = Path(folder, _NAME + ending)
        path.write_bytes(data)
        try:
            image = reader(path)
            place = read_georeference(path) if options.georeference else None
            valid = None if place is None else valid_pixels(path, place, image.shape[:2])
        except MissingPackageError as error:
            raise RefusedError(
                501, "The image is a GeoTIFF, and this server has no rasterio for its place: add ?georeference=false."
            ) from error
        except SegzooError as error:
            raise RefusedError(422, told(error, path)) from error
    return Upload(Job(path, Path(_NAME), _NAME, place), image, valid)


def told(error: SegzooError, path: Path) -> str:
    """Return the message of an error about an upload without its path."""
    text = str(error).replace(str(path), "The image")
    return text.replace(str(path.parent), "the server's folder")

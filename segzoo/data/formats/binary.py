"""Masks of two values, 0 and 1 or 0 and 255: the thing and the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segzoo.data.formats.contract import Labels, OneFile, check_threshold, two_values
from segzoo.data.masks import open_picture
from segzoo.errors import ConfigError, DataError

_CURE = (
    "Edges were smoothed, or the file went through JPEG. If it holds one thing and the rest, set masks.threshold: 128 "
    "(values from there up are the thing); if its values are class indices, use masks: index."
)


class BinaryFormat(OneFile):
    """One picture (PNG, TIFF, BMP, JPEG) for each image: 0 is the first class, 1 or 255 the second.

    Args:
        labels: two classes.
        threshold: values from it up are the second class; None: any value but 0 and 1, or 0 and 255, is an error that
            says how many pixels have it.
        invert: 0 is the second class instead.
    """

    suffixes = (".png", ".tif", ".tiff", ".bmp", ".jpg", ".jpeg")

    def __init__(self, labels: Labels, threshold: int | None = None, invert: bool = False):
        super().__init__(labels)
        if len(labels.classes) != 2:
            raise ConfigError(f"masks: binary tells two classes apart, not {len(labels.classes)}; see masks: index.")
        check_threshold(threshold)
        self._threshold = threshold
        self._invert = invert

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return labels 0 and 1 (H, W)."""
        mask = two_values(read_grey(place, self.labels.max_pixels), place, self._threshold, _CURE)
        return (1 - mask if self._invert else mask).astype(self.labels.dtype)


def read_grey(path: Path, max_pixels: int) -> np.ndarray:
    """Read a picture of one channel, or of three equal ones, as it is stored: (H, W) integers.

    Raises:
        DataError: unreadable, truncated, coloured, or more than `max_pixels` pixels.
    """
    with open_picture(path, max_pixels) as picture:
        if picture.mode == "1":
            return np.asarray(picture).astype(np.uint8)
        if picture.mode == "P":
            # Two-coloured palettes name black and white in either order; other palettes hold indices.
            picture = picture.convert("RGB")
        array = np.asarray(picture)
    if array.ndim == 2:
        return array
    color = array[..., :3] if array.shape[2] >= 3 else array[..., :1]
    # JPEG keeps grey pictures of three channels grey to a level or two
    if np.ptp(color.astype(np.int16), axis=2).max(initial=0) > 4:
        raise DataError(f"{path}: the mask has colours, where one thing and the rest were expected; see masks: rgb.")
    return color[..., 0]

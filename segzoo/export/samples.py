"""Images to calibrate on, and labelled ones to score on, as an export takes them from its caller."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import cv2
import numpy as np

from segzoo.errors import SegzooError
from segzoo.levels import SMALLEST_SIDE


@dataclass(frozen=True)
class Calibration:
    """Images from which ranges of activations are measured.

    Attributes:
        images: `(H, W, C)`, 0..255, of any sizes.
        size: height and width to resize them to; None: as they are.
    """

    images: Sequence[np.ndarray]
    size: tuple[int, int] | None = None

    @classmethod
    def of(cls, images: Iterable[Any], most: int, channels: int, size: tuple[int, int] | None) -> Calibration:
        """Take the first images of an iterable of images `(H, W, C)` or batches `(B, H, W, C)`.

        Args:
            images: read until there are `most`; an endless one will do.
            most: number of images.
            channels: C.
            size: fixed height and width of the model, or None.

        Raises:
            SegzooError: no images, or other shapes.
        """
        found = list(islice(_single(images), most))
        if not found:
            raise SegzooError("calibration holds no images. Give some of the training images, 100 or more.")
        for image in found:
            check_image(image, channels, "calibration")
        return cls(found, size)

    def __len__(self) -> int:
        return len(self.images)

    def batches(self) -> Iterator[np.ndarray]:
        """Iterate over the images as the model takes them, float32 `(1, H, W, C)`."""
        for image in self.images:
            yield resized(np.asarray(image, np.float32), self.size)[None]


def _single(images: Iterable[Any]) -> Iterator[np.ndarray]:
    """Yield single images; of tuples, such as (images, masks), the first."""
    for entry in images:
        array = np.asarray(entry[0] if isinstance(entry, tuple | list) else entry)
        yield from array if array.ndim == 4 else [array]


def check_image(image: np.ndarray, channels: int, argument: str, smallest: int = SMALLEST_SIDE) -> None:
    """Raise SegzooError, naming the argument, unless an array is an image of `smallest` pixels a side or more."""
    if image.ndim != 3 or image.shape[2] != channels or min(image.shape[:2]) < smallest:
        raise SegzooError(
            f"{argument} must be images (H, W, {channels}) of {smallest} x {smallest} pixels or more, got "
            f"{image.shape}."
        )


def resized(image: np.ndarray, size: tuple[int, int] | None, nearest: bool = False) -> np.ndarray:
    """Resize an image `(H, W, C)` or a mask `(H, W)`, `(H, W, C)` to a height and width; None: return it as it is.

    Args:
        image: the array.
        size: height and width.
        nearest: take values as they are, as labels must be; else average the pixels.
    """
    if size is None or image.shape[:2] == tuple(size):
        return image
    interpolation = cv2.INTER_NEAREST_EXACT if nearest else cv2.INTER_AREA
    if image.ndim == 2:
        return cv2.resize(image, size[::-1], interpolation=interpolation)
    # One by one: OpenCV averages at most four channels at a time.
    return np.stack([cv2.resize(one, size[::-1], interpolation=interpolation) for one in np.rollaxis(image, 2)], -1)

"""Foreground-biased cropping: a share of the crops is centred on a foreground pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Crop:
    """Random crop of a fixed size, a function of the seed.

    In `fraction` of the samples it is centred on a random pixel of a class that is drawn from the foreground classes
    which the mask shows, so a class of few pixels comes as often as a large one (as nnU-Net does; Isensee et al.,
    2021); elsewhere, and where there is no foreground, its place is uniformly random. It never leaves the image. A
    smaller image is first padded on the right and below, with zeros and in the mask with the ignore index.

    Attributes:
        size: height and width in pixels.
        ignore_index: label of the pixels that are no class.
        fraction: share of the samples with a centred crop, 0 to 1.
        background: labels that are no foreground.
    """

    size: tuple[int, int]
    ignore_index: int
    fraction: float = 0.0
    background: Sequence[int] = ()

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return crops of an image `(H, W, C)` and a mask `(H, W)` or `(H, W, classes)`, the same for one seed."""
        image, mask = self._padded(image, mask)
        rng = np.random.default_rng(seed)
        room = (image.shape[0] - self.size[0], image.shape[1] - self.size[1])
        top, left = (int(rng.integers(0, most + 1)) for most in room)
        if rng.random() < self.fraction and (centre := self._centre(mask, rng)) is not None:
            top, left = (
                int(np.clip(at - side // 2, 0, most)) for at, side, most in zip(centre, self.size, room, strict=True)
            )
        rows, columns = slice(top, top + self.size[0]), slice(left, left + self.size[1])
        return image[rows, columns], mask[rows, columns]

    def _centre(self, mask: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
        """Return a random pixel of a foreground class; None if there is none."""
        if mask.ndim == 3:
            shown = [label for label in range(mask.shape[2]) if (mask[..., label] == 1).any()]
        else:
            shown = [int(label) for label in np.unique(mask) if label != self.ignore_index]
        shown = [label for label in shown if label not in self.background]
        if not shown:
            return None
        label = shown[int(rng.integers(len(shown)))]
        found = mask[..., label] == 1 if mask.ndim == 3 else mask == label
        places = np.flatnonzero(found)
        row, column = divmod(int(places[rng.integers(len(places))]), mask.shape[1])
        return row, column

    def _padded(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        below, right = (max(0, side - there) for side, there in zip(self.size, image.shape, strict=False))
        if not (below or right):
            return image, mask
        dtype = np.result_type(mask.dtype, np.min_scalar_type(self.ignore_index))
        widths = ((0, below), (0, right))
        mask_widths = (*widths, *((0, 0),) * (mask.ndim - 2))
        padded = np.pad(mask.astype(dtype, copy=False), mask_widths, constant_values=self.ignore_index)
        return np.pad(image, (*widths, (0, 0))), padded

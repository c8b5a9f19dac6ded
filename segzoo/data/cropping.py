"""Cutting windows of one size out of samples, some of them centred on what is rare."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from segzoo.errors import DataError

Strategy = Literal["random", "foreground"]


class Crop:
    """Windows of one size, before augmentation: decoding is paid in full, augmentation for the window only.

    A sample smaller than the window is padded on all sides, the image with 0 and the mask with the ignore index.

    Args:
        size: (height, width) in pixels.
        ignore_index: label of padding and of pixels that attract no window.
        strategy: "random", or "foreground": `fraction` of the windows are centred, as far as the borders allow, on a
            pixel of a foreground class, drawn first by class and then by pixel (as nnU-Net does, with a third:
            Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z). A sample without foreground gives random
            windows.
        fraction: 0..1.
        foreground: labels, in multilabel channels, that attract windows; None: all but 0, in multilabel all.

    Raises:
        DataError: a value out of its range.
    """

    def __init__(
        self,
        size: tuple[int, int],
        ignore_index: int,
        strategy: Strategy = "random",
        fraction: float = 0.33,
        foreground: Sequence[int] | None = None,
    ):
        if min(size) < 1 or not 0 <= fraction <= 1:
            raise DataError(f"A crop needs a size of 1 x 1 or more and a fraction of 0 to 1, not {size}, {fraction}.")
        self.size = (int(size[0]), int(size[1]))
        self._ignore_index = ignore_index
        self._fraction = fraction if strategy == "foreground" else 0.0
        self._foreground = None if foreground is None else list(foreground)

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a window of image (H, W, C) and mask (H, W[, classes]), a pure function of the arguments; views."""
        rng = np.random.default_rng(seed)
        image, mask = self._padded(image, mask)
        room = (mask.shape[0] - self.size[0], mask.shape[1] - self.size[1])
        centred = rng.random() < self._fraction
        top, left = (int(rng.integers(0, space + 1)) for space in room)
        if centred and (centre := self._pixel(mask, rng)) is not None:
            top, left = (
                min(max(0, at - side // 2), space) for at, side, space in zip(centre, self.size, room, strict=True)
            )
        window = (slice(top, top + self.size[0]), slice(left, left + self.size[1]))
        return image[window], mask[window]

    def _pixel(self, mask: np.ndarray, rng: np.random.Generator) -> tuple[int, int] | None:
        """Draw a foreground pixel (row, column): a class of those that are there, then one of its pixels."""
        if mask.ndim == 3:
            known = [c for c in self._foreground or range(mask.shape[2]) if (mask[..., c] == 1).any()]
        else:
            wanted = np.unique(mask) if self._foreground is None else np.array(self._foreground)
            known = [int(c) for c in wanted if c != self._ignore_index and (self._foreground is not None or c != 0)]
            known = [c for c in known if self._foreground is None or (mask == c).any()]
        if not known:
            return None
        chosen = known[int(rng.integers(len(known)))]
        pixels = np.flatnonzero(mask[..., chosen] == 1 if mask.ndim == 3 else mask == chosen)
        row, column = divmod(int(pixels[int(rng.integers(len(pixels)))]), mask.shape[1])
        return row, column

    def _padded(self, image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        missing = [max(0, side - given) for side, given in zip(self.size, mask.shape, strict=False)]
        if not any(missing):
            return image, mask
        around = [(space // 2, space - space // 2) for space in missing]
        wide = mask.astype(np.result_type(mask.dtype, np.min_scalar_type(self._ignore_index)), copy=False)
        padded = np.pad(wide, around + [(0, 0)] * (mask.ndim - 2), constant_values=self._ignore_index)
        return np.pad(image, [*around, (0, 0)]), padded

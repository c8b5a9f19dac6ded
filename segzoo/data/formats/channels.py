"""Multilabel masks as pictures: each channel, or each page of a TIFF, is a class of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ImageSequence

from segzoo.data.formats.array import check_high, layered
from segzoo.data.formats.contract import Labels, OneFile
from segzoo.data.masks import open_picture
from segzoo.errors import DataError


class ChannelsFormat(OneFile):
    """One PNG of up to 4 channels, or TIFF of a page per class, for each image.

    The first channel, red in an RGB picture, is the first class. Values are 0, `high` and the ignore index.

    Args:
        labels: the classes.
        high: the value that says yes: 255, or 1. Where it is 255, places are ignored by another `ignore_index`.
    """

    multilabel = (True,)

    def __init__(self, labels: Labels, high: int = 255):
        super().__init__(labels)
        check_high(high)
        self._high = high

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return 0, 1 and the ignore index (H, W, C)."""
        try:
            pages = self._pages(place)
        except TypeError as error:  # what Pillow raises on a later page that lacks its width
            raise DataError(
                f"{place}: cannot be read as a mask ({error}). Write the file again or remove it."
            ) from error
        if len({page.shape for page in pages}) > 1:
            raise DataError(f"{place}: its pages differ in size or channels.")
        return layered(np.concatenate(pages, axis=-1), self._high, self.labels, place)

    def _pages(self, place: Path) -> list[np.ndarray]:
        """Return the pages of a file, (H, W, channels) each."""
        limit = self.labels.max_pixels
        with open_picture(place, limit) as picture:
            pages = []
            for number, page in enumerate(ImageSequence.Iterator(picture)):
                if number >= len(self.labels.classes):
                    raise DataError(f"{place}: has more pages than there are classes ({len(self.labels.classes)}).")
                if page.width * page.height > limit or page.mode == "P":
                    raise DataError(f"{place}: page {number} is larger than the first, or has a palette.")
                array = np.asarray(page)
                if array.dtype == bool:  # a page of one bit
                    array = array.astype(np.uint8) * np.uint8(self._high)
                pages.append(array[..., None] if array.ndim == 2 else array)
        return pages

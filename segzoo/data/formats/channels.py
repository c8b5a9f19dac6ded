"""Multilabel masks as pictures: each channel, or each page of a TIFF, is a class of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import ImageSequence

from segzoo.data.formats.array import layered
from segzoo.data.formats.contract import OneFile
from segzoo.data.masks import open_picture
from segzoo.errors import DataError


class ChannelsFormat(OneFile):
    """One PNG of up to 4 channels, or TIFF of a page per class, for each image, of 0 and 1 or 0 and 255.

    The first channel, red in an RGB picture, is the first class.
    """

    multilabel = (True,)

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return 0, 1 and the ignore index (H, W, C)."""
        limit = self.labels.max_pixels
        with open_picture(place, limit) as picture:
            pages = []
            for number, page in enumerate(ImageSequence.Iterator(picture)):
                if number >= len(self.labels.classes):
                    raise DataError(f"{place}: has more pages than there are classes ({len(self.labels.classes)}).")
                if page.width * page.height > limit or page.mode == "P":
                    raise DataError(f"{place}: page {number} is larger than the first, or has a palette.")
                array = np.asarray(page)
                pages.append(array[..., None] if array.ndim == 2 else array)
        if len({page.shape for page in pages}) > 1:
            raise DataError(f"{place}: its pages differ in size or channels.")
        return layered(np.concatenate(pages, axis=-1), self.labels, place)

"""Multilabel masks as pictures: each channel, or each page of a TIFF, is a class of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segzoo.data.formats.array import check_high, layered
from segzoo.data.formats.contract import Labels, OneFile
from segzoo.data.formats.pictures import Picture, alpha_of, load_pages, stored_numbers
from segzoo.data.formats.table import MASK_FORMATS
from segzoo.errors import DataError
from segzoo.task import Mode


@MASK_FORMATS.register("channels")
class ChannelsFormat(OneFile):
    """One PNG of up to 4 channels (lossless WebP: 3 or 4), or TIFF of a page per class, for each image.

    The first channel, red in an RGB picture, is the first class. Values are 0, `high` and the ignore index.

    Args:
        labels: the classes.
        high: the value that says yes: 255, or 1. Where it is 255, places are ignored by another `ignore_index`.
    """

    modes: tuple[Mode, ...] = ("multilabel",)
    suffixes = (".png", ".tif", ".tiff", ".webp")

    def __init__(self, labels: Labels, high: int = 255):
        super().__init__(labels)
        check_high(high)
        self._high = high

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return 0, 1 and the ignore index (H, W, C)."""
        pages = [
            self._layers(page, place) for page in load_pages(place, self.labels.max_pixels, len(self.labels.classes))
        ]
        if len({page.shape for page in pages}) > 1:
            raise DataError(f"{place}: its pages differ in size or channels.")
        mask = np.concatenate(pages, axis=-1)
        opaque = mask.shape[2] == len(self.labels.classes) + 1 and mask.shape[2] in (2, 4) and len(pages) == 1
        if opaque and mask[..., -1].min(initial=255) == 255:  # an alpha channel that says nothing
            mask = mask[..., :-1]
        return layered(mask, self._high, self.labels, place)

    def _layers(self, page: Picture, place: Path) -> np.ndarray:
        """Return a page as (H, W, channels)."""
        picture = page.image
        alpha = alpha_of(picture)
        if "a" in page.packing.split(";")[0] and alpha is not None and int(alpha.min(initial=255)) < 255:
            raise DataError(
                f"{place}: its first channels are stored multiplied by the last, which loses them. Write it anew, with "
                "the last channel as unassociated alpha, or a page for each class."
            )
        if not (page.is_grey or picture.mode in ("LA", "RGB", "RGBA", "CMYK")) or picture.mode == "P":
            raise DataError(
                f"{place}: a picture of mode {picture.mode} or with a palette, whose channels are no classes. Write a "
                "channel, or a page of a TIFF, for each class."
            )
        if picture.mode == "1":  # white says yes, whatever the number for it
            return np.asarray(picture).astype(np.uint8)[..., None] * np.uint8(self._high)
        return stored_numbers(page, place)[..., None] if page.is_grey else np.asarray(picture)

"""Masks as NumPy files: .npy and .npz."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segzoo.data.arrays import load_array
from segzoo.data.formats.contract import Labels, OneFile, white_hint
from segzoo.data.formats.pictures import compact, whole_numbers
from segzoo.data.formats.table import MASK_FORMATS
from segzoo.errors import ConfigError, DataError, listed
from segzoo.task import MODES, Mode


@MASK_FORMATS.register("array")
class ArrayFormat(OneFile):
    """One .npy or .npz for each image: labels (H, W), or in multilabel 0, 1 and the ignore index (H, W, C).

    Args:
        labels: the classes.
        key: name of the array in an .npz; None: the only one.
        high: in multilabel, the value that says yes: 1 or 255; None: 1, and an error where no mask of a data set has
            a 1 and some have 255 for the ignore index, which then probably says yes.
    """

    modes: tuple[Mode, ...] = MODES
    suffixes = (".npy", ".npz")

    def __init__(self, labels: Labels, key: str | None = None, high: int | None = None):
        super().__init__(labels)
        check_high(1 if high is None else high)
        if key is not None and not isinstance(key, str):
            raise ConfigError(f"masks.key must be the name of an array, got {key!r}.")
        self._key = key
        self._high = 1 if high is None else high
        self.white = white_hint(labels, "masks.high: 255" if labels.multilabel else "masks: binary", high is None)

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return labels (H, W), or in multilabel (H, W, C)."""
        mask = load_array(place, self.labels.max_pixels, self._key)
        if mask.dtype == bool:
            mask = mask.astype(np.uint8)
        if mask.dtype.kind not in "iuf":
            raise DataError(f"{place}: a mask holds whole numbers, not {mask.dtype}.")
        mask = compact(whole_numbers(mask, place))
        if self.labels.multilabel:
            return layered(mask, self._high, self.labels, place)
        if mask.ndim == 3 and mask.shape[2] == 1:
            mask = mask[..., 0]
        if mask.ndim != 2:
            raise DataError(
                f"{place}: a mask of shape {mask.shape}, where (H, W) is due. Masks of one channel per class "
                "go with mode: multilabel."
            )
        return mask


def check_high(high: int) -> None:
    """Raise ConfigError unless the value that says yes in multilabel is 1 or 255."""
    if high not in (1, 255) or isinstance(high, bool):
        raise ConfigError(f"masks.high must be 1 or 255, got {high!r}.")


def layered(mask: np.ndarray, high: int, labels: Labels, place: Path) -> np.ndarray:
    """Return a mask (H, W, C) of 0, `high` and the ignore index as 0, 1 and the ignore index.

    Which of 1 and 255 says yes is not read off the file: one that holds 0 and 255 alone could have nothing but ignored
    places. Where `high` is the ignore index, it says yes.

    Raises:
        DataError: the number of channels differs from that of the classes, or other values occur.
    """
    if mask.ndim != 3 or mask.shape[2] != len(labels.classes):
        raise DataError(
            f"{place}: a mask of shape {mask.shape}, where multilabel needs (H, W, {len(labels.classes)}): one "
            f"channel for each class ({listed(labels.classes)})."
        )
    result = (mask == high).astype(labels.dtype)
    ignored = (mask == labels.ignore_index) & (mask != high)
    result[ignored] = labels.ignore_index
    wrong = mask[(result == 0) & (mask != 0)]
    if wrong.size:
        values, counts = np.unique(wrong, return_counts=True)
        shown = ", ".join(f"{v} ({n} places)" for v, n in zip(values[:5], counts[:5], strict=True))
        raise DataError(
            f"{place}: {shown}{', ...' if len(values) > 5 else ''} of {mask.size} are neither 0 nor {high}, which "
            f"masks.high says yes is, nor the ignore index ({labels.ignore_index}). Correct the mask, or set "
            "masks.high to 1 or 255."
        )
    return result

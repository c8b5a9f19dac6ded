"""Masks whose pixel values are class indices: grey and palette PNG, and TIFF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from segzoo.data.formats.contract import Labels, OneFile, white_hint
from segzoo.data.formats.pictures import read_indices
from segzoo.data.formats.table import MASK_FORMATS
from segzoo.data.masks import nodata
from segzoo.errors import ConfigError, DataError


@MASK_FORMATS.register("index")
class IndexFormat(OneFile):
    """One picture (PNG, TIFF, BMP, GIF, lossless WebP) for each image, whose values are labels.

    Grey of 1 to 32 bits, whole numbers stored as floats, or a palette, which is not applied.

    Args:
        labels: the classes.
        values: class name or "ignore" to its value in the files, or to a list of them, where values are not the labels
            themselves: {road: 7, building: [11, 12], ignore: [255, -9999]}.
        other: treatment of values missing in `values`: "error", or "ignore" for the ignore index.
    """

    def __init__(
        self,
        labels: Labels,
        values: Mapping[str, int | Sequence[int]] | None = None,
        other: Literal["error", "ignore"] = "error",
    ):
        super().__init__(labels)
        self._table = None if values is None else ValueTable(values, labels, other)
        self.white = white_hint(labels, "masks: binary", values is None)
        if values is None and other != "error":
            raise ConfigError("masks.other goes with masks.values, which says what the values mean.")

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return labels (H, W)."""
        mask = read_indices(place, self.labels.max_pixels)
        return mask if self._table is None else self._table(mask, place)


class ValueTable:
    """The labels of the values that files hold.

    Args:
        values, other: see `IndexFormat`.
        labels: the classes.

    Raises:
        ConfigError: values that are not whole numbers of up to 32 bits, or belong to two classes; a class without a
            value.
    """

    def __init__(self, values: Mapping[str, int | Sequence[int]], labels: Labels, other: str):
        if other not in ("error", "ignore"):
            raise ConfigError(f"masks.other must be error or ignore, got {other!r}.")
        if not isinstance(values, Mapping):
            raise ConfigError(
                f"masks.values must be class names and their values, {{road: 7, car: [26, 27]}}: {values!r}."
            )
        self._names: dict[int, str] = {}
        for name, given in values.items():
            for value in given if isinstance(given, Sequence) and not isinstance(given, str) else (given,):
                if not isinstance(value, int) or isinstance(value, bool) or not -(2**31) <= value < 2**32:
                    raise ConfigError(
                        f"masks.values, {name}: {value!r} is no pixel value; they are whole numbers, -2147483648 to "
                        "4294967295."
                    )
                if self._names.setdefault(value, name) != name:
                    raise ConfigError(f"masks.values: {value} stands for {self._names[value]!r} and for {name!r}.")
        self._labels = labels
        self._of = {value: labels.number(name, "masks.values") for value, name in self._names.items()}
        missing = [name for name in labels.classes if name not in self._names.values()]
        if missing:
            raise ConfigError(f"masks.values has no value for {', '.join(missing)}.")
        self._other = labels.ignore_index if other == "ignore" else None
        # Nearly all masks hold 0..65535, whose labels one step finds
        self._table = np.full(65536, self._other or 0, labels.dtype)
        self._known = np.full(65536, self._other is not None)
        for value, label in self._of.items():
            if 0 <= value < len(self._table):
                self._table[value], self._known[value] = label, True

    def __call__(self, mask: np.ndarray, path: Path) -> np.ndarray:
        """Return the labels of the values of a mask; DataError counts the values without a label."""
        if mask.min(initial=0) >= 0 and mask.max(initial=0) < len(self._table):
            known = self._known[mask]
            if known.all():
                return self._table[mask]
            values, counts = np.unique(mask[~known], return_counts=True)
        else:
            values, places, counts = np.unique(mask, return_inverse=True, return_counts=True)
            labels = [self._of.get(int(value), self._other) for value in values]
            if None not in labels:
                return np.array(labels, self._labels.dtype)[places].reshape(mask.shape)
            lost = np.array([label is None for label in labels])
            values, counts = values[lost], counts[lost]
        shown = ", ".join(f"{v} ({n} pixels)" for v, n in zip(values[:8], counts[:8], strict=True))
        empty = nodata(path)
        meaning = f" The file calls {empty} no data: ignore: {empty}." if empty in values else ""
        raise DataError(
            f"{path}: value {shown}{' and more' if len(values) > 8 else ''} is not in masks.values. Add it there, or "
            f"set masks.other: ignore.{meaning}",
            "label",
        )

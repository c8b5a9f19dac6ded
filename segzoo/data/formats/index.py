"""Masks whose pixel values are class indices: grey and palette PNG, and TIFF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from segzoo.data.formats.contract import Labels, OneFile
from segzoo.data.masks import read_index_mask
from segzoo.errors import ConfigError, DataError


class IndexFormat(OneFile):
    """One PNG or TIFF for each image, whose values are labels: grey of 1 to 16 bits, or palette, which is not applied.

    Args:
        labels: the classes.
        values: class name or "ignore" to its value in the files, or to a list of them, where values are not the labels
            themselves: {road: 7, building: [11, 12], ignore: 255}.
        other: what values missing in `values` are: "error", or "ignore" for the ignore index.
    """

    def __init__(
        self,
        labels: Labels,
        values: Mapping[str, int | Sequence[int]] | None = None,
        other: Literal["error", "ignore"] = "error",
    ):
        super().__init__(labels)
        self._lookup = None if values is None else value_table(values, labels, other)
        if values is None and other != "error":
            raise ConfigError("masks.other goes with masks.values, which says what the values mean.")

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return labels (H, W)."""
        mask = read_index_mask(place, self.labels.max_pixels)
        return mask if self._lookup is None else looked_up(mask, self._lookup, self.labels, place)


def value_table(values: Mapping[str, int | Sequence[int]], labels: Labels, other: str) -> np.ndarray:
    """Return the label of each value 0..65535, int32; -1 for those that are an error."""
    if other not in ("error", "ignore"):
        raise ConfigError(f"masks.other must be error or ignore, got {other!r}.")
    if not isinstance(values, Mapping):
        raise ConfigError(f"masks.values must be class names and their values, {{road: 7, car: [26, 27]}}: {values!r}.")
    table = np.full(65536, labels.ignore_index if other == "ignore" else -1, np.int32)
    taken: dict[int, str] = {}
    for name, given in values.items():
        label = labels.number(name, "masks.values")
        for value in given if isinstance(given, Sequence) and not isinstance(given, str) else (given,):
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < len(table):
                raise ConfigError(
                    f"masks.values, {name}: {value!r} is no pixel value; they are whole numbers, 0 to 65535."
                )
            if taken.setdefault(value, name) != name:
                raise ConfigError(f"masks.values: {value} stands for {taken[value]!r} and for {name!r}.")
            table[value] = label
    missing = [name for name in labels.classes if name not in values]
    if missing:
        raise ConfigError(f"masks.values has no value for {', '.join(missing)}.")
    return table


def looked_up(mask: np.ndarray, table: np.ndarray, labels: Labels, name: object) -> np.ndarray:
    """Return the labels that `table` has for the values of a mask; DataError counts the values that it has not."""
    if mask.min(initial=0) < 0 or mask.max(initial=0) >= len(table):
        raise DataError(f"{name}: values from {mask.min()} to {mask.max()}, but masks.values knows 0 to 65535.")
    found = table[mask]
    unknown = found < 0
    if unknown.any():
        values, counts = np.unique(mask[unknown], return_counts=True)
        shown = ", ".join(f"{v} ({n} pixels)" for v, n in zip(values[:8], counts[:8], strict=True))
        raise DataError(
            f"{name}: value {shown}{' and more' if len(values) > 8 else ''} is not in masks.values. Add it there, or "
            "set masks.other: ignore."
        )
    return found.astype(labels.dtype)

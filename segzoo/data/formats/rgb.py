"""Masks in which each class has a colour, with the table of colours as CamVid, Cityscapes and VOC publish it."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from segzoo.data.formats.contract import Labels, OneFile
from segzoo.data.formats.pictures import alpha_of, load_picture
from segzoo.data.formats.table import MASK_FORMATS
from segzoo.document import MAX_BYTES, parse
from segzoo.errors import ConfigError, DataError, shortened
from segzoo.files import read_text

_SEARCHED = 300  # colours; the time to find a smaller table than one of all colours grows with the square of this
_FORMS = "{sky: [128, 128, 128], road: [[128, 64, 128], [0, 0, 192]]}, or a list with one [r, g, b] per class"


@MASK_FORMATS.register("rgb")
class RgbFormat(OneFile):
    """One picture (PNG, TIFF, BMP, GIF, WebP) for each image, whose colours stand for classes; palettes are applied.

    Args:
        labels: the classes.
        colors: class name to [r, g, b], 0..255, or to a list of them; or one [r, g, b] per class in their order; or
            the path of a file: YAML of this form, or a line of `name, r, g, b` or `r g b name` for each class, with
            or without a heading. The name "ignore" stands for the ignore index.
        other: what colours outside the table are, and the file's entries that are no class: "error", or "ignore" for
            the ignore index.
    """

    def __init__(
        self,
        labels: Labels,
        colors: Mapping[str, Any] | Sequence[Any] | str | None = None,
        other: Literal["error", "ignore"] = "error",
    ):
        super().__init__(labels)
        if other not in ("error", "ignore"):
            raise ConfigError(f"masks.other must be error or ignore, got {other!r}.")
        if colors is None:
            raise ConfigError(f"masks: rgb needs colors: {_FORMS}, or the path of a CSV or YAML file.")
        self._where = f"masks.colors, {colors}" if isinstance(colors, str) else "masks.colors"
        table = read_colors(Path(colors)) if isinstance(colors, str) else _as_table(colors, labels, self._where)
        self._ignores_others = other == "ignore"
        codes: dict[int, int] = {}
        for name, color in table:
            if name not in (*labels.classes, "ignore") and self._ignores_others:
                continue
            code, label = _code(color, f"{self._where}, {name}"), labels.number(name, self._where)
            if codes.setdefault(code, label) != label:
                raise ConfigError(f"{self._where}: {list(color)} stands for two classes, the second is {name!r}.")
        missing = [name for index, name in enumerate(labels.classes) if index not in codes.values()]
        if missing:
            raise ConfigError(f"{self._where} has no colour for {', '.join(missing)}.")
        # A table in which no two colours collide, so that a pixel's colour is compared with one other
        known = np.array(list(codes), np.int32)
        sizes = range(len(codes), 1 << 24) if len(codes) <= _SEARCHED else ()
        self._slots = next((n for n in sizes if len(np.unique(known % n)) == len(codes)), 1 << 24)
        self._codes = np.full(self._slots, -1, np.int32)
        self._labels = np.zeros(self._slots, labels.dtype)
        for code, label in codes.items():
            self._codes[code % self._slots], self._labels[code % self._slots] = code, label

    @staticmethod
    def resolved(options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the option `colors` with the table in place of its file; ConfigError where it cannot be read."""
        path = options.get("colors")
        if not isinstance(path, str):
            return {}
        table: dict[str, list[list[int]]] = {}
        for name, color in read_colors(Path(path)):
            table.setdefault(name, []).append(list(color))
        return {"colors": table}

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return labels (H, W)."""
        picture = load_picture(place, self.labels.max_pixels, lossless=True).image
        alpha = alpha_of(picture)
        if alpha is not None and int(alpha.min(initial=255)) < 255:
            raise DataError(
                f"{place}: {int((alpha < 255).sum())} of {alpha.size} pixels of the mask are transparent. Write it "
                "without an alpha channel, in the colours of the classes."
            )
        if picture.mode not in ("RGB", "RGBA", "P", "PA"):
            raise DataError(
                f"{place}: the mask has no colours (mode {picture.mode}). Masks whose grey values are class "
                "indices are read by masks: index."
            )
        colors = np.asarray(picture.convert("RGB") if picture.mode != "RGB" else picture)
        codes = cv2.cvtColor(colors, cv2.COLOR_RGB2BGRA).view("<i4")[..., 0] & 0xFFFFFF
        at = codes % self._slots
        mask = np.take(self._labels, at)
        unknown = np.take(self._codes, at) != codes
        if unknown.any():
            if not self._ignores_others:
                raise DataError(_unknown_colors(place, codes[unknown], self._where), "label")
            mask[unknown] = self.labels.ignore_index
        return mask


def read_colors(path: Path) -> list[tuple[str, tuple[int, int, int]]]:
    """Read a table of class names and colours from a YAML file, or from lines `name, r, g, b` or `r g b name`.

    Raises:
        ConfigError: the file is missing, or a line is malformed.
    """
    try:
        text = read_text(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise ConfigError(f"masks.colors: {path} cannot be read ({error}).") from error
    if path.suffix.lower() in (".yaml", ".yml"):
        found, _ = parse(text, lambda line: f"masks.colors: {path}:{line}")
        if not isinstance(found, Mapping):
            raise ConfigError(f"masks.colors: {path} must hold class names and colours, as {_FORMS}.")
        return [(name, _channels(color, f"masks.colors: {path}, {name}")) for name, color in _as_table(found, None, "")]
    table: list[tuple[str, tuple[int, int, int]]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        # CamVid's own list has "64 128 64<tab>Animal", CVAT's of VOC "cat:64,0,0::"; CSVs have commas or semicolons,
        # and names may have spaces
        line = re.sub(r"^([^:,;]+):([0-9, ]+):.*$", r"\1,\2", line)
        try:
            cells = next(csv.reader([line], delimiter=";" if ";" in line else ","))
        except csv.Error as error:
            raise ConfigError(f"masks.colors: {path}:{number}: {shortened(line)} is no CSV ({error}).") from error
        if len(cells) == 1:
            cells = re.split(r"\s+", line.strip(), maxsplit=3)
        cells = [cell.strip() for cell in cells if cell.strip()]
        digits = [cell for cell in cells if cell.isascii() and cell.isdigit()]
        names = [cell for cell in cells if cell not in digits]
        if len(names) == 1 and len(digits) == 3:
            if any(len(cell.lstrip("0")) > 3 for cell in digits):  # which int() may not even read
                raise ConfigError(f"masks.colors: {path}:{number}: {shortened(line)} holds a number over 255.")
            values = [int(cell.lstrip("0") or "0") for cell in digits]
            table.append((names[0], _channels(values, f"masks.colors: {path}:{number}, {shortened(names[0])}")))
        elif table or digits:  # anything else before the first entry is a heading
            raise ConfigError(f"masks.colors: {path}:{number}: {shortened(line)} is not one name and three numbers.")
    if not table:
        raise ConfigError(f"masks.colors: {path} holds no line of a name and three numbers.")
    return table


def _as_table(colors: Any, labels: Labels | None, where: str) -> list[tuple[str, tuple[int, int, int]]]:
    if isinstance(colors, Mapping):
        table = []
        for name, value in colors.items():
            several = (
                not isinstance(value, str) and isinstance(value, Sequence) and value and isinstance(value[0], Sequence)
            )
            table += [(str(name), color) for color in (value if several else [value])]
        return table
    if labels is None or not isinstance(colors, Sequence) or len(colors) != len(labels.classes):
        raise ConfigError(f"{where} must be {_FORMS}, or the path of a CSV or YAML file.")
    return list(zip(labels.classes, colors, strict=True))


def _channels(color: Any, where: str) -> tuple[int, int, int]:
    """Return red, green and blue; ConfigError unless they are whole numbers of 0 to 255."""
    numbers = isinstance(color, Sequence) and len(color) == 3
    if not numbers or not all(type(value) is int and 0 <= value <= 255 for value in color):
        shown = shortened(color) if isinstance(color, str) else shortened(str(color))[1:-1]
        raise ConfigError(f"{where}: {shown} is no [red, green, blue] of 0 to 255.")
    return (color[0], color[1], color[2])


def _code(color: Any, where: str) -> int:
    red, green, blue = _channels(color, where)
    return (red << 16) | (green << 8) | blue


def _unknown_colors(place: Path, codes: np.ndarray, where: str) -> str:
    values, counts = np.unique(codes, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:5]
    shown = ", ".join(
        f"[{values[n] >> 16}, {values[n] >> 8 & 255}, {values[n] & 255}] ({counts[n]} pixels)" for n in most
    )
    more = len(values) - 5
    many = f" and {more} more colours, as JPEG or a smooth resize leave them," if more > 0 else ""
    return (
        f"{place}: colour {shown}{many} stands for no class. Add it to {where}, or set masks.other: ignore to leave "
        "such pixels out."
    )

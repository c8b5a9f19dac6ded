"""Validation of mask labels: every value must be a class or the ignore index."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from segzoo.data.codecs import unlimited
from segzoo.errors import DataError
from segzoo.files import regular


def check_labels(mask: np.ndarray, classes: int, ignore_index: int, name: object) -> None:
    """Raise DataError unless every label is in 0..classes-1 or is the ignore index.

    Args:
        mask: integers of any shape.
        classes: how many classes there are.
        ignore_index: the one label outside them that is allowed.
        name: name of the mask in the message: its file.
    """
    if mask.dtype == np.uint8 and mask.ndim == 2:  # a table lookup: a third of the time of np.unique or bincount
        allowed = np.zeros(256, np.uint8)
        allowed[:classes] = 1
        if 0 <= ignore_index <= 255:
            allowed[ignore_index] = 1
        if cv2.countNonZero(cv2.LUT(mask, allowed)) == mask.size:
            return
    wrong = mask[((mask < 0) | (mask >= classes)) & (mask != ignore_index)]
    if wrong.size == 0:
        return
    values, counts = np.unique(wrong, return_counts=True)
    pairs = zip(values[:8], counts[:8], strict=True)
    shown = ", ".join(f"{v} ({n} pixels){_extent(mask, v)}" for v, n in pairs)
    more = f" and {len(values) - 8} more values" if len(values) > 8 else ""
    raise DataError(
        f"{name}: label {shown}{more} is neither a class (there are {classes}: 0..{classes - 1}) nor the ignore "
        f"index ({ignore_index}).{_meaning(mask, values.tolist(), name)} Correct the mask, or the list of classes "
        "(data.classes), or set data.ignore_index to the label that marks unlabelled pixels.",
        "label",
    )


def _meaning(mask: np.ndarray, wrong: list[int], name: object) -> str:
    """Return a hint on the probable meaning of labels that are no class."""
    if wrong == [255] and int(mask.min()) == 0 and not ((mask != 0) & (mask != 255)).any():
        return " Where 255 is one thing in white, masks: binary reads it."
    if isinstance(name, Path) and (value := nodata(name)) in wrong:
        return f" The file calls {value} no data: set data.ignore_index: {value}, or in masks.values ignore: {value}."
    return ""


_NODATA = 42113  # the tag of a TIFF in which GDAL writes the value that stands for no data


def nodata(path: Path) -> int | None:
    """Return the nodata value of a GeoTIFF, a whole number; None if there is none."""
    try:
        with unlimited(), Image.open(regular(path), formats=("TIFF",)) as picture:
            value = float(str(picture.tag_v2[_NODATA]).strip("\0 "))  # type: ignore[attr-defined]
        return int(value) if value.is_integer() else None
    except Exception:  # no TIFF, no such tag, no number
        return None


def _extent(mask: np.ndarray, value: int) -> str:
    """Return the bounding box of a label, as " at x 3..17, y 0..5"; "" for an array that is not a picture."""
    if mask.ndim != 2:
        return ""
    rows, columns = np.nonzero(mask == value)
    return f" at x {columns.min()}..{columns.max()}, y {rows.min()}..{rows.max()}"

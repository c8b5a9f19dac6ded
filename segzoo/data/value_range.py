"""Suggestion of `data.value_range` for images whose stored values do not fill the 0..255 that networks take."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segzoo.data.arrays import load_array
from segzoo.data.decoding import open_image
from segzoo.data.formats.contract import MAX_PIXELS
from segzoo.data.images import ARRAY_SUFFIXES, ImageReader
from segzoo.data.refusals import reading
from segzoo.errors import DataError

_LOOKED_AT = 16  # images, evenly spaced
_VALUES = 100_000  # of an image, evenly spaced
_REST = 0.001  # share of values left out at either end: hot pixels, and what marks missing data
_BRIGHT = 64  # of 255; what reaches it is an image, if a dark one
_FLOAT32 = float(np.finfo(np.float32).max)  # images become float32, and what it does not hold is refused by its file
_FULL = (1, 3, 7, 15, 31, 63, 127, 255, 1023, 4095, 16383, 65535)  # largest values of 1 to 8, 10, 12, 14 and 16 bits
DARK = 16  # of 255; an image nearly all of which is below it is nearly black


class Suggestion(NamedTuple):
    """A range for `data.value_range`, and why.

    Attributes:
        range: (low, high); None where the images hold numbers of several kinds, which no range fits.
        why: the evidence, a sentence without its full stop.
    """

    range: tuple[float, float] | None
    why: str

    def __str__(self) -> str:
        """Return the evidence and the cure, as a warning says them."""
        if self.range is None:
            return f"{self.why}. No data.value_range fits all of them: write the images alike."
        return f"{self.why}. Networks take 0 to 255: set data.value_range: {shown(self.range)}."


class _Span(NamedTuple):
    dtype: str
    low: float
    high: float


def suggested_range(paths: Sequence[Path], read: Callable[[Path], np.ndarray] | None = None) -> Suggestion | None:
    """Look at some images, and return the range that their values need; None where they fill 0 to 255 as read.

    Of 16 bits the upper 8 are read, so values up to 4095 would become 0 to 15; numbers of other kinds stay as they are.

    Args:
        paths: image files; those that cannot be read are passed over.
        read: gives the stored numbers of a file, DataError where it cannot; None: those of grey or colours, or all
            bands.
    """
    places = np.unique(np.linspace(0, len(paths) - 1, min(_LOOKED_AT, len(paths))).astype(int))
    spans = [span for place in places if (span := _span(paths[place], read or stored_values)) is not None]
    needs: dict[str, tuple[float, float] | None] = {}
    for dtype in dict.fromkeys(span.dtype for span in spans):
        low, high = _ends(spans, dtype)
        needs[dtype] = _needed(np.dtype(dtype), low, high)
    if not any(needs.values()):
        return None
    if len(needs) > 1:
        return Suggestion(None, f"The images hold numbers of several kinds ({', '.join(map(str, needs))})")
    dtype = spans[0].dtype
    low, high = _ends(spans, dtype)
    become = f"become {int(low) >> 8} to {int(high) >> 8}" if dtype == "uint16" else "stay so"
    held = f"{dtype}, 99.9 % of the values {low:g} to {high:g}"
    return Suggestion(needs[dtype], f"{len(spans)} of {len(paths)} images were looked at: {held}, which {become}")


def suggested_for(source: Any) -> Suggestion | None:
    """Return the range that the images of a source need; None too for sources that read no image files.

    Args:
        source: a `FolderSource`, or some samples of one.
    """
    whole = getattr(source, "source", source)
    reader = getattr(whole, "reader", None)
    if not isinstance(reader, ImageReader) or reader.value_range is not None:
        return None
    places = getattr(source, "places", range(len(whole)))
    return suggested_range([whole.files(place)[0] for place in places], reader.stored)


def stored_values(path: Path) -> np.ndarray:
    """Return the numbers that an image file stores, without its alpha: (H, W) or (H, W, C)."""
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return load_array(path, MAX_PIXELS)
    picture = open_image(path, MAX_PIXELS)
    with reading(path):
        values = picture.read()
    return values[..., :-1] if picture.channels in (2, 4) and not picture.bands else values


def is_dark(image: np.ndarray) -> bool:
    """Return True if all but a thousandth of the values of an image, of 0..255, are nearly black."""
    return float((image > DARK).mean()) <= _REST


def shown(span: tuple[float, float]) -> str:
    """Return a range as YAML."""
    return f"[{span[0]:.12g}, {span[1]:.12g}]"


def _span(path: Path, read: Callable[[Path], np.ndarray]) -> _Span | None:
    try:
        values = read(path).ravel()
    except DataError:
        return None
    values = values[:: max(1, values.size // _VALUES)]
    if values.dtype.kind == "f":
        values = values[np.isfinite(values)]  # reading the file as an image refuses the others, by its name
    if not values.size:
        return None
    low, high = np.quantile(values.astype(np.float64), (_REST, 1 - _REST), method="nearest")
    return _Span(values.dtype.newbyteorder("=").name, float(low), float(high))


def _ends(spans: Sequence[_Span], dtype: str) -> tuple[float, float]:
    alike = [span for span in spans if span.dtype == dtype]
    return min(span.low for span in alike), max(span.high for span in alike)


def _needed(dtype: np.dtype[Any], low: float, high: float) -> tuple[float, float] | None:
    """Return the range that values of this type from `low` to `high` need; None where they do without."""
    if low == high or max(-low, high) > _FLOAT32:
        return None
    if dtype.kind == "b":
        return (0, 1)
    if dtype.kind == "f" and low >= -1 and high <= 1:
        return (0, 1) if low >= 0 else (-1, 1)
    as_read = high / 256 if dtype == np.uint16 else high
    if low >= 0 and _BRIGHT <= as_read <= 255.996:
        return None
    if low >= 0 and high <= 65535 and dtype.kind in "ui":
        return (0, next(most for most in _FULL if most >= high))
    step = 10.0 ** math.floor(math.log10(high - low)) / 10
    bottom = 0 if 0 <= low < 0.1 * high else math.floor(low / step) * step
    return (bottom, math.ceil(high / step) * step)

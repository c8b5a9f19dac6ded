"""Masks from LabelMe: one JSON of shapes for each image."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from segzoo.data.formats.annotations import differs, entries, points, read_json, shown
from segzoo.data.formats.contract import HOLE, IGNORE, Labels, Missing, OneFile, painted
from segzoo.data.formats.table import MASK_FORMATS
from segzoo.errors import ConfigError, DataError, listed
from segzoo.task import MODES, Mode

# Shapes of three points or more that enclose what lies between them: LabelMe's own, of older versions and of its forks
_POLYGONS = ("polygon", "rectangle", "rotation", "oriented_rectangle", "quadrilateral")
_LINES = ("line", "linestrip", "point", "points")
_MASK_MODES = ("1", "L", "P", "I", "I;16")


@MASK_FORMATS.register("labelme")
class LabelMeFormat(OneFile):
    """LabelMe JSON files, one per image: polygons, rectangles, circles, lines and masks, drawn in file order.

    Rectangles have two opposite corners, or all four if rotated. Pixels are filled as in labelme's own export, with
    Pillow, outlines included. The label `__ignore__` stands for the ignore index. `_background_`, and the label of the
    background class, cut a hole into earlier shapes, also if `data.classes` contains them.

    Args:
        labels: the classes.
        background: class, or "ignore", of pixels without a shape (not in multilabel); None: the first class.
        other: treatment of shapes whose label is not a class: "error", "ignore" (their pixels get the ignore index) or
            "background" (they are skipped).
        line_width: width in pixels of lines, line strips and points, 1 to 256; None: these are an error, because they
            enclose no pixels.
    """

    modes: tuple[Mode, ...] = MODES
    suffixes = (".json",)
    missing: Missing = "background"
    first_is_background = True

    def __init__(
        self,
        labels: Labels,
        background: str | None = None,
        other: Literal["error", "ignore", "background"] = "error",
        line_width: int | None = None,
    ):
        super().__init__(labels)
        if other not in ("error", "ignore", "background"):
            raise ConfigError(f"masks.other must be error, ignore or background, got {other!r}.")
        drawable = isinstance(line_width, int) and not isinstance(line_width, bool) and 1 <= line_width <= 256
        if line_width is not None and not drawable:
            raise ConfigError(f"masks.line_width must be 1 to 256 pixels, got {line_width!r}.")
        self._background = 0 if background is None else labels.number(background, "masks.background")
        self._other = other
        self._line_width = line_width

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return labels (H, W), or in multilabel (H, W, C)."""
        content = read_json(place, "LabelMe annotation")
        height, width = content.get("imageHeight"), content.get("imageWidth")
        if differs(height, size[0]) or differs(width, size[1]):
            raise DataError(
                f"{place}: drawn on an image of {shown(width)} x {shown(height)} (width x height), but {image} is "
                f"{size[1]} x {size[0]}. If the image has an EXIF orientation, set data.exif: image; LabelMe turns it "
                "too.",
                "size_mismatch",
            )
        shapes = self._filled(entries(content, "shapes", f"{place}: no LabelMe annotation"), size, place)
        return painted(shapes, size, self.labels, self._background, place, holes=True)

    def blank(self, size: tuple[int, int]) -> np.ndarray:
        """Return the mask of an image without a JSON: nothing was drawn on it."""
        return painted((), size, self.labels, self._background, "")

    def _filled(
        self, shapes: list[dict[str, Any]], size: tuple[int, int], place: Path
    ) -> Iterator[tuple[int, np.ndarray]]:
        for number, shape in enumerate(shapes, 1):
            name = f"{place}: shape {number}"
            if not isinstance(shape.get("label"), str | int | float):
                raise DataError(f"{name}: its label is {shown(shape.get('label'))}. Name it, or remove the shape.")
            label = self._label(str(shape["label"]), name)
            if label is None:
                continue
            where = _fill(shape, size, name, self._line_width)
            if str(shape["label"]) == "_background_":
                yield HOLE, where  # a class of this name is that of the hole, which clears the others first
            if label != HOLE:
                yield label, where

    def _label(self, label: str, name: str) -> int | None:
        if label in self.labels.classes:
            return self.labels.classes.index(label)
        if label == "_background_":
            return HOLE
        if label in ("__ignore__", IGNORE) or self._other == "ignore":
            return self.labels.ignore_index
        if self._other == "background":
            return None
        raise DataError(
            f"{name}: its label {label!r} is no class ({listed(self.labels.classes)}). Correct it, add it to "
            "data.classes, or set masks.other: ignore or background."
        )


def _fill(shape: dict[str, Any], size: tuple[int, int], name: str, line_width: int | None) -> np.ndarray:
    """Return the pixels of a shape, (H, W) bool."""
    kind = shape.get("shape_type") or "polygon"
    corners = points(shape.get("points"), size, f"{name}: points")
    if kind == "mask" and len(corners) == 2:
        return _pasted(shape.get("mask"), corners, size, name)
    canvas = Image.new("1", size[::-1])
    draw = ImageDraw.Draw(canvas)
    if kind in _POLYGONS and len(corners) > 2:
        draw.polygon(corners, outline=1, fill=1)
    elif kind == "rectangle" and len(corners) == 2:
        (a, b), (c, d) = corners
        draw.rectangle((min(a, c), min(b, d), max(a, c), max(b, d)), outline=1, fill=1)
    elif kind == "circle" and len(corners) == 2:
        (x, y), edge = corners
        radius = math.dist((x, y), edge)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
    elif kind in _LINES and corners and line_width is not None:
        if not kind.startswith("point"):
            draw.line(corners, fill=1, width=line_width, joint="curve")
        reach = (line_width - 1) / 2
        for x, y in corners if kind.startswith("point") or line_width > 2 else ():  # round ends, as brushes have
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), outline=1, fill=1)
    else:
        wide = kind in _LINES and corners
        cure = "Set masks.line_width to the pixels that it is wide" if wide else "Draw it again, or remove it"
        called = kind if isinstance(kind, str) else shown(kind)
        raise DataError(
            f"{name}: a {called} of {len(corners)} points encloses no pixels. {cure}; what encloses some is a polygon, "
            "rectangle, circle or mask."
        )
    return np.asarray(canvas)


def _pasted(coded: Any, corners: list[tuple[float, float]], size: tuple[int, int], name: str) -> np.ndarray:
    """Return the pixels of a mask that LabelMe stores as the picture of its bounding box, in base64."""
    (left, top), (right, bottom) = ((math.floor(x), math.floor(y)) for x, y in corners)
    if not isinstance(coded, str):
        raise DataError(f"{name}: its mask is {shown(coded)}, not a picture in base64. Draw it again, or remove it.")
    try:
        with Image.open(io.BytesIO(base64.b64decode(coded, validate=True)), formats=("PNG",)) as picture:
            fits = picture.size == (right - left + 1, bottom - top + 1) and min(left, top) >= 0
            inner = np.asarray(picture) > 0 if fits and picture.mode in _MASK_MODES else None
    except Exception as error:  # decoders raise classes of all kinds for damaged data
        raise DataError(
            f"{name}: its mask cannot be read ({type(error).__name__}). Draw it again, or remove it."
        ) from error
    if inner is None:
        raise DataError(
            f"{name}: its mask of {picture.size} pixels and mode {picture.mode} does not fit its corners {corners}."
        )
    where = np.zeros(size, bool)
    height, width = where[top : bottom + 1, left : right + 1].shape
    where[top : bottom + 1, left : right + 1] = inner[:height, :width]
    return where

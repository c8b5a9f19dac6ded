"""Masks from LabelMe: one JSON of shapes for each image."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageDraw

from segzoo.data.formats.contract import IGNORE, Labels, OneFile, painted
from segzoo.errors import ConfigError, DataError


class LabelMeFormat(OneFile):
    """One JSON for each image; polygons, rectangles, circles and LabelMe's own masks, painted in the file's order.

    Pixels are filled as labelme's own export does, with Pillow, outlines included. The label `__ignore__` carries the
    ignore index.

    Args:
        labels: the classes.
        background: class, or "ignore", of pixels without a shape (not in multilabel); None: the first class.
        other: what shapes are whose label is no class: "error"; "ignore" for the ignore index; "background" as if they
            were not there.
    """

    multilabel = (False, True)
    suffixes = (".json",)

    def __init__(
        self,
        labels: Labels,
        background: str | None = None,
        other: Literal["error", "ignore", "background"] = "error",
    ):
        super().__init__(labels)
        if other not in ("error", "ignore", "background"):
            raise ConfigError(f"masks.other must be error, ignore or background, got {other!r}.")
        self._background = 0 if background is None else labels.number(background, "masks.background")
        self._other = other

    def read(self, place: Path, image: Path, size: tuple[int, int]) -> np.ndarray:
        """Return labels (H, W), or in multilabel (H, W, C)."""
        try:
            content = json.loads(place.read_text(encoding="utf-8"))
            stated = (content.get("imageHeight") or size[0], content.get("imageWidth") or size[1])
            shapes = list(content["shapes"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{place}: no LabelMe annotation ({type(error).__name__}: {error}).") from error
        if stated != size:
            raise DataError(
                f"{place}: drawn on an image of {stated[1]} x {stated[0]} (width x height), but {image} is {size[1]} x "
                f"{size[0]}. If the image has an EXIF orientation, set data.exif: image; LabelMe turns it too."
            )
        return painted(self._filled(shapes, size, place), size, self.labels, self._background, place)

    def _filled(self, shapes: list[Any], size: tuple[int, int], place: Path) -> Iterator[tuple[int, np.ndarray]]:
        for number, shape in enumerate(shapes, 1):
            name = f"{place}: shape {number}"
            try:
                label = self._label(str(shape["label"]), name)
                if label is not None:
                    yield label, _fill(shape, size, name)
            except (KeyError, TypeError, ValueError, IndexError, OSError) as error:
                raise DataError(f"{name} cannot be read ({type(error).__name__}: {error}).") from error

    def _label(self, label: str, name: str) -> int | None:
        if label == "_background_" and label not in self.labels.classes:
            return None
        if label in self.labels.classes:
            return self.labels.classes.index(label)
        if label in ("__ignore__", IGNORE) or self._other == "ignore":
            return self.labels.ignore_index
        if self._other == "background":
            return None
        raise DataError(
            f"{name}: its label {label!r} is no class ({', '.join(self.labels.classes)}). Correct it, add it to "
            "data.classes, or set masks.other: ignore or background."
        )


def _fill(shape: dict[str, Any], size: tuple[int, int], name: str) -> np.ndarray:
    """Return the pixels of a shape, (H, W) bool."""
    kind = shape.get("shape_type") or "polygon"
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if kind == "mask":
        (left, top), (right, bottom) = ((math.floor(x), math.floor(y)) for x, y in points)
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as picture:
            if picture.size != (right - left + 1, bottom - top + 1) or min(left, top) < 0:
                raise DataError(f"{name}: its mask of {picture.size} does not fit its corners {points}.")
            inner = np.asarray(picture) > 0
        where = np.zeros(size, bool)
        height, width = where[top : bottom + 1, left : right + 1].shape
        where[top : bottom + 1, left : right + 1] = inner[:height, :width]
        return where
    canvas = Image.new("1", size[::-1])
    draw = ImageDraw.Draw(canvas)
    if kind == "polygon" and len(points) > 2:
        draw.polygon(points, outline=1, fill=1)
    elif kind == "rectangle" and len(points) == 2:
        (a, b), (c, d) = points
        draw.rectangle((min(a, c), min(b, d), max(a, c), max(b, d)), outline=1, fill=1)
    elif kind == "circle" and len(points) == 2:
        (x, y), edge = points
        radius = math.dist((x, y), edge)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=1, fill=1)
    else:
        raise DataError(
            f"{name}: a {kind} of {len(points)} points encloses no pixels. Use polygon, rectangle, circle or mask."
        )
    return np.asarray(canvas)

"""CSV of an evaluation with one row for each image."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segzoo.files import replacing
from segzoo.metrics import ImageCounts


def write_image_table(images: Sequence[ImageCounts], names: Sequence[str], path: Path) -> None:
    """Write name, counted pixels, mean IoU and IoU of each class of each image; a cell is empty for n/a.

    Args:
        images: pixel counts of each image.
        names: names of the classes, whose columns are called iou/NAME.
        path: the CSV, which is replaced atomically; letters that UTF-8 lacks become escapes.
    """
    heading = ["name", "pixels", "mean_iou", *(f"iou/{name}" for name in names)]
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream,
    ):
        writer = csv.writer(stream)
        writer.writerow(heading)
        for image in images:
            pixels = "" if image.pixels is None else image.pixels
            writer.writerow([image.name, pixels, *map(_cell, [image.mean_iou(), *image.iou()])])


def _cell(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6f}"

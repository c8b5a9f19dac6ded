"""Drawing of predictions: an image under the colours of its classes, for files, videos, answers and pages alike."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np

from segzoo.inference.legend import Legend

_SIDE = 1000  # pixels of the longer side up to which the legend has its own size; it grows with larger images


def draw(
    image: np.ndarray,
    class_map: np.ndarray,
    legend: Legend,
    *,
    valid: np.ndarray | None = None,
    shown: Collection[int] | None = None,
    alpha: float = 0.5,
    contours: bool = True,
    named: Literal["present", "all"] | None = None,
) -> np.ndarray:
    """Draw an image under the colours of its classes, and a legend of them below it.

    Args:
        image: `(H, W, C)`, 0..255.
        class_map: class of each pixel `(H, W)`; in multilabel `(H, W, classes)` of 0 and 1.
        legend: the classes.
        valid: `(H, W)` bool, False where the image has no data, which stays as it is; None: it has data everywhere.
        shown: classes that are tinted; None: all but the background.
        alpha: opacity of the colours, 0..1.
        contours: whether regions have contours in the opaque colour of their class.
        named: classes that the legend names: those shown that are "present" in the image; "all" shown, those that are
            absent pale, so that it has one size for the frames of a video; None: there is no legend. No legend is drawn
            where it would have no entry, and none of "all" where it would be taller than half the image.

    Returns:
        `(h, w, 3)` uint8, `(H, W, 3)` without a legend. A legend is below the image, covers nothing of it, and makes
        the picture wider where a name needs more than the width of the image.
    """
    from segzoo.reporting.pictures import overlay

    if shown is None:
        shown = [label for label in range(len(legend.names)) if label != legend.background]
    chosen = np.isin(np.arange(len(legend.names)), list(shown))
    if legend.multilabel:
        classes, ignored = class_map * chosen, None
        if valid is not None:
            classes = classes * valid[..., None]
    else:
        ignored = len(legend.names)
        bare = ~chosen[class_map] if valid is None else ~(chosen[class_map] & valid)
        classes = class_map.astype(np.int32)
        classes[bare] = ignored
    picture = overlay(image, classes, legend.colours, alpha, ignored, contours=contours)
    if named is None:
        return picture
    counts = classes.sum(axis=(0, 1)) if legend.multilabel else np.bincount(classes.ravel(), minlength=ignored or 0)
    return _with_legend(picture, legend, sorted(shown), counts > 0, named)


def _with_legend(
    picture: np.ndarray, legend: Legend, shown: list[int], present: np.ndarray, named: Literal["present", "all"]
) -> np.ndarray:
    """Return a picture with the legend of the shown classes below it."""
    from segzoo.escaping import for_picture
    from segzoo.reporting.swatches import PAPER, Entry, font_file, strip

    entries = [
        Entry(for_picture(legend.names[label], font_file()), tuple(map(int, legend.colours[label])), not present[label])
        for label in shown
        if present[label] or named == "all"
    ]
    if not entries:
        return picture
    height, width = picture.shape[:2]
    below = strip(entries, width, max(1, max(height, width) / _SIDE))
    if named == "all" and len(below) > height / 2:
        return picture
    found = np.full((height + len(below), below.shape[1], 3), PAPER, np.uint8)
    found[:height, :width] = picture
    found[height:] = below
    return found

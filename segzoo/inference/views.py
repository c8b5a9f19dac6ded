"""Views of an image for test-time augmentation: turned, mirrored and scaled; no framework is imported here."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

from segzoo.errors import SegzooError, check_is_name, unknown_name

_SLICE = 512  # most channels that OpenCV resizes at once


@dataclass(frozen=True)
class View:
    """Scale, turn and mirror image of a view; the logits of a view lie in the image's grid again, exactly.

    Turning and mirroring move whole pixels. Scaling goes to the nearest whole size and back, with half-pixel centres
    and the ratio of the sizes themselves, so that the borders of image and view coincide at odd sizes too.

    Attributes:
        mirrored: left-right, before the turn.
        turns: quarter turns, counterclockwise.
        scale: factor of height and width.
    """

    mirrored: bool = False
    turns: int = 0
    scale: float = 1.0

    def of(self, images: np.ndarray) -> np.ndarray:
        """Return the view `(B, h, w, C)` of images `(B, H, W, C)`; float32 where it is scaled."""
        sides = [max(1, round(side * self.scale)) for side in images.shape[1:3]]
        view = _resized(images, sides[0], sides[1])
        if self.mirrored:
            view = view[:, :, ::-1]
        return np.ascontiguousarray(np.rot90(view, self.turns, (1, 2)))

    def undone(self, logits: np.ndarray, height: int, width: int) -> np.ndarray:
        """Return logits `(B, h, w, outputs)` of a view in the grid of its images `(B, height, width, outputs)`."""
        logits = np.rot90(logits, -self.turns, (1, 2))
        if self.mirrored:
            logits = logits[:, :, ::-1]
        return _resized(logits, height, width)

    def __mul__(self, other: View) -> View:
        """Combine two views, one of them upright."""
        upright, turned = sorted((self, other), key=lambda view: (view.turns, view.mirrored))
        assert not (upright.turns or upright.mirrored), "two turns: their order counts"
        return View(turned.mirrored, turned.turns, self.scale * other.scale)


#: The views of each kind. Those of `flips` and `d4` are for images without an up and a down, such as aerial ones.
VIEWS: dict[str, tuple[View, ...]] = {
    "mirror": (View(), View(mirrored=True)),
    "flips": (View(), View(mirrored=True), View(turns=2), View(mirrored=True, turns=2)),
    "d4": tuple(View(mirrored, turns) for mirrored in (False, True) for turns in range(4)),
    "scales": (View(), View(scale=0.75), View(scale=1.25)),
}


def views_of(names: str) -> tuple[View, ...]:
    """Return the views of a kind, or of two kinds joined by "+", such as "mirror+scales": each with each.

    Raises:
        UnknownNameError: no such kind.
        SegzooError: two kinds that cannot be joined.
    """
    check_is_name("test-time augmentation", names, "mirror")
    kinds = names.split("+")
    for kind in kinds:
        if kind not in VIEWS:
            raise unknown_name("test-time augmentation", kind, VIEWS)
    if sum(kind != "scales" for kind in kinds) > 1 or kinds.count("scales") > 1:
        raise SegzooError(
            f"Test-time augmentation {names}: only scales can be joined to another kind, as mirror+scales."
        )
    found = [View()]
    for kind in kinds:
        found = [one * other for one, other in itertools.product(found, VIEWS[kind])]
    return tuple(found)


def _resized(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize `(B, H, W, C)` bilinearly with half-pixel centres to float32; images of this size are returned as is."""
    if images.shape[1:3] == (height, width):
        return images
    images = np.ascontiguousarray(images, np.float32)
    found = np.empty((len(images), height, width, images.shape[3]), np.float32)
    for image, result in zip(images, found, strict=True):
        for first in range(0, image.shape[2], _SLICE):
            part = np.ascontiguousarray(image[..., first : first + _SLICE])
            resized = cv2.resize(part, (width, height), interpolation=cv2.INTER_LINEAR)
            result[..., first : first + _SLICE] = resized.reshape(height, width, -1)
    return found

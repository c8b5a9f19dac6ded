"""Surface metrics: Hausdorff-95, average surface distance, boundary F1 and boundary IoU."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from segzoo.errors import DataError
from segzoo.metrics.confusion import ratio, refuse_one_hot

_CROSS = ndimage.generate_binary_structure(2, 1)
_SQUARE = np.ones((3, 3), bool)


class SurfaceMetrics:
    """Accumulate surface metrics of each class over images, from NumPy arrays.

    The surface of a class is those of its pixels that have a pixel of another class, or the image's border, beside
    them. Distances are Euclidean, between pixel centres. Figures per class are float64 (C,), in which NaN means n/a.

    - Hausdorff-95 and average surface distance are means over the images in which target and prediction both hold the
      class; elsewhere the distance has no value, and `unmatched` counts these images.
    - Boundary F1 is a mean over the images in which either holds the class; it is 0 where one of the two lacks it.
    - Boundary IoU comes from the pixels of all images together.

    An ignored pixel belongs to no class in either map, so that outlines along it are in both.

    Args:
        classes: number of classes C, at least 2 in multiclass mode.
        ignore_index: label or value of the target places that take no part, or None.
        spacing: height and width of a pixel, in the unit that distances are wanted in.
        tolerance: how far apart outlines may lie for boundary F1, in the unit of `spacing`; None takes 0.75 % of the
            image's diagonal, as Csurka et al. 2013 do.
        band: width of the band inside the outline for boundary IoU, as a share of the image's diagonal.
        mode: "multiclass" for class maps, "binary" or "multilabel" for maps of 0 and 1 of each class.

    Attributes:
        unmatched: int64 (C,), images in which only target or only prediction holds the class.

    Raises:
        ValueError: values out of range.
    """

    def __init__(
        self,
        classes: int,
        ignore_index: int | None = None,
        spacing: Sequence[float] = (1.0, 1.0),
        tolerance: float | None = None,
        band: float = 0.02,
        mode: str = "multiclass",
    ):
        least = {"multiclass": 2, "binary": 1, "multilabel": 1}
        if mode not in least:
            raise ValueError(f"SurfaceMetrics has no mode {mode!r}; it has {', '.join(least)}.")
        if classes < least[mode] or (mode == "binary" and classes != 1):
            wanted = "1 class" if mode == "binary" else f"at least {least[mode]} classes"
            raise ValueError(f"SurfaceMetrics needs {wanted} in {mode} mode, not {classes}.")
        self.mode = mode
        if len(spacing) != 2 or not all(0 < side < math.inf for side in spacing):
            raise ValueError(f"spacing must be two positive numbers, height and width, not {spacing!r}.")
        if tolerance is not None and not 0 <= tolerance < math.inf:
            raise ValueError(f"tolerance must be finite and not negative, not {tolerance!r}.")
        if not 0 < band < 1:
            raise ValueError(f"band must be between 0 and 1, not {band!r}.")
        self.classes = int(classes)
        self.ignore_index = None if ignore_index is None else int(ignore_index)
        self.spacing = (float(spacing[0]), float(spacing[1]))
        self.tolerance = tolerance
        self.band = float(band)
        self.unmatched = np.zeros(classes, np.int64)
        self._matched = np.zeros(classes, np.int64)
        self._hausdorff = np.zeros(classes)
        self._average = np.zeros(classes)
        self._f1 = np.zeros(classes)
        self._intersection = np.zeros(classes, np.int64)
        self._union = np.zeros(classes, np.int64)

    def update(self, y_true: Any, y_pred: Any) -> None:
        """Add images.

        Args:
            y_true: integer labels (B, H, W), or (H, W) for one image; in the other modes 0 and 1, (B, H, W, C) or
                (H, W, C).
            y_pred: integer class map, or map of 0 and 1, of the same shape.

        Raises:
            ValueError: other shapes, one-hot maps in multiclass mode, or values that are not integers.
            DataError: a target label that is neither a class nor the ignore index.
        """
        y_true, y_pred = np.asarray(y_true), np.asarray(y_pred)
        if self.mode != "multiclass":
            self._update_each(y_true, y_pred)
            return
        if y_true.shape != y_pred.shape or y_true.ndim not in (2, 3):
            raise ValueError(
                f"Target and prediction must both be (B, H, W) or (H, W), not {y_true.shape} and {y_pred.shape}."
            )
        if y_true.dtype.kind not in "iu" or y_pred.dtype.kind not in "iu":
            raise ValueError(f"Target and prediction must hold class indices, not {y_true.dtype} and {y_pred.dtype}.")
        refuse_one_hot("Target", y_true, self.classes)
        refuse_one_hot("Prediction", y_pred, self.classes)
        ignored = np.zeros(y_true.shape, bool) if self.ignore_index is None else y_true == self.ignore_index
        strange = y_true[~ignored & ((y_true < 0) | (y_true >= self.classes))]
        if strange.size:
            raise DataError(
                f"The target holds the label {strange[0]} ({strange.size} px are no class); allowed: 0 to "
                f"{self.classes - 1}" + ("." if self.ignore_index is None else f" or {self.ignore_index}.")
            )
        shape = (-1, *y_true.shape[-2:])
        for truth, found, left_out in zip(
            y_true.reshape(shape), y_pred.reshape(shape), ignored.reshape(shape), strict=True
        ):
            for label in np.union1d(truth[~left_out], found[~left_out]):
                if 0 <= label < self.classes:
                    self._add(int(label), (truth == label) & ~left_out, (found == label) & ~left_out)

    def _update_each(self, y_true: np.ndarray, y_pred: np.ndarray) -> None:
        """Add images of maps of 0 and 1, one for each class."""
        if y_true.shape != y_pred.shape or y_true.ndim not in (3, 4) or y_true.shape[-1] != self.classes:
            raise ValueError(
                f"Target and prediction must both be (B, H, W, {self.classes}) or (H, W, {self.classes}), not "
                f"{y_true.shape} and {y_pred.shape}."
            )
        valid = np.ones(y_true.shape, bool) if self.ignore_index is None else y_true != self.ignore_index
        strange = y_true[valid & (y_true != 0) & (y_true != 1)]
        if strange.size:
            raise DataError(f"The target holds {strange[0]} ({strange.size} places are neither 0 nor 1).")
        shape = (-1, *y_true.shape[-3:])
        truths, founds = ((maps.astype(bool) & valid).reshape(shape) for maps in (y_true, y_pred))
        for truth, found in zip(truths, founds, strict=True):
            for label in range(self.classes):
                if truth[..., label].any() or found[..., label].any():
                    self._add(label, truth[..., label], found[..., label])

    def _add(self, label: int, truth: np.ndarray, found: np.ndarray) -> None:
        """Add one class of one image, which at least one of the masks (H, W) holds."""
        bands = [_band(mask, self.band) for mask in (truth, found)]
        self._intersection[label] += np.count_nonzero(bands[0] & bands[1])
        self._union[label] += np.count_nonzero(bands[0] | bands[1])
        if not (truth.any() and found.any()):
            self.unmatched[label] += 1
            return
        surfaces = [mask & ~ndimage.binary_erosion(mask, _CROSS) for mask in (truth, found)]
        # Distances from each surface's pixels to the other surface.
        there = ndimage.distance_transform_edt(~surfaces[1], sampling=self.spacing)[surfaces[0]]
        back = ndimage.distance_transform_edt(~surfaces[0], sampling=self.spacing)[surfaces[1]]
        self._matched[label] += 1
        self._hausdorff[label] += max(np.percentile(there, 95), np.percentile(back, 95))
        self._average[label] += np.concatenate([there, back]).mean()
        tolerance = self.tolerance
        if tolerance is None:
            height, width = truth.shape
            tolerance = 0.0075 * math.hypot(height * self.spacing[0], width * self.spacing[1])
        recall, precision = (there <= tolerance).mean(), (back <= tolerance).mean()
        self._f1[label] += 2 * recall * precision / (recall + precision) if recall + precision else 0.0

    def merge(self, other: SurfaceMetrics) -> None:
        """Add the sums of another worker, or of another part of the data set.

        Raises:
            ValueError: other settings.
        """
        settings = ("classes", "ignore_index", "spacing", "tolerance", "band", "mode")
        for name in settings:
            if getattr(self, name) != getattr(other, name):
                raise ValueError(f"Cannot merge {name} {getattr(other, name)} into {name} {getattr(self, name)}.")
        for name in ("unmatched", "_matched", "_hausdorff", "_average", "_f1", "_intersection", "_union"):
            getattr(self, name).__iadd__(getattr(other, name))

    def hausdorff95(self) -> np.ndarray:
        """Return the mean Hausdorff-95 distance (C,): the larger 95th percentile of both directions' distances.

        Source: Huttenlocher et al. 1993, https://doi.org/10.1109/34.232073, with the percentile in place of the
        largest distance.
        """
        return ratio(self._hausdorff, self._matched)

    def average_surface_distance(self) -> np.ndarray:
        """Return the mean symmetric surface distance (C,): over the pixels of both surfaces, to the other surface.

        Source: Heimann et al. 2009, https://doi.org/10.1109/TMI.2009.2013851.
        """
        return ratio(self._average, self._matched)

    def boundary_f1(self) -> np.ndarray:
        """Return boundary F1 (C,): precision and recall of surface pixels within the tolerance.

        Source: Csurka et al. 2013, https://doi.org/10.5244/C.27.32.
        """
        return ratio(self._f1, self._matched + self.unmatched)

    def boundary_iou(self) -> np.ndarray:
        """Return boundary IoU (C,): IoU of the bands inside the outlines.

        Source: Cheng et al. 2021, https://arxiv.org/abs/2103.16562.
        """
        return ratio(self._intersection, self._union)


def _band(mask: np.ndarray, share: float) -> np.ndarray:
    """Return the pixels of a mask that lie within a share of the diagonal of its outline or the image's border."""
    width = max(1, round(share * math.hypot(*mask.shape)))
    return mask & ~ndimage.binary_erosion(mask, _SQUARE, iterations=width)

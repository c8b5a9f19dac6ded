"""Signed distances to the outlines of a mask's classes, which the boundary loss compares predictions with."""

from __future__ import annotations

import cv2
import numpy as np

# The last channel of a mask with distances. It tells them from a one-hot mask of as many channels, whose values it is
# far from, as it is from distances in an image; half precision holds it exactly.
DISTANCE_MARK = -16384.0


def signed_distances(mask: np.ndarray, classes: int, ignore_index: int | None = None) -> np.ndarray:
    """Return for each class the distance of every pixel to it: (H, W, classes) float32, in pixels.

    Outside the class it is the Euclidean distance to the nearest pixel of it; inside, one less than that to the nearest
    pixel of another class, negated, so that the pixels on either side of an outline have 1 and 0. Ignored pixels are of
    no class and have 0. So has every pixel where the mask lacks the class, or holds no other.
    Source: Kervadec et al. 2019, https://arxiv.org/abs/1812.07032, and the code published with it.

    Args:
        mask: integers (H, W), class indices.
        classes: number of classes; 1 stands for the label 1 against 0.
        ignore_index: label of ignored pixels, or None.

    Raises:
        ValueError: a soft mask, which has no outlines.
    """
    if mask.dtype.kind not in "iub":
        raise ValueError(f"Distances are to outlines of integer masks; this one is {mask.dtype}.")
    valid = np.ones(mask.shape, bool) if ignore_index is None else mask != ignore_index
    result = np.zeros((*mask.shape, classes), np.float32)
    for index in range(classes):
        inside = (mask == (index if classes > 1 else 1)) & valid
        outside = valid & ~inside
        if inside.any() and outside.any():
            result[..., index] = np.where(outside, _distance_to(inside), 0) - np.where(
                inside, _distance_to(outside) - 1, 0
            )
    return result


def with_distances(mask: np.ndarray, classes: int, ignore_index: int | None = None) -> np.ndarray:
    """Return a mask with its signed distances as further channels: (H, W, 1 + classes + 1) float32.

    Of a multilabel mask (H, W, classes) of 0, 1 and the ignore index come (H, W, 2 * classes + 1). The last channel is
    -16384 everywhere: the loss of a target without it is NaN, since a one-hot mask would pass for a mask with
    distances. Class indices up to 2^24 are exact in float32; `segzoo.losses` takes the result as it takes the mask.
    """
    mark = np.full((*mask.shape[:2], 1), DISTANCE_MARK, np.float32)
    if mask.ndim == 3:
        apart = [signed_distances(mask[..., index], 1, ignore_index) for index in range(classes)]
        return np.concatenate([mask.astype(np.float32), *apart, mark], axis=-1)
    labels = mask[..., None].astype(np.float32)
    return np.concatenate([labels, signed_distances(mask, classes, ignore_index), mark], axis=-1)


def _distance_to(pixels: np.ndarray) -> np.ndarray:
    """Return each pixel's exact Euclidean distance to the nearest true one."""
    return cv2.distanceTransform((~pixels).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)

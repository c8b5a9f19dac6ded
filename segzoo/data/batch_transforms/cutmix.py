"""CutMix: a rectangle of each sample is replaced by that of another one."""

from __future__ import annotations

from typing import Any

import numpy as np

from segzoo.data.batch_transforms.contract import (
    Batch,
    BatchTransform,
    checked_concentration,
    checked_probability,
    partners,
)
from segzoo.data.batch_transforms.table import BATCH_TRANSFORMS


@BATCH_TRANSFORMS.register("cutmix")
class CutMix(BatchTransform):
    """Put a rectangle of another sample of the batch into each, pixels and labels alike.

    Yun et al. 2019, "CutMix", https://arxiv.org/abs/1905.04899, equations 1 and 2: l is drawn from Beta(alpha, alpha),
    the rectangle has the sides sqrt(1 - l) of the image's and its centre anywhere, and is cut off at the border. Where
    the paper mixes the labels of two images, each pixel here keeps its own, so masks stay hard.

    Args:
        alpha: above 0 and at most 100; 1, as in the paper, draws l evenly from 0..1.
        p: probability that a sample gets a rectangle, above 0 and at most 1.
        **kwargs: see `BatchTransform`.
    """

    takes_soft = True
    smallest_batch = 2

    def __init__(self, alpha: float = 1.0, p: float = 0.5, **kwargs: Any):
        super().__init__(**kwargs)
        self.alpha = checked_concentration("alpha", alpha)
        self.p = checked_probability("p", p)

    def __call__(self, images: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return the images and masks with their rectangles; see `BatchTransform.__call__`."""
        count = len(images)
        others = partners(count, rng)
        sides = np.sqrt(1 - rng.beta(self.alpha, self.alpha, count))
        centres = rng.random((count, 2))
        is_cut = rng.random(count) < self.p
        new_images, new_masks = images.copy(), masks.copy()
        for index in np.flatnonzero(is_cut):
            rows, columns = (
                _extent(length, sides[index], centre)
                for length, centre in zip(images.shape[1:3], centres[index], strict=True)
            )
            new_images[index, rows, columns] = images[others[index], rows, columns]
            new_masks[index, rows, columns] = masks[others[index], rows, columns]
        return new_images, new_masks


def _extent(length: int, share: float, centre: float) -> slice:
    """Return the pixels of one side that a share of it covers around a centre in 0..1, without those outside."""
    side, middle = int(length * share), int(length * centre)
    return slice(max(0, middle - side // 2), min(length, middle - side // 2 + side))

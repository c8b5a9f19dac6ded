"""MixUp: each sample becomes a weighted mean of itself and another one."""

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


@BATCH_TRANSFORMS.register("mixup")
class MixUp(BatchTransform):
    """Mix each sample with another of its batch, images and masks alike: `l * sample + (1 - l) * other`.

    Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", https://arxiv.org/abs/1710.09412: l is drawn from
    Beta(alpha, alpha), here for each sample by itself. Masks become soft: the share of a class at a pixel is the sum of
    the weights of the samples that show it there. A pixel that either of the two ignores is ignored, since nothing is
    known of a part of what is seen there. Images keep their dtype; integers are rounded to the nearest.

    Args:
        alpha: above 0 and at most 100; small values leave most samples nearly as they are, 1 draws l evenly from 0..1.
            The paper takes 0.1 to 0.4 on ImageNet.
        p: probability that a sample is mixed, above 0 and at most 1.
        **kwargs: see `BatchTransform`.
    """

    makes_soft = True
    takes_soft = True
    smallest_batch = 2

    def __init__(self, alpha: float = 0.2, p: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.alpha = checked_concentration("alpha", alpha)
        self.p = checked_probability("p", p)

    def __call__(self, images: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return the mixed images and soft masks; see `BatchTransform.__call__`."""
        count = len(images)
        others = partners(count, rng)
        weights = rng.beta(self.alpha, self.alpha, count).astype(np.float32)
        is_mixed = (rng.random(count) < self.p) & (others != np.arange(count))
        soft = self.soft(masks)
        ignored = self.ignored(soft)
        new_images, new_masks = images.copy(), soft.copy()
        for index in np.flatnonzero(is_mixed):
            other, weight = others[index], weights[index]
            new_images[index] = _mean(images[index], images[other], weight, images.dtype)
            new_masks[index] = _mean(soft[index], soft[other], weight, soft.dtype)
            np.copyto(new_masks[index], self.ignored_share, where=ignored[index] | ignored[other])
        return new_images, new_masks


def _mean(one: np.ndarray, other: np.ndarray, weight: np.float32, dtype: np.dtype) -> np.ndarray:
    """Return the weighted mean of two arrays, computed in float32, in their dtype."""
    mean = one * weight
    mean += other * (1 - weight)
    return (np.rint(mean) if dtype.kind in "iu" else mean).astype(dtype, copy=False)

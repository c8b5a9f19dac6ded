"""Copy-paste: objects of some classes are pasted into another sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from segzoo.data.batch_transforms.contract import Batch, BatchTransform, checked_probability, partners
from segzoo.data.batch_transforms.table import BATCH_TRANSFORMS
from segzoo.errors import unknown_name


@BATCH_TRANSFORMS.register("copy_paste")
class CopyPaste(BatchTransform):
    """Paste objects from another sample of the batch into each, where they lie there.

    Ghiasi et al. 2021, "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation",
    https://arxiv.org/abs/2012.07177. Masks of classes do not tell objects apart, so an object is a connected set of
    pixels of one class (neighbours by side or corner); each of a sample's is pasted or not by itself, as there. Size
    and place vary by `data.augment`, as there by large-scale jittering. A pasted pixel has the labels that it had, in
    multilabel those of all classes. Nothing is blended, which the paper found as good.

    Args:
        objects: names of the classes whose objects are pasted, one or more.
        p: probability that a sample is pasted into, above 0 and at most 1.
        fraction: probability that an object of the other sample is pasted, above 0 and at most 1.
        **kwargs: see `BatchTransform`.
    """

    smallest_batch = 2

    def __init__(self, objects: Sequence[str], p: float = 0.5, fraction: float = 0.5, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(objects, list | tuple) or not objects:
            raise ValueError(f"objects must be a list of one or more classes, not {objects!r}.")
        for name in objects:
            if name not in self.task.classes:
                raise ValueError(str(unknown_name("class", str(name), self.task.classes)))
        self.labels = sorted({self.task.classes.index(name) for name in objects})
        self.p = checked_probability("p", p)
        self.fraction = checked_probability("fraction", fraction)

    def __call__(self, images: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Batch:
        """Return the images and masks with pasted objects; see `BatchTransform.__call__`."""
        count = len(images)
        others = partners(count, rng)
        new_images, new_masks = images.copy(), masks.copy()
        for index in np.flatnonzero(rng.random(count) < self.p):
            pasted = self._objects(masks[others[index]], rng)
            new_images[index][pasted] = images[others[index]][pasted]
            new_masks[index][pasted] = masks[others[index]][pasted]
        return new_images, new_masks

    def _objects(self, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the pixels of randomly chosen objects of a mask, (H, W) bool."""
        found = np.zeros(mask.shape[:2], bool)
        for label in self.labels:
            shown = mask[..., label] == 1 if self.task.multilabel else mask == label
            count, objects = cv2.connectedComponents(np.asarray(shown, np.uint8), connectivity=8)
            is_taken = np.append(False, rng.random(count - 1) < self.fraction)  # 0 is what is of another class
            found |= is_taken[objects]
        return found

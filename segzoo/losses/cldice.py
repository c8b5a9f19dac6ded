"""Centreline Dice: Dice of skeletons, for thin structures whose connections matter more than their width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras import ops

from segzoo.losses import limits
from segzoo.losses.base import PixelLoss, Target
from segzoo.losses.table import LOSSES
from segzoo.task import Mode


@LOSSES.register("cldice")
class ClDice(PixelLoss):
    """One minus the harmonic mean of topology precision and sensitivity, its mean over images and present classes.

    Precision is the share of the prediction's soft skeleton that lies in the target, sensitivity the share of the
    target's skeleton that lies in the prediction. Shit et al. 2021, https://arxiv.org/abs/2003.07311, algorithms 1
    and 2. Add it to Dice or cross-entropy: by itself it is insensitive to the width of structures.

    An ignored pixel is in neither prediction nor target. A class that an image's target lacks is excluded.

    Args:
        ignore_index: label of the pixels excluded from the loss, or None.
        iterations: number of erosions of the maps, 1 or more: at least half the width in pixels of the widest
            structure. Time and memory grow with it.
        smooth: constant, in pixels, added to each numerator and denominator, above 0.
        class_weights: see `PixelLoss`.
        mode: "multiclass", "binary" or "multilabel".
        name: name of the loss.
        dtype: dtype of the computation, float32 by default.

    Raises:
        ValueError: values out of range.
    """

    def __init__(
        self,
        ignore_index: int | None = None,
        iterations: int = 3,
        smooth: float = 1.0,
        class_weights: Sequence[float] | None = None,
        mode: Mode | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(ignore_index=ignore_index, class_weights=class_weights, mode=mode, name=name, dtype=dtype)
        limits.check(limits.CLDICE, iterations=iterations, smooth=smooth)
        self.iterations = int(iterations)
        self.smooth = float(smooth)

    def value(self, target: Target, logits: Any) -> Any:
        """Return the scalar loss; see `PixelLoss.value`."""
        weights = ops.broadcast_to(target.place_weights(logits), ops.shape(logits))
        p, g = self.probabilities(logits) * weights, target.shares(logits) * weights
        lines_p, lines_g = soft_skeleton(p, self.iterations), soft_skeleton(g, self.iterations)
        precision = self._share(lines_p * g, lines_p)
        sensitivity = self._share(lines_g * p, lines_g)
        losses = 1 - 2 * precision * sensitivity / (precision + sensitivity)
        return self.mean_over_classes(losses, ops.sum(g, axis=(1, 2)) > 0, logits)

    def _share(self, part: Any, whole: Any) -> Any:
        return (ops.sum(part, axis=(1, 2)) + self.smooth) / (ops.sum(whole, axis=(1, 2)) + self.smooth)


def soft_skeleton(maps: Any, iterations: int) -> Any:
    """Return the centre lines of maps (B, H, W, C) in 0..1: what opening takes away, at each of the erosions."""
    # An opening is the dilation of the next erosion, which is computed once for both. Erosion of the negated maps is
    # a maximum, which saves two negations each.
    skeleton, negated = None, -maps
    for _ in range(iterations + 1):
        eroded = ops.maximum(_max_pool(negated, (3, 1)), _max_pool(negated, (1, 3)))
        lines = ops.relu(maps - _max_pool(-eroded, (3, 3)))
        skeleton = lines if skeleton is None else skeleton + ops.relu(lines - skeleton * lines)
        maps, negated = -eroded, eroded
    return skeleton


def _max_pool(maps: Any, size: tuple[int, int]) -> Any:
    return ops.max_pool(maps, size, strides=1, padding="same")

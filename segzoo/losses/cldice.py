"""Centreline Dice: Dice of skeletons, for thin structures whose connections matter more than their width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from segzoo.keras_compat import in_xla
from segzoo.losses import limits
from segzoo.losses.base import PixelLoss, Target
from segzoo.losses.table import LOSSES
from segzoo.task import Mode

_AT_ONCE = 16  # float32 numbers in a register of AVX-512


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
        present = ops.sum(g, axis=(1, 2)) > 0
        if keras.backend.backend() == "tensorflow" and not in_xla():
            losses = _unpacked(self._losses(_packed(p, present), _packed(g, present)), present)
        else:
            losses = self._losses(p, g)
        return self.mean_over_classes(losses, present, logits)

    def _losses(self, p: Any, g: Any) -> Any:
        """Return the loss (B, C) of each map of a prediction and a target (B, H, W, C)."""
        lines_p, lines_g = soft_skeleton(p, self.iterations), soft_skeleton(g, self.iterations)
        precision = self._share(lines_p * g, lines_p)
        sensitivity = self._share(lines_g * p, lines_g)
        return 1 - 2 * precision * sensitivity / (precision + sensitivity)

    def _share(self, part: Any, whole: Any) -> Any:
        return (ops.sum(part, axis=(1, 2)) + self.smooth) / (ops.sum(whole, axis=(1, 2)) + self.smooth)


def _packed(maps: Any, present: Any) -> Any:
    """Return the maps (B, H, W, C) that are `present` (B, C) as channels of one image, and empty ones: (1, H, W, N).

    TensorFlow's pooling takes a multiple of as many channels as a register has numbers at a time, and its gradient
    others one by one: a third of the time a map, and an eighth for maps of one class.
    """
    import tensorflow as tf

    shape = tf.shape(maps)
    rows = tf.reshape(tf.transpose(maps, (0, 3, 1, 2)), (-1, shape[1] * shape[2]))
    rows = tf.dynamic_partition(rows, tf.cast(tf.reshape(present, [-1]), "int32"), 2)[1]
    count = tf.shape(rows)[0]
    rows = tf.pad(rows, [[0, tf.maximum(count + -count % _AT_ONCE, _AT_ONCE) - count], [0, 0]])
    return tf.reshape(tf.transpose(rows), (1, shape[1], shape[2], -1))


def _unpacked(losses: Any, present: Any) -> Any:
    """Return losses (1, N) of packed maps as (B, C), 0 where a map was not present."""
    places = ops.cumsum(ops.cast(ops.reshape(present, (-1,)), "int32")) - 1
    found = ops.reshape(ops.take(losses[0], ops.maximum(places, 0)), ops.shape(present))
    return ops.where(present, found, 0.0)


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

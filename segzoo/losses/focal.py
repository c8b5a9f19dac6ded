"""Focal loss: cross-entropy that counts easy pixels less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from segzoo.losses import limits
from segzoo.losses.base import PixelLoss, Target
from segzoo.losses.replicas import ratio_of_sums
from segzoo.losses.table import LOSSES
from segzoo.task import Mode


class _Focal(PixelLoss):
    """Base class of both forms of the focal loss."""

    def __init__(
        self,
        ignore_index: int | None,
        gamma: float,
        class_weights: Sequence[float] | None,
        mode: Mode | None,
        name: str | None,
        dtype: Any,
    ):
        super().__init__(ignore_index=ignore_index, class_weights=class_weights, mode=mode, name=name, dtype=dtype)
        limits.check(limits.FOCAL, gamma=gamma)
        self.gamma = float(gamma)


@LOSSES.register("softmax_focal")
class SoftmaxFocal(_Focal):
    """Mean of `sum over c of -w_c g_c (1 - p_c)^gamma log p_c` over the valid pixels, for softmax probabilities p.

    Lin et al. 2017, https://arxiv.org/abs/1708.02002, with a softmax in place of their sigmoid. The mean is over the
    number of valid pixels, or their weights, so a small loss on easy pixels stays small.

    Args:
        ignore_index: label of the pixels excluded from the loss, or None.
        gamma: exponent of the modulating factor, not negative; 0 is cross-entropy.
        class_weights: one factor per class, not negative and not all 0, or None for 1.
        mode: "multiclass".
        name: name of the loss.
        dtype: dtype of the computation, float32 by default.

    Raises:
        ValueError: values out of range; on call, if the number of weights is not C.
    """

    modes = ("multiclass",)

    def __init__(
        self,
        ignore_index: int | None = None,
        gamma: float = 2.0,
        class_weights: Sequence[float] | None = None,
        mode: Mode | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(ignore_index, gamma, class_weights, mode, name, dtype)

    def value(self, target: Target, logits: Any) -> Any:
        """Return the scalar loss; see `PixelLoss.value`."""
        weights = self.weight_of_classes(logits)
        if target.labels is not None:
            losses = keras.losses.sparse_categorical_crossentropy(target.labels, logits, from_logits=True)
            # 1 - p from log p: exact where p is nearly 1.
            losses = ops.take(weights, target.labels, axis=0) * _modulation(losses, self.gamma) * losses
        else:
            costs = -ops.log_softmax(logits, axis=-1)
            losses = ops.sum(target.values * weights * _modulation(costs, self.gamma) * costs, axis=-1)
        pixels = ops.ones_like(losses) if target.weights is None else target.weights
        return ratio_of_sums(losses * pixels, pixels)


@LOSSES.register("sigmoid_focal")
class SigmoidFocal(_Focal):
    """Mean of `-alpha (1 - p)^gamma log p` where the target is 1 and `-(1 - alpha) p^gamma log(1 - p)` where it is 0.

    Lin et al. 2017, https://arxiv.org/abs/1708.02002: p is a sigmoid for each class apart; in multiclass mode every
    class is set against the rest. The mean is over valid places, (B, H, W, C).

    Args:
        ignore_index: label or value of the positions excluded from the loss, or None.
        gamma: exponent of the modulating factor, not negative.
        alpha: weight of positions where the target is 1, 0 < alpha < 1; None weights both targets by 1.
        class_weights: one factor per class, not negative and not all 0, or None for 1.
        mode: "multiclass", "binary" or "multilabel".
        name: name of the loss.
        dtype: dtype of the computation, float32 by default.

    Raises:
        ValueError: values out of range.
    """

    def __init__(
        self,
        ignore_index: int | None = None,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        class_weights: Sequence[float] | None = None,
        mode: Mode | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(ignore_index, gamma, class_weights, mode, name, dtype)
        limits.check(limits.SIGMOID_FOCAL, gamma=gamma, alpha=alpha)
        self.alpha = alpha

    def value(self, target: Target, logits: Any) -> Any:
        """Return the scalar loss; see `PixelLoss.value`."""
        weights = target.place_weights(logits)
        classes = self.weight_of_classes(logits)
        positive, negative = (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)
        off = negative * self._cost(logits)
        if target.labels is None:
            g = target.shares(logits)
            losses = positive * g * self._cost(-logits) + (1 - g) * off
            losses = ops.sum(losses * (weights * classes))
        else:
            # All classes as if none were right, and the right one corrected: one tensor of the logits' size less for
            # each step of the formula.
            right = target.labels[..., None]
            z, factor = ops.take_along_axis(logits, right, axis=-1), ops.take(classes, right, axis=0)
            correction = factor * (positive * self._cost(-z) - negative * self._cost(z))
            losses = ops.sum((ops.sum(off * classes, axis=-1, keepdims=True) + correction) * weights)
        mass = ops.sum(weights) * (logits.shape[-1] / weights.shape[-1])
        return ratio_of_sums(losses, mass)

    def _cost(self, logits: Any) -> Any:
        """Return p^gamma times -log(1 - p), for p the sigmoid of the logits."""
        return _power(ops.sigmoid(logits), self.gamma) * ops.softplus(logits)


def _modulation(cost: Any, gamma: float) -> Any:
    """Return (1 - p)^gamma from cost = -log p, which is exact where p is nearly 1."""
    return _power(-ops.expm1(-cost), gamma)


def _power(base: Any, gamma: float) -> Any:
    """Return base^gamma for a base in 0..1, with a finite gradient at 0 for any gamma."""
    if gamma == 0:
        return ops.ones_like(base)
    if gamma == 2:
        return ops.square(base)
    if gamma >= 1:
        return ops.power(base, gamma)
    return ops.power(ops.maximum(base, keras.config.epsilon()), gamma)

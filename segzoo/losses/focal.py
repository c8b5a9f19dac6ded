"""Focal loss: cross-entropy that counts easy pixels less."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from segzoo.losses.base import Mode, PixelLoss, Target, checked_class_weights, class_weight_tensor


class _Focal(PixelLoss):
    """Arguments that both forms share."""

    def __init__(self, ignore_index: int | None, gamma: float, mode: Mode | None, name: str | None, dtype: Any):
        super().__init__(ignore_index=ignore_index, mode=mode, name=name, dtype=dtype)
        if not 0 <= gamma < math.inf:
            raise ValueError(f"gamma must be finite and not negative, not {gamma!r}.")
        self.gamma = float(gamma)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the loss."""
        return {**super().get_config(), "gamma": self.gamma}


@keras.saving.register_keras_serializable("segzoo")
class SoftmaxFocal(_Focal):
    """Mean of `sum over c of -w_c g_c (1 - p_c)^gamma log p_c` over the valid pixels, for softmax probabilities p.

    Lin et al. 2017, https://arxiv.org/abs/1708.02002, with a softmax in place of their sigmoid. The mean is over the
    number of valid pixels, or their weights, so a small loss on easy pixels stays small.

    Args:
        ignore_index: label of the pixels that take no part, or None.
        gamma: power of the modulating factor, not negative; 0 is cross-entropy.
        class_weights: one factor per class, not negative and not all 0, or None for 1.
        mode: "multiclass".
        name: name of the loss.
        dtype: dtype to compute in, float32 unless told.

    Raises:
        ValueError: values outside these ranges; on call, a number of weights that is not C.
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
        super().__init__(ignore_index, gamma, mode, name, dtype)
        self.class_weights = checked_class_weights(class_weights)

    def value(self, target: Target, logits: Any) -> Any:
        """Return the scalar loss; see `PixelLoss.value`."""
        weights = class_weight_tensor(self.class_weights, logits)
        if target.labels is not None:
            losses = keras.losses.sparse_categorical_crossentropy(target.labels, logits, from_logits=True)
            # 1 - p from log p: exact where p is nearly 1.
            losses = ops.take(weights, target.labels, axis=0) * _modulation(losses, self.gamma) * losses
        else:
            costs = -ops.log_softmax(logits, axis=-1)
            losses = ops.sum(target.values * weights * _modulation(costs, self.gamma) * costs, axis=-1)
        pixels = ops.ones_like(losses) if target.weights is None else target.weights
        return ops.divide_no_nan(ops.sum(losses * pixels), ops.sum(pixels))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the loss."""
        return {**super().get_config(), "class_weights": self.class_weights}


@keras.saving.register_keras_serializable("segzoo")
class SigmoidFocal(_Focal):
    """Mean of `-alpha (1 - p)^gamma log p` where the target is 1 and `-(1 - alpha) p^gamma log(1 - p)` where it is 0.

    Lin et al. 2017, https://arxiv.org/abs/1708.02002: p is a sigmoid for each class apart; in multiclass mode every
    class is set against the rest. The mean is over valid places, (B, H, W, C).

    Args:
        ignore_index: label or value of the places that take no part, or None.
        gamma: power of the modulating factor, not negative.
        alpha: weight of the places where the target is 1, 0 < alpha < 1; None weighs both kinds with 1.
        mode: "multiclass", "binary" or "multilabel".
        name: name of the loss.
        dtype: dtype to compute in, float32 unless told.

    Raises:
        ValueError: values outside these ranges.
    """

    def __init__(
        self,
        ignore_index: int | None = None,
        gamma: float = 2.0,
        alpha: float | None = 0.25,
        mode: Mode | None = None,
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(ignore_index, gamma, mode, name, dtype)
        if alpha is not None and not 0 < alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1 or None, not {alpha!r}.")
        self.alpha = alpha

    def value(self, target: Target, logits: Any) -> Any:
        """Return the scalar loss; see `PixelLoss.value`."""
        weights = ops.broadcast_to(target.place_weights(logits), ops.shape(logits))
        g = target.shares(logits)
        on, off = ops.softplus(-logits), ops.softplus(logits)  # -log p and -log(1 - p)
        positive, negative = (1.0, 1.0) if self.alpha is None else (self.alpha, 1 - self.alpha)
        losses = positive * g * _modulation(on, self.gamma) * on
        losses = losses + negative * (1 - g) * _modulation(off, self.gamma) * off
        return ops.divide_no_nan(ops.sum(losses * weights), ops.sum(weights))

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the loss."""
        return {**super().get_config(), "alpha": self.alpha}


def _modulation(cost: Any, gamma: float) -> Any:
    """Return (1 - p)^gamma from cost = -log p, with a finite gradient at p = 1 for any gamma."""
    if gamma == 0:
        return ops.ones_like(cost)
    miss = -ops.expm1(-cost)
    if gamma >= 1:
        return ops.power(miss, gamma)
    return ops.power(ops.maximum(miss, keras.config.epsilon()), gamma)

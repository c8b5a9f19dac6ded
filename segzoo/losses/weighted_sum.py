"""Several losses as one."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import keras

from segzoo.losses.base import split_distances


@keras.saving.register_keras_serializable("segzoo")
class WeightedSum(keras.losses.Loss):
    """The sum of losses, each times its weight; `y_true`, `y_pred` and `sample_weight` go to each.

    Where one of them is a `PixelLoss` that takes distances, targets come with distances, and the other losses get them
    without.

    Args:
        losses: Keras losses that return a scalar.
        weights: one factor per loss.
        name: name of the loss.
        dtype: not used for computing, since each loss has its own; kept for Keras.

    Raises:
        ValueError: no loss, a number of weights other than that of the losses, or losses on distances of several modes.
    """

    def __init__(
        self,
        losses: Sequence[keras.losses.Loss],
        weights: Sequence[float],
        name: str | None = None,
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype or "float32")
        if not losses or len(losses) != len(weights):
            raise ValueError(f"{len(losses)} losses and {len(weights)} weights; one weight per loss is needed.")
        self.losses = list(losses)
        self.weights = [float(weight) for weight in weights]
        modes = {loss.mode for loss in self.losses if _takes_distances(loss)}
        if len(modes) > 1:
            raise ValueError(f"Losses that take distances must be of one mode, not of {', '.join(sorted(modes))}.")
        self._distances_mode = next(iter(modes), None)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the scalar sum; each loss has reduced, and scaled for the replicas, its own term."""
        alone = y_true
        if self._distances_mode is not None:
            alone, _ = split_distances(y_true, y_pred.shape[-1], self._distances_mode)
        terms = (
            weight * loss(y_true if _takes_distances(loss) else alone, y_pred, sample_weight)
            for weight, loss in zip(self.weights, self.losses, strict=True)
        )
        return functools.reduce(operator.add, terms)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the scalar sum."""
        return self(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the loss."""
        return {
            "losses": [keras.saving.serialize_keras_object(loss) for loss in self.losses],
            "weights": self.weights,
            "name": self.name,
            "dtype": self.dtype,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WeightedSum:
        """Rebuild from `get_config`."""
        losses = [keras.saving.deserialize_keras_object(loss) for loss in config["losses"]]
        return cls(**{**config, "losses": losses})


def _takes_distances(loss: keras.losses.Loss) -> bool:
    return getattr(loss, "takes_distances", False)

"""Several losses as one."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import keras

from segzoo.losses.base import PixelLoss


@keras.saving.register_keras_serializable("segzoo")
class WeightedSum(keras.losses.Loss):
    """The sum of losses, each times its weight; `y_true`, `y_pred` and `sample_weight` go to each.

    Args:
        losses: Keras losses that return a scalar.
        weights: one factor per loss.
        name: name of the loss.
        dtype: not used for computing, since each loss has its own; kept for Keras.

    Raises:
        ValueError: no loss, or a number of weights other than that of the losses.
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
        if self.distances:
            self.distances = True  # all of them get the same targets
        self.weights = [float(weight) for weight in weights]

    @property
    def distances(self) -> bool:
        """Whether targets have distances behind their own channels: where one of the losses reads them."""
        return any(getattr(loss, "distances", False) for loss in self.losses)

    @distances.setter
    def distances(self, given: bool) -> None:
        for loss in self.losses:
            if isinstance(loss, PixelLoss | WeightedSum):
                loss.distances = given

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the scalar sum; each loss has reduced, and scaled for the replicas, its own term."""
        terms = (
            weight * loss(y_true, y_pred, sample_weight) for weight, loss in zip(self.weights, self.losses, strict=True)
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

"""Weighted sum of losses."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from segzoo.losses.base import Loss, split_extra

_DISTANCES = "distances"


@keras.saving.register_keras_serializable("segzoo")
class WeightedSum(Loss):
    """The sum of losses, each times its weight; `y_true`, `y_pred` and `sample_weight` go to each.

    Where losses put channels behind the target's own (`PixelLoss.make_target`), a target comes with those of each, in
    the order of the losses, and each loss gets its own. Losses on signed distances share one set of them.

    Args:
        losses: Keras losses that return a scalar.
        weights: one factor per loss.
        name: name of the loss.
        dtype: not used for computing, since each loss has its own; kept for Keras.

    Raises:
        ValueError: no losses, a wrong number of weights, or losses with extra channels of
            different modes.
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
        modes = {loss.mode for loss in self.losses if _extra_channels(loss, 1)}
        if len(modes) > 1:
            raise ValueError(f"Losses that take distances must be of one mode, not of {', '.join(sorted(modes))}.")
        self.mode: Any = next(iter(modes), None)

    def extra_channels(self, classes: int) -> int:
        """Return the number of channels that `make_target` appends to the mask's own, for `channels` of logits."""
        return sum(length for _, length in self._places(classes).values())

    def make_target(self, mask: np.ndarray, classes: int) -> np.ndarray:
        """Return a mask with the channels that each loss appends; see `PixelLoss.make_target`."""
        places = self._places(classes)
        if not places:
            return mask
        own = (mask if mask.ndim == 3 else mask[..., None]).astype(np.float32)
        makers = {_kind(loss): loss for loss in reversed(self.losses)}
        extras = [makers[kind].make_target(mask, classes)[..., own.shape[-1] :] for kind in places]
        return np.concatenate([own, *extras], axis=-1)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Return the scalar sum; each loss has reduced, and scaled for the replicas, its own term."""
        terms = (
            weight * loss(target, y_pred, sample_weight)
            for weight, loss, target in zip(self.weights, self.losses, self._targets(y_true, y_pred), strict=True)
        )
        return functools.reduce(operator.add, terms)

    def _targets(self, y_true: Any, y_pred: Any) -> list[Any]:
        """Return the target of each loss: its own channels, and the further ones that are this loss's."""
        classes = y_pred.shape[-1]
        places = self._places(classes)
        if not places:
            return [y_true] * len(self.losses)
        only_distances = list(places) == [_DISTANCES]
        own, extra = split_extra(y_true, self.extra_channels(classes), classes, self.mode, only_distances)
        found = []
        for loss in self.losses:
            first, length = places.get(_kind(loss), (0, 0))
            if length in (0, extra.shape[-1]):
                found.append(y_true if length else own)
            else:
                found.append(ops.concatenate([own, extra[..., first : first + length]], axis=-1))
        return found

    def _places(self, classes: int) -> dict[Any, tuple[int, int]]:
        """Return the offset of each kind's channels behind the target's own, and their number."""
        places: dict[Any, tuple[int, int]] = {}
        first = 0
        for loss in self.losses:
            length = _extra_channels(loss, classes)
            if length and _kind(loss) not in places:
                places[_kind(loss)] = (first, length)
                first += length
        return places

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return the scalar sum."""
        return self(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that rebuild the loss."""
        losses = [keras.saving.serialize_keras_object(loss) for loss in self.losses]
        return {**super().get_config(), "losses": losses}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WeightedSum:
        """Rebuild from `get_config`."""
        losses = [keras.saving.deserialize_keras_object(loss) for loss in config["losses"]]
        return cls(**{**config, "losses": losses})


def _extra_channels(loss: keras.losses.Loss, classes: int) -> int:
    """Return the number of extra target channels of a loss; a Keras or user-defined loss has none."""
    return loss.extra_channels(classes) if hasattr(loss, "extra_channels") else 0


def _kind(loss: keras.losses.Loss) -> Any:
    """Return a key that identifies a loss's extra channels: signed distances are the same for all, others differ."""
    return _DISTANCES if getattr(loss, "takes_distances", False) else id(loss)

"""Targets made of masks, for the outputs of the network and their losses."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from segzoo import losses
from segzoo.config import Config
from segzoo.engine.builders.loss import presence_loss, weight_schemes
from segzoo.errors import DataError
from segzoo.models.build import LOGITS, PRESENCE


def target_maker(config: Config, given: Any = None) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from a mask to the target of the configured loss, or of the one given in its place.

    A loss that is not segzoo's takes the mask itself. What is returned raises DataError where the loss fails.
    """
    if given is not None:
        loss = given if hasattr(given, "make_target") else _TakesMasks()
        return functools.partial(_made_target, loss, type(given).__name__, config.task.channels)
    terms: dict[str, Any] = dict(config.loss)
    for name in weight_schemes(config):  # made from counts that there may not be yet, and no part of a target
        terms[name] = {key: value for key, value in terms[name].items() if key != "class_weights"}
    loss = losses.create(terms, config.data.ignore_index, config.mode)
    return functools.partial(_made_target, loss, " + ".join(config.loss), config.task.channels)


class _TakesMasks:
    """Adapter for a loss of Keras, or a function, which takes masks as targets."""

    def make_target(self, mask: np.ndarray, classes: int) -> np.ndarray:
        """Return the mask as it is."""
        return mask


def training_target_maker(config: Config, given: Any = None) -> Callable[[np.ndarray], Any]:
    """Return the function from a mask to the targets of the network's outputs: an array, or arrays by output."""
    of_logits = target_maker(config, given)
    if config.model.classification is None:
        return of_logits
    of_presence = functools.partial(_made_target, presence_loss(config), PRESENCE, config.task.channels)
    return lambda mask: {LOGITS: of_logits(mask), PRESENCE: of_presence(mask)}


def _made_target(loss: Any, name: str, classes: int, mask: np.ndarray) -> np.ndarray:
    """Let a loss make its target of a mask; integers become int32, which every backend has."""
    try:
        target = loss.make_target(mask, classes)
        return target.astype("int32", copy=False) if target.dtype.kind in "iu" else target
    except Exception as error:  # a class of the user's may raise anything
        raise DataError(
            f"the loss {name} cannot make its target of a mask {mask.shape} {mask.dtype}: "
            f"{type(error).__name__}: {error}.",
            "target",
        ) from error

"""Targets made of masks, for the outputs of the network and their losses."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from segzoo import losses
from segzoo.backend import start_backend
from segzoo.config import Config, stated
from segzoo.engine.builders.weighting import weight_schemes
from segzoo.errors import DataError
from segzoo.losses.distances import with_distances
from segzoo.losses.held_classes import held_classes
from segzoo.models.outputs import LOGITS, PRESENCE


def target_maker(config: Config, given: Any = None) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from a mask to the target of the configured loss, or of the one given in its place.

    A loss that is not segzoo's takes the mask itself. What is returned raises DataError where the loss fails.
    """
    if given is not None:
        loss = given if hasattr(given, "make_target") else _TakesMasks()
        return functools.partial(_made_target, loss, type(given).__name__, config.task.channels)
    loss = _stated(config) or _built(config)
    return functools.partial(_made_target, loss, " + ".join(config.loss), config.task.channels)


def _stated(config: Config) -> Any:
    """Return a maker of targets where the sources of the losses say them; None where a loss has to be asked.

    A loss is a Keras object, and with it a framework starts, which looking at data does without.
    """
    needed = [name for name in config.loss if not stated.takes_masks(name)]
    if not needed:
        return _TakesMasks()
    return _TakesDistances(config.data.ignore_index) if all(map(stated.takes_distances, needed)) else None


def _built(config: Config) -> Any:
    """Build the loss for the sake of its target."""
    start_backend()
    terms: dict[str, Any] = dict(config.loss)
    for name in weight_schemes(config):  # made from counts that there may not be yet, and no part of a target
        terms[name] = {key: value for key, value in terms[name].items() if key != "class_weights"}
    return losses.create(terms, config.data.ignore_index, config.mode)


class _TakesMasks:
    """Maker of targets for losses that take masks: those of Keras, functions, most of segzoo's."""

    def make_target(self, mask: np.ndarray, classes: int) -> np.ndarray:
        """Return the mask as it is."""
        return mask


class _TakesDistances:
    """Maker of targets for losses that take masks with signed distances, alone or in a sum; see `with_distances`."""

    def __init__(self, ignore_index: int):
        self.ignore_index = ignore_index

    def make_target(self, mask: np.ndarray, classes: int) -> np.ndarray:
        """Return the mask with its distances behind."""
        return with_distances(mask, classes, self.ignore_index)


class _TakesClasses:
    """Maker of the targets of a classification head; the same as `ClassPresence` makes."""

    def __init__(self, config: Config):
        self.ignore_index, self.mode = config.data.ignore_index, config.mode

    def make_target(self, mask: np.ndarray, classes: int) -> np.ndarray:
        """Return the classes that the mask holds."""
        return held_classes(mask, classes, self.ignore_index, self.mode)


def training_target_maker(config: Config, given: Any = None) -> Callable[[np.ndarray], Any]:
    """Return the function from a mask to the targets of the network's outputs: an array, or arrays by output."""
    of_logits = target_maker(config, given)
    if config.model.classification is None:
        return of_logits
    of_presence = functools.partial(_made_target, _TakesClasses(config), PRESENCE, config.task.channels)
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

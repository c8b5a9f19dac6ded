"""The loss of each output of the network, with class weights computed from the training split."""

from __future__ import annotations

from typing import Any

import keras

from segzoo import losses
from segzoo.config import Config
from segzoo.engine.builders.weighting import class_weights
from segzoo.engine.class_pixels import ClassPixels
from segzoo.models.outputs import PRESENCE


def build_loss(config: Config, counted: ClassPixels | None = None) -> keras.losses.Loss:
    """Build the configured loss or weighted sum of losses; `counted` is required for `weight_schemes`."""
    terms: dict[str, Any] = dict(config.loss)
    if counted is not None:
        for name, weights in class_weights(config, counted).items():
            terms[name] = {**terms[name], "class_weights": weights}
    return losses.create(terms, config.data.ignore_index, config.mode)


def losses_of_outputs(
    config: Config, network: keras.Model, loss: keras.losses.Loss
) -> tuple[Any, dict[str, float] | None]:
    """Return the arguments `loss` and `loss_weights` of `compile` for the network's outputs.

    A network of one output takes the configured loss; of several, every segmentation takes it with its own weight (in
    deep supervision 1, as in U-Net++'s paper), and the classification that of present classes.
    """
    if not isinstance(network.output, dict):
        return loss, None
    weights = {f"auxiliary_{level}": weight for level, weight in config.model.auxiliary.items()}
    found, scales = {}, {}
    for name in network.output:
        found[name], scales[name] = loss, weights.get(name, 1.0)
    if config.model.classification is not None:
        found[PRESENCE] = presence_loss(config)
        scales[PRESENCE] = config.model.classification
    return found, scales


def presence_loss(config: Config) -> losses.ClassPresence:
    """Return the loss of a classification head."""
    return losses.ClassPresence(config.data.ignore_index, config.mode)

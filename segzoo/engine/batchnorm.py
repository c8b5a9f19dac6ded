"""Momentum of BatchNorm adapted to the length of the run."""

from __future__ import annotations

import keras

from segzoo.keras_compat import all_layers

# After one evaluation interval of n steps, momentum 1 - 5/n leaves (1 - 5/n)^n < 0.7 % of the initial statistics.
_TIME_CONSTANTS = 5.0
_SHORTEST, _LONGEST = 0.7, 0.99


def momentum_for(steps: int) -> float:
    """Return the momentum that lets moving statistics forget their initial values within `steps` steps.

    As long a memory as that allows, since a longer one is less noisy: 0.99 from 500 steps on, as in Keras, and not
    below 0.7, where single batches would show.
    """
    return min(_LONGEST, max(_SHORTEST, 1.0 - _TIME_CONSTANTS / max(1, steps)))


def set_momentum(model: keras.Model, momentum: float) -> int:
    """Set the momentum of every BatchNorm layer of `model`, nested ones too; return their number."""
    layers = [layer for layer in all_layers(model) if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in layers:
        layer.momentum = momentum
    return len(layers)

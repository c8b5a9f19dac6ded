"""Warnings before the start of a run that is too short for its warm-up or its BatchNorm statistics."""

from __future__ import annotations

import math

import keras
import numpy as np

from segzoo.config import Config
from segzoo.engine import builders
from segzoo.keras_compat import all_layers
from segzoo.optim import SCHEDULES

# Initial values that may be left in moving statistics: beyond it an evaluation is of another network than was trained.
_STALE = 0.05


def short_run_notes(config: Config, network: keras.Model, steps: int) -> list[str]:
    """Return warnings with their cures; none for a run that is long enough.

    Args:
        config: the resolved configuration.
        network: untrained network, with the momentum of the run.
        steps: number of steps per epoch.
    """
    settings = config.training
    stale = [] if settings.uses_population_statistics else _stale_notes(network, steps * settings.epochs)
    return [*_warmup_notes(config, steps), *stale]


def _warmup_notes(config: Config, steps: int) -> list[str]:
    """Return warnings about a warm-up that lasts as long as the run or one of its stages."""
    settings = config.training
    warmup = settings.schedule.warmup_steps
    updates = builders.updates(config, steps * settings.epochs)
    own = not SCHEDULES.is_built_in(settings.schedule.name)
    if not own and settings.schedule.name != "one_cycle" and warmup >= updates:
        return [
            f"training.schedule.warmup_steps is {warmup}, but the whole run has {_count(updates, 'update')}: the "
            "learning rate only rises, and is at its peak when the run ends. Train longer, or set warmup_steps to "
            f"{updates // 20}."
        ]
    notes, done = [], 0
    for number, stage in enumerate(settings.stages, 1):
        epochs = stage.epochs or settings.epochs - done
        done += epochs
        updates = builders.updates(config, steps * epochs)
        if number > 1 and warmup >= updates:
            notes.append(
                f"training.stages: stage {number} has {_count(updates, 'update')}, and its learning rate rises for "
                f"{warmup} (training.schedule.warmup_steps). Make it longer, or set warmup_steps to {updates // 20}."
            )
    return notes


def _stale_notes(network: keras.Model, steps: int) -> list[str]:
    """Return warnings about moving statistics that still depend on their initial values at the end."""
    fresh = [
        layer
        for layer in all_layers(network)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable and _is_fresh(layer)
    ]
    momentum = max((float(layer.momentum) for layer in fresh), default=0.0)
    left = momentum**steps
    if left <= _STALE:
        return []
    enough = math.ceil(math.log(_STALE) / math.log(momentum))
    lower = math.floor(100 * _STALE ** (1 / steps)) / 100
    return [
        f"After the {_count(steps, 'step')} of this run the moving statistics of BatchNorm still hold {100 * left:.0f} "
        f"% of their initial values (momentum {momentum:g}), so its evaluations and predictions will be far worse than "
        f"its training loss. Train for {enough} steps or more, or set training.batchnorm_momentum to {lower:g} or less."
    ]


def _is_fresh(layer: keras.layers.BatchNormalization) -> bool:
    """Return True if the statistics are those of a new layer, not of pretrained weights."""
    mean, variance = (keras.ops.convert_to_numpy(of) for of in (layer.moving_mean, layer.moving_variance))
    return not np.any(mean) and bool(np.all(variance == 1))


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"

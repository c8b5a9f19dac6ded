"""Stages of a run: which parts of the network are frozen and how fast the others learn, from one epoch to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from segzoo.engine.callbacks.base import RunCallback
from segzoo.errors import RunError
from segzoo.keras_compat import all_layers, takes_training, updated_variables
from segzoo.optim import optimizers
from segzoo.optim.param_groups import frozen_layers, rate_factors


@dataclass(frozen=True)
class Stage:
    """One stage of a training schedule.

    Attributes:
        first_epoch: epochs done before it.
        freeze: parts, or levels of the backbone up to which it is frozen.
        lr_scale: part or level to a factor on its learning rate.
    """

    first_epoch: int
    freeze: tuple[str, ...] = ()
    lr_scale: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line for the screen and the log."""
        parts = [f"{', '.join(self.freeze)} frozen" if self.freeze else "nothing frozen"]
        parts += [
            f"{name} at {factor:g} times the learning rate"
            for name, factor in self.lr_scale.items()
            if name not in self.freeze
        ]
        return "; ".join(parts)


class Stages:
    """Stages of a compiled network with a built optimizer; activates the stage of an epoch.

    What is frozen also runs batch normalisation and dropout as in inference, and no gradient is computed for it. A
    stage is a function of the epoch alone, and the optimizer has the same variables in all of them, so that a run state
    needs to say nothing about stages. From the second stage on, each starts with empty moments and a count of zero, as
    Keras does with every `compile` - moments that missed some hundred steps would make the first updates of an unfrozen
    part several times too large - and its rate rises within the warm-up to where the schedule is.

    Args:
        network: model being trained.
        stages: stages in order; the first begins at epoch 0.
        layer_decay: see `rate_factors`.
        updates_per_epoch: optimizer updates per epoch.
        warmup: updates in which the rate rises at the start of each but the first stage.

    Raises:
        RunError: the backend cannot update a part of the variables, or a stage has nothing to train.
        SegzooError: a level that the network does not read.
    """

    def __init__(
        self,
        network: keras.Model,
        stages: Sequence[Stage],
        *,
        layer_decay: float = 1.0,
        updates_per_epoch: int = 1,
        warmup: int = 0,
    ):
        if any(stage.freeze for stage in stages) and keras.backend.backend() == "jax":
            raise RunError(
                "training.stages: freezing a part for a while needs TensorFlow or torch, the backend is JAX."
            )
        self.network = network
        self.stages = list(stages)
        self.updates_per_epoch = updates_per_epoch
        self.warmup = warmup
        self._entered: int | None = None
        self._trainable = {id(layer): layer.trainable for top in network.layers for layer in all_layers(top)}
        self._frozen = [{id(layer) for layer in frozen_layers(network, stage.freeze)} for stage in self.stages]
        self._factors = [rate_factors(network, stage.lr_scale, layer_decay) for stage in self.stages]
        self._empty = _empty_state(optimizers.inner(network.optimizer)) if len(self.stages) > 1 else []
        for stage, frozen in zip(self.stages, self._frozen, strict=True):
            left = [layer for layer in network.layers if id(layer) not in frozen and layer.trainable_variables]
            if not left:
                raise RunError(f"training.stages: with {', '.join(stage.freeze)} frozen there is nothing to train.")

    def enter(self, epoch: int, fresh: bool = True) -> Stage | None:
        """Activate the stage for `epoch` (epochs done so far); return it if it changed.

        Args:
            epoch: epochs done.
            fresh: whether no step of the next one is done yet.
        """
        if not self.stages:
            return None
        index = max(place for place, stage in enumerate(self.stages) if stage.first_epoch <= epoch)
        if fresh and index > 0 and epoch == self.stages[index].first_epoch:
            for variable, value in self._empty:
                variable.assign(value)
        if index == self._entered:
            return None
        self._apply(index)
        self._entered = index
        return self.stages[index]

    def ended_in_last(self, epoch: int) -> bool:
        """Return True if the last of `epoch` epochs belongs to the last stage, the only one that may stop early."""
        return not self.stages or epoch > self.stages[-1].first_epoch

    def _apply(self, index: int) -> None:
        for top in self.network.layers:
            frozen = id(top) in self._frozen[index]
            for layer in all_layers(top):  # outer layers first: setting one sets those within
                layer.trainable = self._trainable[id(layer)] and not frozen
                _run_as_in_inference(layer, frozen)
        optimizer = optimizers.inner(self.network.optimizer)
        known = {id(variable) for variable in updated_variables(optimizer)}
        optimizer.set_factors([pair for pair in self._factors[index] if id(pair[0]) in known])
        if index > 0:
            optimizer.begin_stage(self.stages[index].first_epoch * self.updates_per_epoch, self.warmup)
        self.network.train_function = None  # the step is traced anew


class StageSchedule(RunCallback):
    """Activates the stage of each epoch at its beginning.

    Args:
        stages: the stages of the network that is trained.
        tell: called with a sentence when a stage begins or is resumed.
        log: called with a stage when it begins.
    """

    def __init__(self, stages: Stages, tell: Callable[[str], None], log: Callable[[Stage], None]):
        super().__init__()
        self.stages = stages
        self.tell = tell
        self.log = log

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Freeze and unfreeze as the stage says; patience starts anew with a stage."""
        is_fresh = self.progress.position == 0
        stage = self.stages.enter(epoch, is_fresh)
        if stage is None:
            return
        self.tell(f"Stage from epoch {stage.first_epoch + 1} on: {stage}.")
        if is_fresh and stage.first_epoch == epoch:
            self.progress.early_stopping.stale = self.progress.plateau.stale = 0
            self.log(stage)


def _run_as_in_inference(layer: Any, frozen: bool) -> None:
    """Make a layer ignore that it is called for training, or heed it again: freezing alone leaves dropout at work."""
    overridden = "call" in vars(layer)
    if frozen and not overridden and takes_training(layer):
        call: Callable[..., Any] = layer.call

        def as_in_inference(*args: Any, training: bool | None = None, **kwargs: Any) -> Any:
            return call(*args, training=False, **kwargs)

        layer.call = as_in_inference
    elif not frozen and overridden:
        del layer.call


def _empty_state(optimizer: Any) -> list[tuple[keras.Variable, Any]]:
    """Variables of a new optimizer with their values; a single number where all elements are alike."""
    found = []
    for variable in optimizer.variables:
        if variable is getattr(optimizer, "plateau_factor", None):  # it belongs to the schedule, which goes on
            continue
        value = keras.ops.convert_to_numpy(variable)
        alike = value.size and np.all(value == value.flat[0])
        found.append((variable, np.broadcast_to(value.flat[0], value.shape) if alike else value.copy()))
    return found

"""The optimizer, its learning-rate schedule and the stages of training."""

from __future__ import annotations

import keras

from segzoo.config import Config
from segzoo.engine.callbacks.ema import decay_for
from segzoo.engine.callbacks.stages import Stage, Stages
from segzoo.engine.checkpoint.provenance import HEAD_FACTOR
from segzoo.optim import SCHEDULES, optimizers
from segzoo.optim.param_groups import HEAD, parts, rate_factors
from segzoo.optim.schedules import OneCycle, WarmUpDecay


def updates(config: Config, batches: int) -> int:
    """Return how many updates are made of this many batches, 1 or more."""
    return max(1, batches // config.training.accumulate)


def build_schedule(config: Config, updates: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Build the configured learning-rate schedule over a run of this many updates."""
    schedule, peak = config.training.schedule, config.training.optimizer.learning_rate
    if not SCHEDULES.is_built_in(schedule.name):
        return SCHEDULES[schedule.name](peak, updates, **schedule.options)
    if schedule.name == "one_cycle":
        return OneCycle(peak, updates, schedule.rise, final_fraction=schedule.final_fraction)
    return WarmUpDecay(
        peak,
        updates,
        schedule.warmup_steps,
        schedule.name,
        schedule.power,
        schedule.final_fraction,
        schedule.milestones,
        schedule.drop,
    )


def build_optimizer(
    config: Config, steps: int, rate: keras.optimizers.schedules.LearningRateSchedule | None = None
) -> keras.optimizers.Optimizer:
    """Build the configured optimizer for a run of `steps` batches; `rate` replaces the configured schedule."""
    settings = config.training.optimizer
    accumulate = config.training.accumulate
    return optimizers.create(
        settings.name,
        build_schedule(config, updates(config, steps)) if rate is None else rate,
        settings.weight_decay,
        clip_norm=settings.largest_norm,
        clip_value=settings.clip_value,
        accumulate=accumulate,
        **settings.options,
    )


def start_optimizer(config: Config, network: keras.Model, steps: int) -> None:
    """Create the variables of a compiled network's optimizer, and set the learning-rate factors of its parts.

    Args:
        config: the resolved configuration.
        network: compiled.
        steps: batches of the whole run.
    """
    settings = config.training.optimizer
    network.optimizer.build(network.trainable_variables)
    trained = set(map(id, network.trainable_variables))
    factors = rate_factors(network, settings.factors(updates(config, steps)), settings.layer_decay)
    optimizers.inner(network.optimizer).set_factors(
        [(variable, factor) for variable, factor in factors if id(variable) in trained]
    )


def automatic(config: Config, steps: int, network: keras.Model | None = None) -> dict[str, float]:
    """Return what settings that the configuration leaves open come to in a run of `steps` batches, by their keys.

    These are the gradient's largest norm and the decay of the average where they are "auto", and the factor on the
    head's learning rate where it is not 1 and none is given.

    Args:
        config: the resolved configuration.
        steps: batches of the whole run.
        network: the network; without a head that `rate_factors` finds, as those given to `train` may be, there is no
            such factor. None: it has one.
    """
    settings, count = config.training.optimizer, updates(config, steps)
    found: dict[str, float] = {}
    if settings.clip_norm == "auto" and settings.largest_norm is not None:
        found["training.optimizer.clip_norm"] = settings.largest_norm
    scales = [settings.lr_scale if stage.lr_scale is None else stage.lr_scale for stage in config.training.stages]
    factor = settings.factors(count, {}).get(HEAD, 1.0)
    is_open = any(HEAD not in scale for scale in scales or [settings.lr_scale])
    if factor != 1.0 and is_open and (network is None or parts(network)[HEAD]):
        found[HEAD_FACTOR] = factor
    if config.training.ema == "auto":
        found["training.ema"] = decay_for(count)
    return found


def build_stages(config: Config, network: keras.Model, steps: int) -> Stages:
    """Build the configured stages of a compiled network with a built optimizer, at `steps` batches per epoch."""
    settings = config.training
    stages, first_epoch, count = [], 0, updates(config, steps * settings.epochs)
    has_head = bool(parts(network)[HEAD])  # one that was given to `train` may have none
    for section in settings.stages:
        factors = settings.optimizer.factors(count, section.lr_scale)
        told = {name: factor for name, factor in factors.items() if has_head or name != HEAD}
        stages.append(Stage(first_epoch, tuple(section.freeze), told))
        first_epoch += section.epochs or 0
    return Stages(
        network,
        stages,
        layer_decay=settings.optimizer.layer_decay,
        updates_per_epoch=steps // settings.accumulate,
        warmup=settings.schedule.warmup_steps,
    )

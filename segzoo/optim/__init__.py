"""Optimizers, learning-rate schedules and parameter groups."""

from __future__ import annotations

from segzoo.registry import Registry

__all__ = ["OPTIMIZERS", "SCHEDULES"]

OPTIMIZERS = Registry(
    "optimizer",
    {
        "adamw": "segzoo.optim.optimizers:AdamW",
        "adam": "segzoo.optim.optimizers:AdamW",  # the same update: weight decay is decoupled for every optimizer
        "sgd": "segzoo.optim.optimizers:SGD",
        "rmsprop": "segzoo.optim.optimizers:RMSprop",
        "lion": "segzoo.optim.optimizers:Lion",
        "adamax": "segzoo.optim.optimizers:Adamax",
        "adagrad": "segzoo.optim.optimizers:Adagrad",
        "adafactor": "segzoo.optim.optimizers:Adafactor",
    },
    absent={
        "muon": "Keras's updates matrices only and gives the kernels of convolutions Adam's update. Take adamw.",
        "nadam": "Keras's would count its momentum anew for every part of its own learning rate. Take adamw.",
    },
    base="keras.optimizers:Optimizer",
)

#: A registered schedule is made by `schedule(peak, updates, **options)`: the learning rate of `training.optimizer`, and
#: the updates of the whole run.
SCHEDULES = Registry(
    "schedule",
    {
        **dict.fromkeys(("poly", "cosine", "step", "constant"), "segzoo.optim.schedules:WarmUpDecay"),
        "one_cycle": "segzoo.optim.schedules:OneCycle",
    },
    base="keras.optimizers.schedules:LearningRateSchedule",
)

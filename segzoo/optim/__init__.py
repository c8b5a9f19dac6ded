"""Optimizers, learning-rate schedules and parameter groups."""

from __future__ import annotations

from segzoo.registry import Registry

__all__ = ["ADAPTIVE", "CLASSES", "LARGEST_NORM", "OPTIMIZERS", "SCHEDULES", "head_factor"]

#: Built-in optimizers by the names of their classes, which are those of the Keras optimizers that they extend.
CLASSES = {
    "adamw": "AdamW",
    "adam": "AdamW",  # the same update: weight decay is decoupled for every optimizer
    "sgd": "SGD",
    "rmsprop": "RMSprop",
    "lion": "Lion",
    "adamax": "Adamax",
    "adagrad": "Adagrad",
    "adafactor": "Adafactor",
}

#: Those that divide the gradient by an average of its size, whose memory is longer than many a run: unclipped, the
#: first gradients, ten times as large as later ones, make all later steps small (docs/results.md).
ADAPTIVE = frozenset({"adamw", "adam", "rmsprop", "adamax"})

#: The maximum global norm of their gradients unless a configuration has another.
LARGEST_NORM = 1.0

OPTIMIZERS = Registry(
    "optimizer",
    {name: f"segzoo.optim.optimizers:{kind}" for name, kind in CLASSES.items()},
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

# Such a step changes a weight by the learning rate at most, so that the sum of the rates is the way that a weight can
# go. Those of the head have the longest: in runs that are too short for it they learn faster, by ten times at most, the
# factor of Chen et al. (DeepLab, 2015).
_WAY, _MOST = 3.0, 10.0


def head_factor(learning_rate: float, updates: int) -> float:
    """Return the factor on the head's learning rate under an adaptive optimizer, 1 to 10, by the length of a run.

    Args:
        learning_rate: the peak, above 0.
        updates: updates of the run, 1 or more.
    """
    return min(_MOST, max(1.0, _WAY / (learning_rate * updates)))

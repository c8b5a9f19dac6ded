"""Training from a Config: the loop, its run folder, and what is rebuilt from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segzoo.registry import Registry

if TYPE_CHECKING:
    from segzoo.training.loop import train as train
    from segzoo.training.run import load_run as load_run

_NAMES = {"train": "segzoo.training.loop", "load_run": "segzoo.training.run"}

__all__ = ["OPTIMIZERS", "load_run", "train"]

OPTIMIZERS = Registry(
    "optimizer",
    {
        "adamw": "segzoo.training.optimizers:AdamW",
        "adam": "segzoo.training.optimizers:AdamW",  # the same update: weight decay is decoupled for every optimizer
        "sgd": "segzoo.training.optimizers:SGD",
        "rmsprop": "segzoo.training.optimizers:RMSprop",
        "lion": "segzoo.training.optimizers:Lion",
        "adamax": "segzoo.training.optimizers:Adamax",
        "adagrad": "segzoo.training.optimizers:Adagrad",
        "adafactor": "segzoo.training.optimizers:Adafactor",
    },
    absent={
        "muon": "Keras's updates matrices only and gives the kernels of convolutions Adam's update. Take adamw.",
        "nadam": "Keras's would count its momentum anew for every part of its own learning rate. Take adamw.",
    },
    base="keras.optimizers:Optimizer",
)


def __getattr__(name: str) -> Any:
    if name in _NAMES:  # the modules import keras, so only when they are asked for
        import importlib

        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'segzoo.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)

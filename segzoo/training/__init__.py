"""Training from a Config: the loop, its run folder, and what is rebuilt from it."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segzoo.training.loop import train as train
    from segzoo.training.run import load_run as load_run

_NAMES = {"train": "segzoo.training.loop", "load_run": "segzoo.training.run"}

__all__ = ["load_run", "train"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:  # the modules import keras, so only when they are asked for
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name == "OPTIMIZERS":
        warnings.warn("segzoo.training.OPTIMIZERS is segzoo.optim.OPTIMIZERS now.", DeprecationWarning, stacklevel=2)
        from segzoo.optim import OPTIMIZERS

        return OPTIMIZERS
    raise AttributeError(f"module 'segzoo.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)

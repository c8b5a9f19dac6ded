"""Training engine: training loop, run folder, and reconstruction of models from it."""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segzoo.engine.checkpoint.run import load_run as load_run
    from segzoo.engine.trainer import train as train

_NAMES = {"train": "segzoo.engine.trainer", "load_run": "segzoo.engine.checkpoint.run"}

__all__ = ["load_run", "train"]


def __getattr__(name: str) -> Any:
    if name in _NAMES:  # the modules import keras, so only when they are asked for
        return getattr(importlib.import_module(_NAMES[name]), name)
    if name == "OPTIMIZERS":
        warnings.warn("segzoo.engine.OPTIMIZERS is segzoo.optim.OPTIMIZERS now.", DeprecationWarning, stacklevel=2)
        from segzoo.optim import OPTIMIZERS

        return OPTIMIZERS
    raise AttributeError(f"module 'segzoo.engine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)

"""segzoo: a segmentation model zoo for Keras 3.

The public names are imported when they are first used, so `import segzoo` pulls in no framework.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from segzoo.moved import MOVED, keep_old_names
from segzoo.registration import register_with_keras

if TYPE_CHECKING:
    from segzoo import backbones as backbones
    from segzoo import config as config
    from segzoo import data as data
    from segzoo import decoders as decoders
    from segzoo import engine as engine
    from segzoo import export as export
    from segzoo import hub as hub
    from segzoo import inference as inference
    from segzoo import layers as layers
    from segzoo import losses as losses
    from segzoo import metrics as metrics
    from segzoo import models as models
    from segzoo import plugins as plugins
    from segzoo import reporting as reporting
    from segzoo import workflows as workflows
    from segzoo.config import load_config as load_config
    from segzoo.engine import train as train
    from segzoo.engine.checkpoint.run import load_run as load_run
    from segzoo.errors import SegzooError as SegzooError
    from segzoo.models.build import build_model as build_model
    from segzoo.models.build import logits_only as logits_only
    from segzoo.workflows import check_data as check_data
    from segzoo.workflows import compare as compare
    from segzoo.workflows import demo as demo
    from segzoo.workflows import evaluate as evaluate
    from segzoo.workflows import export_all as export_all
    from segzoo.workflows import export_model as export_model
    from segzoo.workflows import find_learning_rate as find_learning_rate
    from segzoo.workflows import init as init
    from segzoo.workflows import load as load
    from segzoo.workflows import predict as predict
    from segzoo.workflows import push as push
    from segzoo.workflows import serve as serve

__version__ = "0.2.0"

_SUBPACKAGES = (
    "backbones",
    "config",
    "data",
    "decoders",
    "engine",
    "export",
    "hub",
    "inference",
    "layers",
    "losses",
    "metrics",
    "models",
    "plugins",
    "reporting",
    "workflows",
)
_OBJECTS = {
    "build_model": "segzoo.models.build",
    "check_data": "segzoo.workflows",
    "compare": "segzoo.workflows",
    "demo": "segzoo.workflows",
    "evaluate": "segzoo.workflows",
    "export_all": "segzoo.workflows",
    "export_model": "segzoo.workflows",
    "find_learning_rate": "segzoo.workflows",
    "init": "segzoo.workflows",
    "load": "segzoo.workflows",
    "logits_only": "segzoo.models.build",
    "predict": "segzoo.workflows",
    "push": "segzoo.workflows",
    "serve": "segzoo.workflows",
    "load_config": "segzoo.config",
    "load_run": "segzoo.engine.checkpoint.run",
    "train": "segzoo.engine",
    "SegzooError": "segzoo.errors",
}

__all__ = [
    "SegzooError",
    "__version__",
    "backbones",
    "build_model",
    "check_data",
    "compare",
    "config",
    "data",
    "decoders",
    "demo",
    "engine",
    "evaluate",
    "export",
    "export_all",
    "export_model",
    "find_learning_rate",
    "hub",
    "inference",
    "init",
    "layers",
    "load",
    "load_config",
    "load_run",
    "logits_only",
    "losses",
    "metrics",
    "models",
    "plugins",
    "predict",
    "push",
    "reporting",
    "serve",
    "train",
    "workflows",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name in _SUBPACKAGES:
        return importlib.import_module(f"segzoo.{name}")
    if name in _OBJECTS:
        return getattr(importlib.import_module(_OBJECTS[name]), name)
    if f"segzoo.{name}" in MOVED:
        return importlib.import_module(f"segzoo.{name}")
    raise AttributeError(f"module 'segzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


keep_old_names()
register_with_keras()

"""segzoo: a segmentation model zoo for Keras 3.

The public names are imported when they are first used, so `import segzoo` pulls in no framework.
"""

from __future__ import annotations

import importlib
from typing import Any

from segzoo.registration import register_with_keras

__version__ = "0.2.0"

_SUBPACKAGES = (
    "backbones",
    "config",
    "data",
    "decoders",
    "export",
    "inference",
    "layers",
    "losses",
    "metrics",
    "plugins",
    "training",
)
_OBJECTS = {
    "build_model": "segzoo.model",
    "logits_only": "segzoo.model",
    "load_config": "segzoo.config",
    "load_run": "segzoo.training.run",
    "train": "segzoo.training",
    "SegzooError": "segzoo.errors",
}

__all__ = [
    "SegzooError",
    "__version__",
    "backbones",
    "build_model",
    "config",
    "data",
    "decoders",
    "export",
    "inference",
    "layers",
    "load_config",
    "load_run",
    "logits_only",
    "losses",
    "metrics",
    "plugins",
    "train",
    "training",
]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name in _SUBPACKAGES:
        return importlib.import_module(f"segzoo.{name}")
    if name in _OBJECTS:
        return getattr(importlib.import_module(_OBJECTS[name]), name)
    raise AttributeError(f"module 'segzoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


register_with_keras()

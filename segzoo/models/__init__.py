"""Models: assembly of backbone, decoder and head. Names are imported when they are first used."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from segzoo.models.build import build_model as build_model
    from segzoo.models.build import logits_only as logits_only
    from segzoo.models.remat import RematModel as RematModel

_OBJECTS = {
    "RematModel": "segzoo.models.remat",
    "build_model": "segzoo.models.build",
    "logits_only": "segzoo.models.build",
}

__all__ = list(_OBJECTS)


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name in _OBJECTS:
        return getattr(importlib.import_module(_OBJECTS[name]), name)
    raise AttributeError(f"module 'segzoo.models' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)

"""Models: assembly of backbone, decoder and head. Names are imported when they are first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segzoo.lazy import attach

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


__getattr__, __dir__ = attach(__name__, _OBJECTS)

"""Backbones: models from images to features "P1" to "P5", every variant with a documented table of taps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segzoo.backbones.table import BACKBONES
from segzoo.lazy import attach

if TYPE_CHECKING:
    from segzoo.backbones.options import BackboneOptions as BackboneOptions
    from segzoo.backbones.spec import Tap
    from segzoo.backbones.surgery import create as create
    from segzoo.backbones.wrapping import wrap as wrap

_OBJECTS = {
    "BackboneOptions": "segzoo.backbones.options",
    "create": "segzoo.backbones.surgery",
    "wrap": "segzoo.backbones.wrapping",
}

__all__ = ["BACKBONES", "BackboneOptions", "create", "names", "taps", "wrap"]


def names() -> list[str]:
    """Return the names of all backbones, without importing any framework."""
    return list(BACKBONES)


def taps(name: str, kind: str | None = None) -> tuple[Tap, ...]:
    """Return the documented taps of backbone `name`; `kind` is "expansion" or "output", by default the family's.

    Raises:
        UnknownNameError: no such backbone, or no such kind of taps.
    """
    return BACKBONES[name].tap_table(kind)


__getattr__, __dir__ = attach(__name__, _OBJECTS)

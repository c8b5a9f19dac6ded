"""Backbones: from images to features "P1" to "P5", every variant with a documented table of taps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segzoo.registry import Registry

if TYPE_CHECKING:
    from segzoo.backbones.adapter import create as create
    from segzoo.backbones.contract import Tap

_EFFICIENTNET = "segzoo.backbones.efficientnet:VARIANTS"
_V1 = [f"efficientnet_b{size}" for size in range(8)]
_V2 = [f"efficientnetv2_{size}" for size in ("b0", "b1", "b2", "b3", "s", "m", "l")]

BACKBONES = Registry(
    "backbone",
    {name: f"{_EFFICIENTNET}[{name}]" for name in _V1 + _V2},
    absent={
        f"efficientnetv2_b{size}": "EfficientNetV2's B variants end at B3. What exists: " + ", ".join(_V2) + "."
        for size in range(4, 8)
    },
)

__all__ = ["BACKBONES", "create", "names", "taps"]


def names() -> list[str]:
    """Names of all backbones, without importing any framework."""
    return list(BACKBONES)


def taps(name: str, kind: str | None = None) -> tuple[Tap, ...]:
    """Documented taps of backbone `name`; `kind` is "expansion" or "output", by default the family's default.

    Raises:
        UnknownNameError: no such backbone, or no such kind of taps.
    """
    return BACKBONES[name].tap_table(kind)


def __getattr__(name: str) -> Any:
    if name == "create":  # imports keras, so only when it is asked for
        from segzoo.backbones.adapter import create

        return create
    raise AttributeError(f"module 'segzoo.backbones' has no attribute {name!r}")

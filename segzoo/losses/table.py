"""The table of losses on masks; each is registered by the module that defines it."""

from __future__ import annotations

from segzoo.registry import Registry

LOSSES = Registry(
    "loss",
    base="segzoo.losses.base:PixelLoss",
    package="segzoo.losses",
    order=("cross_entropy", "overlap", "focal", "lovasz", "boundary", "cldice"),
)

"""Metrics from one dataset-wide confusion matrix, per class and mean; a class that does not occur is n/a."""

from __future__ import annotations

import importlib
from typing import Any

_CLASSES = {
    "ConfusionMatrix": "segzoo.metrics.confusion",
    "MeanIoU": "segzoo.metrics.mean_iou",
}

__all__ = ["ConfusionMatrix", "MeanIoU"]


def __getattr__(name: str) -> Any:
    """Import a class on first use (PEP 562): the NumPy matrix needs no framework."""
    if name in _CLASSES:
        return getattr(importlib.import_module(_CLASSES[name]), name)
    raise AttributeError(f"module 'segzoo.metrics' has no attribute {name!r}")

"""The table of metrics by class; each is registered by the module that defines it."""

from __future__ import annotations

from segzoo.registry import Registry

#: A metric is a function of `ClassCounts`, and of options by name, to a figure per class: float64 (C,), NaN for n/a.
METRICS = Registry("metric", package="segzoo.metrics")

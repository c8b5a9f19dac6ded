"""Metrics that tables by class show: segzoo's own, and the columns of a list of names and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segzoo.arguments import arguments_of
from segzoo.errors import ConfigError, SegzooError, unknown_name
from segzoo.metrics.confusion import ClassCounts
from segzoo.metrics.table import METRICS
from segzoo.registry import name_and_options

METRICS.register("iou", ClassCounts.iou)
METRICS.register("dice", ClassCounts.dice)
METRICS.register("precision", ClassCounts.precision)
METRICS.register("recall", ClassCounts.recall)
METRICS.register("specificity", ClassCounts.specificity)


@METRICS.register("f_beta")
def f_beta(counts: ClassCounts, beta: float = 2.0) -> np.ndarray:
    """Return F-beta (C,): recall counts `beta` times as much as precision; see `ClassCounts.f_beta`."""
    return counts.f_beta(beta)


def parsed(entry: Any) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of a name or {name: options}; ConfigError for anything else."""
    return name_and_options(entry, METRICS.kind, "Write `- specificity` or `- f_beta: {beta: 2}`.")


def heading(entry: Any) -> str:
    """Return the heading of a metric's column: its name, with its options where it has some."""
    name, options = parsed(entry)
    given = ", ".join(f"{option} {value}" for option, value in options.items())
    return f"{name} ({given})" if given else name


def options_of(name: str) -> list[str]:
    """Return the names of a metric's options."""
    return arguments_of(METRICS[name])[1:]


def figures_by_class(counts: ClassCounts, entries: Sequence[Any]) -> dict[str, np.ndarray]:
    """Compute metrics: heading to float64 (C,), NaN for n/a.

    Args:
        counts: pixel counts of a whole data set.
        entries: names of `METRICS`, or {name: options}.

    Raises:
        UnknownNameError: no such metric, or no such option of it.
        ConfigError: an entry of another form, or a metric that fails or does not return one value per class.
    """
    return {heading(entry): _computed(counts, *parsed(entry)) for entry in entries}


def _computed(counts: ClassCounts, name: str, options: Mapping[str, Any]) -> np.ndarray:
    metric = METRICS[name]
    for option in options:
        if option not in options_of(name):
            raise unknown_name(f"option of the metric {name}", option, options_of(name))
    try:
        found = np.asarray(metric(counts, **options), np.float64)
    except SegzooError:
        raise
    except Exception as error:  # a function of the user's may raise anything
        raise ConfigError(f"The metric {name} failed: {type(error).__name__}: {error}.") from error
    if found.shape != (counts.classes,):
        raise ConfigError(f"The metric {name} returned {found.shape}, not {counts.classes} figures, one a class.")
    return found

"""Metrics that tables by class show: segzoo's own, and the columns of a list of names and options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segzoo.arguments import arguments_of
from segzoo.errors import ConfigError, SegzooError, unknown_name
from segzoo.metrics.confusion import ClassCounts
from segzoo.metrics.table import METRICS

#: The columns of every table by class; others come behind them.
ALWAYS = ("iou", "dice", "precision", "recall")


@METRICS.register("iou")
def iou(counts: ClassCounts) -> np.ndarray:
    """Return intersection over union (C,)."""
    return counts.iou()


@METRICS.register("dice")
def dice(counts: ClassCounts) -> np.ndarray:
    """Return the Dice coefficient, also called F1 (C,)."""
    return counts.dice()


@METRICS.register("precision")
def precision(counts: ClassCounts) -> np.ndarray:
    """Return the share of each class's predicted pixels that are right (C,)."""
    return counts.precision()


@METRICS.register("recall")
def recall(counts: ClassCounts) -> np.ndarray:
    """Return the share of each class's target pixels that are found (C,)."""
    return counts.recall()


@METRICS.register("specificity")
def specificity(counts: ClassCounts) -> np.ndarray:
    """Return the share of the pixels of other classes that are not predicted as the class (C,)."""
    return counts.specificity()


@METRICS.register("f_beta")
def f_beta(counts: ClassCounts, beta: float = 2.0) -> np.ndarray:
    """Return F-beta (C,): recall counts `beta` times as much as precision; see `ClassCounts.f_beta`."""
    return counts.f_beta(beta)


def parsed(entry: Any) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of a name or {name: options}; ConfigError for anything else."""
    name, options = entry, None
    if isinstance(entry, Mapping) and len(entry) == 1:
        name, options = next(iter(entry.items()))
    options = {} if options is None else options
    if not isinstance(name, str) or not isinstance(options, Mapping):
        raise ConfigError(f"{entry!r} is no metric. Write `- specificity` or `- f_beta: {{beta: 2}}`.")
    return name, dict(options)


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
        counts: of a whole data set.
        entries: names of `METRICS`, or {name: options}.

    Raises:
        UnknownNameError: no such metric, or no such option of it.
        ConfigError: an entry of another form, a metric that fails, or that returns no figure per class.
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

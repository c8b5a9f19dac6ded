"""Cells of a per-class table, for the screen and for a run's summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segzoo.metrics import ConfusionMatrix, MultilabelCounts, figures_by_class
from segzoo.reporting.page import figure_text


def class_cells(
    confusion: ConfusionMatrix | MultilabelCounts, names: Sequence[str], metrics: Sequence[Any] = ()
) -> list[list[str]]:
    """Return the cells, the heading first: class, IoU, Dice, precision, recall, further metrics, pixels.

    Args:
        confusion: counts of a whole split.
        names: names of the classes.
        metrics: names of `segzoo.metrics.METRICS`, or {name: options}.
    """
    further = figures_by_class(confusion, metrics)
    rows = [["class", "IoU", "Dice", "precision", "recall", *further, "pixels"]]
    for index, row in enumerate(confusion.table(names)):
        figures = [row[key] for key in ("iou", "dice", "precision", "recall")]
        figures += [values[index] for values in further.values()]
        rows.append([row["class"], *map(figure_text, figures), f"{row['pixels']:,}"])
    return rows

"""Precision and recall of classes over all thresholds: a plot, a table and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segzoo.escaping import for_plot
from segzoo.files import replacing
from segzoo.metrics import ProbabilityHistogram
from segzoo.reporting.figure import new_figure
from segzoo.reporting.page import figure_text, plain

_NAMED = 20  # curves in the legend
_EVERY = 10  # thresholds between those that the JSON lists


def precision_recall(histogram: ProbabilityHistogram, thresholds: Mapping[str, float]) -> list[dict[str, Any]]:
    """Return for each class its curve and the point on it that the threshold chooses, as JSON-compatible values.

    Args:
        histogram: probabilities of the classes.
        thresholds: threshold of each class, by name.

    Returns:
        Rows with class, threshold, precision and recall at it, average_precision, and curve: lists of threshold,
        precision and recall; n/a is None.
    """
    cuts, precision, recall = histogram.thresholds, histogram.precision(), histogram.recall()
    average = histogram.average_precision()
    rows = []
    for label, (name, threshold) in enumerate(thresholds.items()):
        at = _index(cuts, threshold)
        shown = slice(_EVERY - 1, None, _EVERY)
        rows.append(
            {
                "class": name,
                "threshold": threshold,
                "precision": plain(precision[label, at]),
                "recall": plain(recall[label, at]),
                "average_precision": plain(average[label]),
                "curve": {
                    "threshold": [float(value) for value in cuts[shown]],
                    "precision": [plain(value) for value in precision[label, shown]],
                    "recall": [plain(value) for value in recall[label, shown]],
                },
            }
        )
    return rows


def table_rows(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the cells of a table of `precision_recall`, the heading first."""
    keys = ("threshold", "precision", "recall", "average_precision")
    heading = ["class", "threshold", "precision there", "recall there", "average precision"]
    return [heading, *([row["class"], *(figure_text(row[key]) for key in keys)] for row in rows)]


def precision_recall_picture(
    histogram: ProbabilityHistogram, thresholds: Mapping[str, float], colours: np.ndarray, path: Path
) -> None:
    """Plot precision over recall, a curve for each class, with a point where its threshold lies.

    Args:
        histogram: probabilities of the classes.
        thresholds: threshold of each class, by name.
        colours: one colour for each of them, 0..255 (C, 3).
        path: the PNG, which is replaced atomically.
    """
    precision, recall, average = histogram.precision(), histogram.recall(), histogram.average_precision()
    figure = new_figure(figsize=(6, 5 + 0.2 * min(_NAMED, len(thresholds))), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for label, (name, threshold) in enumerate(thresholds.items()):
        colour = tuple(float(value) / 255 for value in colours[label])
        text = f"{for_plot(name)} (AP {figure_text(plain(average[label]))}, threshold {threshold:.3g})"
        axes.plot(recall[label], precision[label], color=colour, label=text if label < _NAMED else None)
        at = _index(histogram.thresholds, threshold)
        axes.plot(recall[label, at], precision[label, at], "o", color=colour, markeredgecolor="black")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_title("precision and recall", loc="left", fontsize=11)
    figure.legend(frameon=False, fontsize=9, loc="outside lower left")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")


def _index(cuts: np.ndarray, threshold: float) -> int:
    """Return the place of the threshold nearest to one."""
    return int(np.abs(cuts - threshold).argmin())

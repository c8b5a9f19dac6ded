"""Calibration in reports: the reliability diagram, and the errors of classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segzoo.files import replacing
from segzoo.metrics import Calibration
from segzoo.metrics.confusion import mean_of
from segzoo.reporting.figure import new_figure
from segzoo.reporting.page import figure_text, plain

NOTE = (
    "Error of a class: mean gap between its probability and its share of the pixels, in bins of the probability, over "
    "the pixels of all classes. The mean is the class-wise ECE."
)


def class_rows(calibration: Calibration, names: Sequence[str]) -> list[list[str]]:
    """Return the cells of a table of calibration errors by class, the heading first and the mean last.

    No rows where errors of classes were not counted.
    """
    errors = calibration.class_ece()
    if not errors.size:
        return []
    named = zip([*names, "mean"], [*errors, mean_of(errors)], strict=True)
    return [["class", "calibration error"], *([name, figure_text(float(error))] for name, error in named)]


def calibration_picture(calibration: Calibration, path: Path) -> None:
    """Plot the reliability diagram: accuracy by confidence, and below it the histogram of confidences."""
    confidence, accuracy = calibration.curve()
    figure = new_figure(figsize=(6, 6), dpi=100, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    known = ~np.isnan(accuracy)
    upper.plot([0, 1], [0, 1], color="#999999", linestyle="--", label="perfect calibration")
    upper.plot(confidence[known], accuracy[known], color="#0072b2", marker="o", markersize=4, label="model")
    upper.set_ylim(0, 1.02)
    upper.set_title(f"calibration (ECE {figure_text(plain(calibration.ece()))})", loc="left", fontsize=11)
    upper.set_ylabel("accuracy")
    upper.legend(frameon=False)
    width = 1 / calibration.bins
    share = calibration.counts / max(1, calibration.counts.sum())
    lower.bar((np.arange(calibration.bins) + 0.5) * width, 100 * share, width=0.9 * width, color="#0072b2")
    lower.set_ylabel("% of pixels")
    lower.set_xlabel("confidence")
    lower.set_xlim(0, 1)
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")

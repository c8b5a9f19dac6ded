"""Plots of the training curves of a run, and of several runs in one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segzoo.escaping import for_plot
from segzoo.files import replacing
from segzoo.reporting.figure import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OUTLIER_FACTOR = 5.0
_TRAIN, _VALIDATION, _QUIET = "#0072b2", "#d55e00", "#777777"
# Colours of runs, apart for colour-blind readers too: Okabe and Ito 2008, https://jfly.uni-koeln.de/color/
_RUNS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")


def plot_curves(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plot the loss, the validation mIoU with its best epoch marked, and the learning rate if it is known, as a PNG.

    Args:
        rows: metrics in chronological order, with any of the keys step, epoch, loss, val_loss, val_mean_iou (0..1),
            learning_rate; a value that is missing, None or not finite is not plotted. The horizontal axis is the epoch
            if every row has one, else the step, else the index of the row.
        path: the PNG to write, replaced atomically; its folder is created.
    """
    unit = _unit(rows)

    def points(key: str, scale: float = 1.0) -> tuple[list[float], list[float]]:
        return _points(rows, unit, key, scale)

    # No pyplot, which keeps figures alive and selects a backend for the whole process.
    rate = points("learning_rate")
    figure = new_figure(figsize=(11, 5.4 if rate[0] else 4.2), dpi=110, layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(4, 1)) if rate[0] else figure.add_gridspec(1, 2)

    losses = figure.add_subplot(grid[0, 0])
    _line(losses, *points("loss"), _TRAIN, "train")
    _line(losses, *points("val_loss"), _VALIDATION, "validation")
    _finish(losses, "loss", unit)
    if losses.lines:
        _limit_losses(losses, unit)
        losses.legend(frameon=False)

    scores = figure.add_subplot(grid[0, 1])
    xs, ys = points("val_mean_iou", 100.0)
    _line(scores, xs, ys, _VALIDATION, "validation")
    _finish(scores, "validation mIoU in %", unit)
    if xs:
        scores.set_ylim(0, min(108.0, 1.18 * max(ys) + 1))  # room for the label above the best
        _mark_best(scores, xs, ys, unit)

    if rate[0]:
        rates = figure.add_subplot(grid[1, :])
        _line(rates, *rate, _QUIET, "learning rate")
        _finish(rates, "learning rate", unit)
        rates.set_ylim(0, 1.1 * max(rate[1]) or 1.0)
        rates.yaxis.set_major_formatter("{x:g}")

    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, format="png")


def plot_runs(runs: Mapping[str, Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Plot training loss, validation loss and validation mIoU of several runs, a colour for each, as a PNG.

    Args:
        runs: rows of metrics as `plot_curves` takes, by the name of the run. The horizontal axis is the epoch if every
            row of all runs has one, else the step, else the index of the row.
        path: the PNG to write, replaced atomically; its folder must exist.
    """
    unit = _unit([row for rows in runs.values() for row in rows])
    figure = new_figure(figsize=(15, 4.2 + 0.2 * len(runs)), dpi=110, layout="constrained")
    panels = (
        ("loss", "training loss", 1.0),
        ("val_loss", "validation loss", 1.0),
        ("val_mean_iou", "validation mIoU in %", 100.0),
    )
    named: dict[str, Any] = {}
    for axes, (key, title, scale) in zip(figure.subplots(1, 3), panels, strict=True):
        for index, (name, rows) in enumerate(runs.items()):
            xs, ys = _points(rows, unit, key, scale)
            _line(axes, xs, ys, _RUNS[index % len(_RUNS)], for_plot(name))
            if xs:
                axes.lines[-1].set_linestyle(("-", "--", ":", "-.")[index // len(_RUNS) % 4])
                named.setdefault(name, axes.lines[-1])
        _finish(axes, title, unit)
        if axes.lines and key != "val_mean_iou":
            _limit_losses(axes, unit)
    if named:
        figure.legend(handles=list(named.values()), frameon=False, loc="outside lower left", ncols=3)
    with replacing(Path(path)) as temporary:
        figure.savefig(temporary, format="png")


def _unit(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the name of the horizontal axis: that of the first key that every row has."""
    return next((key for key in ("epoch", "step") if rows and all(key in row for row in rows)), "row")


def _points(
    rows: Sequence[Mapping[str, Any]], unit: str, key: str, scale: float = 1.0
) -> tuple[list[float], list[float]]:
    """Return places and scaled values of a metric in the rows that have it."""
    places = [float(row.get(unit, index)) for index, row in enumerate(rows, 1)]
    found = [(x, scale * float(row[key])) for x, row in zip(places, rows, strict=True) if _is_number(row.get(key))]
    return [x for x, _ in found], [y for _, y in found]


def _line(axes: Axes, xs: list[float], ys: list[float], colour: str, label: str) -> None:
    """Draw a series, with markers if it has few points, so that a single one is visible."""
    if xs:
        axes.plot(xs, ys, color=colour, label=label, linewidth=1.8, marker="o" if len(xs) <= 25 else "", markersize=3.5)


def _finish(axes: Axes, title: str, unit: str) -> None:
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xlabel(unit)
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if not axes.lines:
        axes.text(0.5, 0.5, "no figures yet", transform=axes.transAxes, ha="center", va="center", color=_QUIET)
        axes.set_xticks([])
        axes.set_yticks([])
    elif axes.dataLim.width:
        axes.set_xlim(axes.dataLim.x0 - 0.03 * axes.dataLim.width, axes.dataLim.x1 + 0.03 * axes.dataLim.width)
    else:
        axes.set_xlim(axes.dataLim.x0 - 1, axes.dataLim.x0 + 1)


def _limit_losses(axes: Axes, unit: str) -> None:
    """Set the limits of the loss axis; outliers, such as that of a first epoch, are outside and noted in the title.

    An outlier is more than `_OUTLIER_FACTOR` times the upper quartile: with it, the other points would look flat.
    """
    points = [(y, x) for line in axes.lines for x, y in np.asarray(line.get_xydata(), float).tolist()]
    values = sorted(y for y, _ in points)
    quartile = values[3 * (len(values) - 1) // 4]
    outside = [point for point in points if quartile > 0 and point[0] > _OUTLIER_FACTOR * quartile]
    top = max(y for y in values if not outside or y <= _OUTLIER_FACTOR * quartile)
    axes.set_ylim(min(0.0, 1.05 * values[0]), top + 0.05 * abs(top) or 1.0)
    if not outside:
        return
    highest, place = max(outside)
    what = f"{highest:.3g} at {unit} {place:g}" if len(outside) == 1 else f"{len(outside)} points, up to {highest:.3g}"
    axes.set_title(f"outside: {what}", loc="right", fontsize=9, color=_QUIET)


def _mark_best(axes: Axes, xs: list[float], ys: list[float], unit: str) -> None:
    """Mark the highest point, the first of several equal ones, and annotate it with its value."""
    best = ys.index(max(ys))
    axes.plot(xs[best], ys[best], marker="o", markersize=8, color="none", markeredgecolor="black", markeredgewidth=1.6)
    to_the_left = len(xs) > 1 and xs[best] > (xs[0] + xs[-1]) / 2
    axes.annotate(
        f"best {ys[best]:.1f} % ({unit} {xs[best]:g})",
        (xs[best], ys[best]),
        xytext=(0, 10),
        textcoords="offset points",
        ha="right" if to_the_left else "left",
        fontsize=10,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)

"""The report of an evaluation: JSON for programs, Markdown for a merge request, an HTML page with pictures to read."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from segzoo.files import replacing
from segzoo.inference.pictures import prediction_sheet
from segzoo.metrics import Calibration, ConfusionMatrix, Intervals, MultilabelCounts

_FIGURES = ("iou", "dice", "precision", "recall", "specificity")


@dataclass(frozen=True)
class Report:
    """What a report is written from.

    Attributes:
        title: one line that says what was evaluated.
        names: the classes' names.
        colours: one colour per class, 0..255 (C, 3).
        confusion: counts of pixels over all samples.
        intervals: 95 % intervals of the figures over the samples.
        calibration: confidence and accuracy of all pixels.
        worst: (image, truth, prediction, title) of the worst samples.
        samples: number of samples.
        loss: mean loss, or None.
    """

    title: str
    names: Sequence[str]
    colours: np.ndarray
    confusion: ConfusionMatrix | MultilabelCounts
    intervals: Intervals
    calibration: Calibration
    worst: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, str]]
    samples: int
    loss: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return all figures as plain values; n/a is None."""
        rows = self.confusion.table(self.names)
        specificity = self.confusion.specificity()
        confidence, accuracy = self.calibration.curve()
        for index, row in enumerate(rows):
            row["specificity"] = _plain(specificity[index])
            row["iou_interval"] = [_plain(end) for end in self.intervals.iou[index]]
        return {
            "title": self.title,
            "samples": self.samples,
            "loss": self.loss,
            "mean_iou": _plain(self.confusion.mean_iou()),
            "mean_iou_interval": [_plain(end) for end in self.intervals.mean_iou],
            "pixel_accuracy": _plain(self.confusion.pixel_accuracy()),
            "pixel_accuracy_interval": [_plain(end) for end in self.intervals.pixel_accuracy],
            "mean_accuracy": _plain(self.confusion.mean_accuracy()),
            "frequency_weighted_iou": _plain(self.confusion.frequency_weighted_iou()),
            "mcc": _plain(_mean(self.confusion.mcc())),
            "cohen_kappa": _plain(_mean(self.confusion.cohen_kappa())),
            "expected_calibration_error": _plain(self.calibration.ece()),
            "classes": rows,
            "confusion_matrix": self.confusion.counts.tolist(),
            "calibration": {
                "confidence": [_plain(value) for value in confidence],
                "accuracy": [_plain(value) for value in accuracy],
                "pixels": self.calibration.counts.tolist(),
            },
            "worst": [title for *_, title in self.worst],
        }

    def write(self, folder: Path) -> Path:
        """Write report.json, report.md, index.html and the pictures into `folder`; returns the page's path.

        Each file is replaced as a whole; the page comes last, so it never shows a picture that is not there.
        """
        folder.mkdir(parents=True, exist_ok=True)
        figures = self.as_json()
        _confusion_picture(self.confusion, self.names, folder / "confusion.png")
        _calibration_picture(self.calibration, folder / "calibration.png")
        if self.worst:
            sheet = folder / "worst.png"
            prediction_sheet(self.worst, self.names, self.colours, self.confusion.ignore_index, sheet)
        page = folder / "index.html"
        for path, text in (
            (folder / "report.json", json.dumps(figures, indent=2, allow_nan=False) + "\n"),
            (folder / "report.md", _markdown(figures)),
            (page, _page(figures)),
        ):
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return page


def _mean(figure: float | np.ndarray) -> float:
    """Return a figure, or of one for each class the mean of those that are known."""
    known = np.atleast_1d(figure)[~np.isnan(np.atleast_1d(figure))]
    return float(known.mean()) if known.size else math.nan


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _text(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.4f}"


def _between(ends: Sequence[float | None]) -> str:
    return "n/a" if None in ends else f"{ends[0]:.4f} to {ends[1]:.4f}"


def _summary(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Name and text of the figures of the whole data set."""
    return [
        ("mean IoU", f"{_text(figures['mean_iou'])} (95 % interval {_between(figures['mean_iou_interval'])})"),
        (
            "pixel accuracy",
            f"{_text(figures['pixel_accuracy'])} (95 % interval {_between(figures['pixel_accuracy_interval'])})",
        ),
        ("mean accuracy", _text(figures["mean_accuracy"])),
        ("frequency-weighted IoU", _text(figures["frequency_weighted_iou"])),
        ("Matthews correlation", _text(figures["mcc"])),
        ("Cohen's kappa", _text(figures["cohen_kappa"])),
        ("expected calibration error", _text(figures["expected_calibration_error"])),
        ("loss", _text(figures["loss"])),
    ]


def _rows(figures: dict[str, Any]) -> list[list[str]]:
    """Cells of the table of classes, the heading first."""
    heading = ["class", "IoU", "95 % interval", "Dice", "precision", "recall", "specificity", "pixels"]
    rows = [heading]
    for row in figures["classes"]:
        first, *rest = (_text(row[key]) for key in _FIGURES)
        rows.append([row["class"], first, _between(row["iou_interval"]), *rest, f"{row['pixels']:,}"])
    return rows


def _remark(figures: dict[str, Any]) -> str:
    absent = [row["class"] for row in figures["classes"] if row["iou"] is None]
    left_out = f" Not in target or prediction, so n/a and left out of the mean: {', '.join(absent)}." if absent else ""
    return (
        f"{figures['samples']} samples. Intervals: bootstrap over samples, 1,000 resamples. n/a: no pixel that the "
        f"figure could be about.{left_out}"
    )


def _markdown(figures: dict[str, Any]) -> str:
    heading, *rows = ([cell.replace("|", "\\|") for cell in row] for row in _rows(figures))
    lines = [f"# {figures['title']}", "", _remark(figures), "", "| Figure | Value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in _summary(figures)]
    lines += ["", f"| {' | '.join(heading)} |", "|---" + "|---:" * (len(heading) - 1) + "|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", "![Confusion matrix](confusion.png)", "", "![Calibration](calibration.png)", ""]
    if figures["worst"]:
        lines += ["![The worst samples](worst.png)", ""]
    return "\n".join(lines)


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1280px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; } th, td { padding: .25em .8em; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; } th { border-bottom: 2px solid #888; }
img { max-width: 100%; } .scroll { overflow-x: auto; } .quiet { color: #666; }
"""


def _page(figures: dict[str, Any]) -> str:
    def table(rows: Sequence[Sequence[str]], headed: bool) -> str:
        lines = []
        for index, row in enumerate(rows):
            kind = "th" if headed and index == 0 else "td"
            lines.append("<tr>" + "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in row) + "</tr>")
        return '<div class="scroll"><table>' + "\n".join(lines) + "</table></div>"

    title = html.escape(figures["title"])
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head><body>',
        f'<h1>{title}</h1><p class="quiet">{html.escape(_remark(figures))}</p>',
        table(_summary(figures), headed=False),
        "<h2>Classes</h2>",
        table(_rows(figures), headed=True),
        "<h2>What is taken for what</h2>",
        '<p class="quiet">Each row is a class of the target and adds up to 100 % of its pixels.</p>',
        '<img src="confusion.png" alt="Confusion matrix, normalised by row">',
        "<h2>Is it as sure as it is right?</h2>",
        '<img src="calibration.png" alt="Accuracy by confidence">',
    ]
    if figures["worst"]:
        parts += [
            f"<h2>The {len(figures['worst'])} samples of lowest mean IoU</h2>",
            '<img src="worst.png" alt="Image, truth, prediction and errors of the worst samples">',
        ]
    return "\n".join([*parts, "</body></html>", ""])


def _confusion_picture(confusion: ConfusionMatrix | MultilabelCounts, names: Sequence[str], path: Path) -> None:
    """Write the matrix normalised by row, with its percentages where they can be read.

    Classes that may overlap have no such matrix: each row then says where the class is predicted, of the places where
    it is and where it is not.
    """
    columns: Sequence[str] = names
    if isinstance(confusion, MultilabelCounts):
        columns = ["where it is", "where it is not"]
        counts = confusion.counts[:, ::-1, 1].astype(float)
        totals = confusion.counts[:, ::-1].sum(2)
    else:
        counts = confusion.counts.astype(float)
        totals = np.broadcast_to(counts.sum(1, keepdims=True), counts.shape)
    shares = np.divide(100 * counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    classes = len(names)
    side = min(24.0, 2.5 + 0.5 * classes)
    figure = Figure(figsize=(side + 1, side), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(columns)), columns, rotation=90)
    axes.set_yticks(range(classes), names)
    axes.set_xlabel("prediction")
    axes.set_ylabel("target")
    if classes <= 40:
        for row, column in zip(*np.nonzero(shares >= 0.5), strict=True):
            ink = "white" if shares[row, column] > 55 else "black"
            axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", color=ink, fontsize=8)
    figure.colorbar(image, label="% of the target's pixels", shrink=0.8)
    _save(figure, path)


def _calibration_picture(calibration: Calibration, path: Path) -> None:
    """Write accuracy by confidence, and below how many pixels there are of each confidence."""
    confidence, accuracy = calibration.curve()
    figure = Figure(figsize=(6, 6), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    known = ~np.isnan(accuracy)
    upper.plot([0, 1], [0, 1], color="#999999", linestyle="--", label="as sure as right")
    upper.plot(confidence[known], accuracy[known], color="#0072b2", marker="o", markersize=4, label="model")
    upper.set_ylim(0, 1.02)
    upper.set_title(f"calibration (ECE {_text(_plain(calibration.ece()))})", loc="left", fontsize=11)
    upper.set_ylabel("accuracy")
    upper.legend(frameon=False)
    width = 1 / calibration.bins
    share = calibration.counts / max(1, calibration.counts.sum())
    lower.bar((np.arange(calibration.bins) + 0.5) * width, 100 * share, width=0.9 * width, color="#0072b2")
    lower.set_ylabel("% of pixels")
    lower.set_xlabel("confidence")
    lower.set_xlim(0, 1)
    for axes in (upper, lower):
        _quiet(axes)
    _save(figure, path)


def _quiet(axes: Axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")

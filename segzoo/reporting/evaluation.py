"""Evaluation report: JSON for programs, Markdown for merge requests, an HTML page with pictures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segzoo.escaping import for_markdown, for_plot
from segzoo.files import make_folder, replacing
from segzoo.metrics import (
    Calibration,
    ConfusionMatrix,
    ImageCounts,
    Intervals,
    MultilabelCounts,
    ProbabilityHistogram,
    figures_by_class,
)
from segzoo.metrics.confusion import mean_of
from segzoo.reporting import calibration as calibration_section
from segzoo.reporting.figure import new_figure
from segzoo.reporting.image_table import write_image_table
from segzoo.reporting.page import (
    figure_text,
    heading,
    html_table,
    link,
    markdown_table,
    page,
    picture,
    plain,
    quiet,
)
from segzoo.reporting.pictures import prediction_sheet
from segzoo.reporting.precision_recall import precision_recall, precision_recall_picture, table_rows

_IMAGES = "images.csv"
_FIGURES = ("iou", "dice", "precision", "recall", "specificity")


@dataclass(frozen=True)
class Report:
    """Contents of an evaluation report.

    Attributes:
        title: title of the report, one line.
        names: the classes' names.
        colours: one colour per class, 0..255 (C, 3).
        confusion: counts of pixels over all samples.
        intervals: 95 % bootstrap intervals of the metrics over the samples.
        calibration: confidence and accuracy of all pixels.
        worst: (image, ground truth, prediction, title) of the samples of lowest mean IoU.
        samples: number of samples.
        images: pixel counts of each sample, for the CSV; none: no CSV.
        loss: mean loss, or None.
        background: class that pictures and the foreground mean leave out, or None.
        metrics: further metrics of the table by class.
        thresholds: probabilities above which classes were predicted, by name; empty where the largest logit decided.
        thresholds_from: origin of the thresholds, in words.
        probabilities: probabilities of the classes that have a threshold, or None.
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
    background: int | None = None
    metrics: Sequence[Any] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    thresholds_from: str = ""
    probabilities: ProbabilityHistogram | None = None
    images: Sequence[ImageCounts] = ()

    def as_json(self) -> dict[str, Any]:
        """Return all metrics as JSON-compatible values; n/a is None."""
        rows = self.confusion.table(self.names)
        specificity = self.confusion.specificity()
        further = figures_by_class(self.confusion, self.metrics)
        confidence, accuracy = self.calibration.curve()
        class_errors = self.calibration.class_ece()
        foreground = {}
        if self.background is not None:
            foreground["foreground_mean_iou"] = plain(self.confusion.foreground_mean_iou(self.background))
        for index, row in enumerate(rows):
            row["specificity"] = plain(specificity[index])
            row["metrics"] = {heading: plain(values[index]) for heading, values in further.items()}
            row["iou_interval"] = [plain(end) for end in self.intervals.iou[index]]
            if class_errors.size:
                row["calibration_error"] = plain(class_errors[index])
        return {
            "title": self.title,
            "samples": self.samples,
            "loss": self.loss,
            "mean_iou": plain(self.confusion.mean_iou()),
            "mean_iou_interval": [plain(end) for end in self.intervals.mean_iou],
            **foreground,
            "pixel_accuracy": plain(self.confusion.pixel_accuracy()),
            "pixel_accuracy_interval": [plain(end) for end in self.intervals.pixel_accuracy],
            "mean_accuracy": plain(self.confusion.mean_accuracy()),
            "frequency_weighted_iou": plain(self.confusion.frequency_weighted_iou()),
            "mcc": plain(mean_of(self.confusion.mcc())),
            "cohen_kappa": plain(mean_of(self.confusion.cohen_kappa())),
            "expected_calibration_error": plain(self.calibration.ece()),
            "class_wise_calibration_error": plain(mean_of(class_errors)) if class_errors.size else None,
            "classes": rows,
            "confusion_matrix": self.confusion.counts.tolist(),
            "calibration": {
                "confidence": [plain(value) for value in confidence],
                "accuracy": [plain(value) for value in accuracy],
                "pixels": self.calibration.counts.tolist(),
            },
            "thresholds": {"values": dict(self.thresholds), "from": self.thresholds_from} if self.thresholds else None,
            "precision_recall": (
                None if self.probabilities is None else precision_recall(self.probabilities, self.thresholds)
            ),
            "worst": [title for *_, title in self.worst],
        }

    def write(self, folder: Path) -> Path:
        """Write report.json, report.md, index.html, images.csv and the pictures into `folder`; returns the page's path.

        Each file is replaced atomically; the page is written last, so that the pictures it refers to exist.
        """
        make_folder(folder)
        figures = self.as_json()
        confusion_picture(self.confusion, self.names, folder / "confusion.png")
        calibration_section.calibration_picture(self.calibration, folder / "calibration.png")
        if self.images:
            write_image_table(self.images, self.names, folder / _IMAGES)
        if self.probabilities is not None:
            colours = self.colours[len(self.names) - len(self.thresholds) :]
            picture_path = folder / "precision_recall.png"
            precision_recall_picture(self.probabilities, self.thresholds, colours, picture_path)
        if self.worst:
            sheet = folder / "worst.png"
            ignored = self.confusion.ignore_index
            prediction_sheet(self.worst, self.names, self.colours, ignored, sheet, self.background)
        index = folder / "index.html"
        for path, text in (
            (folder / "report.json", json.dumps(figures, indent=2, allow_nan=False) + "\n"),
            (folder / "report.md", self._markdown(figures)),
            (index, self._page(figures)),
        ):
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return index

    def _markdown(self, figures: dict[str, Any]) -> str:
        lines = [f"# {for_markdown(figures['title'])}", "", for_markdown(_remark(figures)), ""]
        lines += [*markdown_table([("Metric", "Value"), *_summary(figures)]), ""]
        lines += [*markdown_table(_rows(figures)), ""]
        lines += ["![Confusion matrix](confusion.png)", "", "![Calibration](calibration.png)", ""]
        if rows := calibration_section.class_rows(self.calibration, self.names):
            lines += [*markdown_table(rows), ""]
        if self.images:
            lines += [f"[Metrics of each image]({_IMAGES})", ""]
        if figures["precision_recall"]:
            lines += [*markdown_table(table_rows(figures["precision_recall"])), ""]
            lines += ["![Precision and recall](precision_recall.png)", ""]
        if figures["worst"]:
            lines += ["![Samples of lowest mean IoU](worst.png)", ""]
        return "\n".join(lines)

    def _page(self, figures: dict[str, Any]) -> str:
        parts = [
            quiet(_remark(figures)),
            html_table(_summary(figures), headed=False),
            *([link(_IMAGES, "Metrics of each image (CSV)")] if self.images else []),
            heading("Classes"),
            html_table(_rows(figures)),
            heading("Confusion matrix"),
            quiet(confusion_note(self.confusion)),
            picture("confusion.png", "Confusion matrix, normalised by row"),
            heading("Calibration"),
            picture("calibration.png", "Accuracy by confidence"),
        ]
        if rows := calibration_section.class_rows(self.calibration, self.names):
            parts += [quiet(calibration_section.NOTE), html_table(rows, footed=True)]
        if figures["precision_recall"]:
            parts += [
                heading("Precision and recall"),
                html_table(table_rows(figures["precision_recall"])),
                picture("precision_recall.png", "Precision over recall of each class, with the threshold in use"),
            ]
        if figures["worst"]:
            parts += [
                heading(f"{len(figures['worst'])} samples of lowest mean IoU"),
                picture("worst.png", "Image, ground truth, prediction and errors of the samples of lowest mean IoU"),
            ]
        return page(figures["title"], parts)


def _between(ends: Sequence[float | None]) -> str:
    return "n/a" if None in ends else f"{ends[0]:.4f} to {ends[1]:.4f}"


def _summary(figures: dict[str, Any]) -> list[tuple[str, str]]:
    """Return name and text of each metric of the whole data set."""
    return [
        ("mean IoU", f"{figure_text(figures['mean_iou'])} (95 % interval {_between(figures['mean_iou_interval'])})"),
        *(
            [("foreground mean IoU", figure_text(figures["foreground_mean_iou"]))]
            if "foreground_mean_iou" in figures
            else []
        ),
        (
            "pixel accuracy",
            f"{figure_text(figures['pixel_accuracy'])} (95 % interval {_between(figures['pixel_accuracy_interval'])})",
        ),
        ("mean accuracy", figure_text(figures["mean_accuracy"])),
        ("frequency-weighted IoU", figure_text(figures["frequency_weighted_iou"])),
        ("Matthews correlation", figure_text(figures["mcc"])),
        ("Cohen's kappa", figure_text(figures["cohen_kappa"])),
        ("expected calibration error", figure_text(figures["expected_calibration_error"])),
        *(
            [("class-wise calibration error", figure_text(figures["class_wise_calibration_error"]))]
            if figures["class_wise_calibration_error"] is not None
            else []
        ),
        ("loss", figure_text(figures["loss"])),
        *([("thresholds", figures["thresholds"]["from"])] if figures["thresholds"] else []),
    ]


def _rows(figures: dict[str, Any]) -> list[list[str]]:
    """Return the cells of the table of classes, the heading first."""
    further = list(figures["classes"][0]["metrics"])
    rows = [["class", "IoU", "95 % interval", "Dice", "precision", "recall", "specificity", *further, "pixels"]]
    for row in figures["classes"]:
        first, *rest = (figure_text(row[key]) for key in _FIGURES)
        rest += map(figure_text, row["metrics"].values())
        rows.append([row["class"], first, _between(row["iou_interval"]), *rest, f"{row['pixels']:,}"])
    return rows


def _remark(figures: dict[str, Any]) -> str:
    return f"{figures['samples']} samples. Intervals: bootstrap over samples, 1,000 resamples. {na(figures['classes'])}"


def na(rows: Sequence[dict[str, Any]]) -> str:
    """Explain n/a, and list the classes of a table (`ConfusionMatrix.table`) that the mean IoU excludes."""
    absent = [row["class"] for row in rows if row["iou"] is None]
    left_out = (
        f" Absent from target and prediction, hence n/a and left out of the mean: {', '.join(absent)}."
        if absent
        else ""
    )
    return f"n/a: undefined, because no pixel contributes to the metric.{left_out}"


def confusion_note(confusion: ConfusionMatrix | MultilabelCounts) -> str:
    """Explain the rows of the plot of the confusion matrix."""
    if isinstance(confusion, MultilabelCounts):
        return "For each class: the fraction of its positive and of its negative pixels that is predicted as positive."
    return "Rows are target classes; each row sums to 100 % of the pixels of its class."


def confusion_picture(confusion: ConfusionMatrix | MultilabelCounts, names: Sequence[str], path: Path) -> None:
    """Plot the confusion matrix normalised by row, with percentages unless there are too many classes.

    Overlapping (multilabel) classes have no such matrix: each row then shows how often the class is predicted where it
    is present, and where it is absent.
    """
    columns: Sequence[str] = names
    if isinstance(confusion, MultilabelCounts):
        columns = ["class present", "class absent"]
        counts = confusion.counts[:, ::-1, 1].astype(float)
        totals = confusion.counts[:, ::-1].sum(2)
    else:
        counts = confusion.counts.astype(float)
        totals = np.broadcast_to(counts.sum(1, keepdims=True), counts.shape)
    shares = np.divide(100 * counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    classes = len(names)
    side = min(24.0, 2.5 + 0.5 * classes)
    figure = new_figure(figsize=(side + 1, side), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(columns)), [for_plot(name) for name in columns], rotation=90)
    axes.set_yticks(range(classes), [for_plot(name) for name in names])
    axes.set_xlabel("prediction")
    axes.set_ylabel("target")
    if classes <= 40:
        for row, column in zip(*np.nonzero(shares >= 0.5), strict=True):
            ink = "white" if shares[row, column] > 55 else "black"
            axes.text(column, row, f"{shares[row, column]:.0f}", ha="center", va="center", color=ink, fontsize=8)
    figure.colorbar(image, label="% of the target class's pixels", shrink=0.8)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png")

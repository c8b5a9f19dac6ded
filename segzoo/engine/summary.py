"""Summary of a finished run: a Markdown file for merge requests, and a self-contained HTML page."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segzoo.config import Config
from segzoo.engine.checkpoint.run_folder import RunFolder
from segzoo.engine.monitor import Monitor
from segzoo.engine.population import Comparison
from segzoo.escaping import fenced, for_markdown
from segzoo.files import replacing
from segzoo.metrics import ConfusionMatrix, MultilabelCounts
from segzoo.metrics.confusion import mean_of
from segzoo.progress import duration
from segzoo.reporting.class_table import class_cells
from segzoo.reporting.evaluation import confusion_note, confusion_picture, na
from segzoo.reporting.page import (
    embedded,
    figure_text,
    heading,
    html_table,
    markdown_table,
    page,
    picture,
    preformatted,
    quiet,
)
from segzoo.reporting.time_table import HEADING, TimeTable

# Pictures in the folder figures/, in the order of the page: file, heading, alternative text, note.
_PICTURES = (
    ("curves", "Training curves", "Loss, validation mIoU and learning rate over the epochs", ""),
    (
        "confusion",
        "Confusion matrix",
        "Confusion matrix, normalised by row",
        "",  # `confusion_note`
    ),
    ("worst", "Samples of lowest mean IoU", "Image, ground truth, prediction and errors of these samples", ""),
    ("predictions", "Samples across the split", "Image, ground truth, prediction and errors of these samples", ""),
)


def write_summary(
    config: Config,
    folder: RunFolder,
    history: Sequence[Mapping[str, Any]],
    confusion: ConfusionMatrix | MultilabelCounts,
    best_epoch: int,
    compared: Comparison | None,
    automatic: Mapping[str, float],
) -> None:
    """Write summary.md, and then the page, from the metrics of the run and the files in its folder.

    Args:
        config: the resolved configuration.
        folder: the run folder, with its pictures, config.yaml and environment.json.
        history: one row of metrics per epoch.
        confusion: counts of the validation split at the best epoch.
        best_epoch: number of the best epoch, counted from 1.
        compared: validation mIoU of the last epoch with both kinds of statistics of batch normalisation, or None.
        automatic: values of settings that the configuration leaves open, by their keys.
    """
    names = list(config.task.classes)
    confusion_picture(confusion, names, folder.figures / "confusion.png")
    title = f"{folder.path.resolve().name}: {config.model.decoder} on {config.model.backbone}"
    table = confusion.table(names)
    classes = class_cells(confusion, names, config.output.metrics)
    remark = (
        f"Validation split at epoch {best_epoch} of {len(history)}, the best by {Monitor.of(config).label}. {na(table)}"
    )
    if compared is not None and compared.note:
        remark = f"{remark} {compared.note}"
    figures = [*_figures(confusion, history, best_epoch), *_statistics(config, compared)]
    figures += [(key, f"{value:.4g} (automatic)") for key, value in automatic.items()]
    environment = _environment(folder.environment)
    given = folder.config.read_text(encoding="utf-8")
    pictures = [
        (folder.figures / f"{name}.png", shown, alt, confusion_note(confusion) if name == "confusion" else said)
        for name, shown, alt, said in _PICTURES
        if (folder.figures / f"{name}.png").is_file()
    ]

    lines = [
        f"# {for_markdown(title)}",
        "",
        for_markdown(remark),
        "",
        *markdown_table([("Metric", "Value"), *figures]),
        "",
    ]
    lines += ["## Classes", "", *markdown_table(classes), ""]
    for path, name, alt, said in pictures:
        lines += [f"## {name}", "", *([said, ""] if said else []), f"![{alt}](figures/{path.name})", ""]
    times = _times(folder.profile)
    for title, rows in times:
        lines += [f"## {title}", "", *markdown_table(rows), ""]
    lines += ["## Configuration", "", *fenced(given, "yaml"), ""]
    lines += ["## Environment", "", *markdown_table([("Name", "Value"), *environment], words=True), ""]

    parts = [quiet(remark), html_table(figures, headed=False), heading("Classes"), html_table(classes)]
    for path, name, alt, said in pictures:
        parts += [heading(name), *([quiet(said)] if said else []), picture(embedded(path.read_bytes()), alt)]
    for title, rows in times:
        parts += [heading(title), html_table(rows)]
    parts += [heading("Configuration"), preformatted(given)]
    parts += [heading("Environment"), html_table(environment, headed=False, words=True)]
    for path, text in ((folder.summary.with_suffix(".md"), "\n".join(lines)), (folder.summary, page(title, parts))):
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _figures(
    confusion: ConfusionMatrix | MultilabelCounts, history: Sequence[Mapping[str, Any]], best_epoch: int
) -> list[tuple[str, str]]:
    """Return name and text of each metric of the whole run."""
    best = history[best_epoch - 1]
    seconds = sum(row["seconds"] + row.get("val_seconds", 0.0) for row in history)
    speeds = [row["images_per_second"] for row in history if row["images_per_second"] is not None]
    speed = f"{statistics.median(speeds):.1f}" if speeds else "not measured: no epoch has two or more steps"
    return [
        ("mean IoU", figure_text(confusion.mean_iou())),
        ("pixel accuracy", figure_text(confusion.pixel_accuracy())),
        ("mean accuracy", figure_text(confusion.mean_accuracy())),
        ("frequency-weighted IoU", figure_text(confusion.frequency_weighted_iou())),
        ("Matthews correlation", figure_text(mean_of(confusion.mcc()))),
        ("Cohen's kappa", figure_text(mean_of(confusion.cohen_kappa()))),
        ("training loss", figure_text(best["loss"])),
        ("validation loss", figure_text(best["val_loss"])),
        ("epochs", f"{len(history)}"),
        ("steps", f"{history[-1]['step']:,}"),
        ("training and evaluation time", duration(seconds)),
        ("training images/s, median over epochs", speed),
    ]


def _statistics(config: Config, compared: Comparison | None) -> list[tuple[str, str]]:
    """Return which statistics of batch normalisation the run uses, and what the other kind would give."""
    is_population = config.training.uses_population_statistics
    rows = [("batch-normalisation statistics", "population" if is_population else "moving averages")]
    if compared is not None:
        other, value = "population statistics", compared.population
        if is_population:
            other, value = "moving averages", compared.moving
        rows.append((f"mean IoU of the last epoch with {other}", figure_text(value)))
    return rows


def _times(path: Path) -> list[tuple[str, list[Sequence[str]]]]:
    """Return the sections of the profile of the loop, each with its table; none where it was not profiled."""
    if not path.is_file():
        return []
    table = TimeTable(**json.loads(path.read_text(encoding="utf-8")))
    return [(title, [HEADING, *rows]) for title, rows in table.sections()]


def _environment(path: Path) -> list[tuple[str, str]]:
    """Return name and text of the entries of environment.json; packages are listed by their own names."""
    rows: list[tuple[str, str]] = []
    for key, value in json.loads(path.read_text(encoding="utf-8")).items():
        name = key.replace("_", " ")
        if isinstance(value, dict):
            rows += [(inner if key == "packages" else f"{name}, {inner}", str(of)) for inner, of in value.items()]
        elif isinstance(value, list):
            rows.append((name, " ".join(map(str, value))))
        else:
            rows.append((name, "unknown" if value is None else str(value)))
    return rows

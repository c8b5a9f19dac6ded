"""Comparison report: IoU of several models on the same images, and the differences to the first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segzoo.escaping import for_markdown
from segzoo.files import make_folder, replacing
from segzoo.metrics import ConfusionMatrix, Difference, Differences, Intervals, MultilabelCounts
from segzoo.reporting.curves import plot_runs
from segzoo.reporting.page import figure_text, heading, html_table, markdown_table, page, picture, plain, quiet

_MEAN = "mean IoU"
_CURVES = "curves.png"
_IOU_NOTE = "IoU with the 95 % interval of the bootstrap over images, 1,000 resamples."
_CURVES_NOTE = "Losses compare only where the runs have the same loss and the same data."
_DIFFERENCES_NOTE = (
    "IoU minus that of {first}, with the 95 % interval of the paired bootstrap: each of 1,000 resamples draws the same "
    "images for both. p is twice the share of resamples on the other side of 0; with many classes some are small by "
    "chance."
)


@dataclass(frozen=True)
class Compared:
    """Metrics of one of the models of a comparison.

    Attributes:
        name: its name, which no other model of the comparison has.
        title: one line that says what was evaluated.
        confusion: counts of pixels over all images.
        intervals: 95 % bootstrap intervals over the images.
        history: rows of metrics of its training, as `plot_curves` takes; none where there is no log.
        settings: its configuration, values by dotted key; None for a model that has none.
        automatic: values of settings that the configuration leaves open; None: not known.
    """

    name: str
    title: str
    confusion: ConfusionMatrix | MultilabelCounts
    intervals: Intervals
    history: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] | None = None
    automatic: Mapping[str, float] | None = None


@dataclass(frozen=True)
class ComparisonReport:
    """Contents of a comparison report.

    Attributes:
        title: title of the report, one line.
        class_names: names of the classes.
        models: two or more models, the first of which the others are compared with.
        differences: differences of each other model to the first.
        samples: number of images.
    """

    title: str
    class_names: Sequence[str]
    models: Sequence[Compared]
    differences: Sequence[Differences]
    samples: int

    def iou_rows(self) -> list[list[str]]:
        """Return the cells of the table of IoU by class and model, the heading first and the mean last."""
        columns = []
        for model in self.models:
            values = [*model.confusion.iou(), model.confusion.mean_iou()]
            ends = [*model.intervals.iou, model.intervals.mean_iou]
            columns.append([_with_interval(value, *end) for value, end in zip(values, ends, strict=True)])
        return self._table([model.name for model in self.models], columns)

    def difference_rows(self) -> list[list[str]]:
        """Return the cells of the table of differences to the first model, the heading first and the mean last."""
        headings, columns = [], []
        for model, found in zip(self.models[1:], self.differences, strict=True):
            each = [*found.iou, found.mean_iou]
            headings += [model.name, "p"]
            columns += [[_signed(difference) for difference in each], [figure_text(d.p) for d in each]]
        return self._table(headings, columns)

    def setting_rows(self) -> list[list[str]]:
        """Return the cells of the table of configuration keys whose values differ; no rows where none does."""
        models = [model for model in self.models if model.settings is not None]
        # "auto" can be the same as a number, and in a run of another length it is not the same.
        is_known = all(model.automatic is not None for model in models)
        extra = [(model.automatic if is_known else None) or {} for model in models]
        found = differing([{**(model.settings or {}), **more} for model, more in zip(models, extra, strict=True)])
        return [["key", *(model.name for model in models)], *([key, *values] for key, values in found)] if found else []

    def as_json(self) -> dict[str, Any]:
        """Return all metrics as JSON-compatible values; n/a is None."""
        models: list[dict[str, Any]] = [
            {
                "name": model.name,
                "title": model.title,
                "mean_iou": plain(model.confusion.mean_iou()),
                "mean_iou_interval": [plain(end) for end in model.intervals.mean_iou],
                "classes": [
                    {"class": name, "iou": plain(value), "iou_interval": [plain(end) for end in ends]}
                    for name, value, ends in zip(
                        self.class_names, model.confusion.iou(), model.intervals.iou, strict=True
                    )
                ],
            }
            for model in self.models
        ]
        for model, found in zip(models[1:], self.differences, strict=True):
            model["difference"] = {
                "to": self.models[0].name,
                "mean_iou": _json_of(found.mean_iou),
                "classes": {name: _json_of(each) for name, each in zip(self.class_names, found.iou, strict=True)},
            }
        heading, *rows = self.setting_rows() or [[]]
        settings = [dict(zip(heading, row, strict=True)) for row in rows]
        return {"title": self.title, "samples": self.samples, "models": models, "settings": settings}

    def write(self, folder: Path) -> Path:
        """Write report.json, report.md, index.html and the plot of training curves; return the page's path.

        Each file is replaced atomically; the page is written last, so that the picture it refers to exists.
        """
        make_folder(folder)
        histories = {model.name: model.history for model in self.models if model.history}
        if histories:
            plot_runs(histories, folder / _CURVES)
        index = folder / "index.html"
        for path, text in (
            (folder / "report.json", json.dumps(self.as_json(), indent=2, allow_nan=False) + "\n"),
            (folder / "report.md", self._markdown(bool(histories))),
            (index, self._page(bool(histories))),
        ):
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return index

    def _table(self, headings: Sequence[str], columns: Sequence[Sequence[str]]) -> list[list[str]]:
        names = [*self.class_names, _MEAN]
        return [["class", *headings], *([name, *cells] for name, *cells in zip(names, *columns, strict=True))]

    def _sections(self) -> list[tuple[str, str, list[list[str]], bool]]:
        """Return heading, note, cells of the table, and whether these are words, of each section with a table."""
        models = [["name", "model"], *([model.name, model.title] for model in self.models)]
        sections = [
            ("Models", f"{self.samples} images.", models, True),
            ("IoU", _IOU_NOTE, self.iou_rows(), False),
            ("Differences", _DIFFERENCES_NOTE.format(first=self.models[0].name), self.difference_rows(), False),
        ]
        rows = self.setting_rows()
        if rows:
            sections.append(("Configurations", "Keys whose values differ.", rows, True))
        return sections

    def _markdown(self, curves: bool) -> str:
        lines = [f"# {for_markdown(self.title)}", ""]
        for name, note, rows, words in self._sections():
            lines += [f"## {name}", "", for_markdown(note), "", *markdown_table(rows, words), ""]
        if curves:
            lines += ["## Training curves", "", _CURVES_NOTE, "", f"![Training curves]({_CURVES})", ""]
        return "\n".join(lines)

    def _page(self, curves: bool) -> str:
        parts = []
        for name, note, rows, words in self._sections():
            parts += [heading(name), quiet(note), html_table(rows, words=words, footed=not words)]
        if curves:
            parts += [
                heading("Training curves"),
                quiet(_CURVES_NOTE),
                picture(_CURVES, "Losses and validation mIoU of the runs"),
            ]
        return page(self.title, parts)


def differing(settings: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Return the keys whose values are not the same everywhere, sorted, with the values as JSON; "not set" if missing.

    Args:
        settings: values by key, of each model.
    """
    keys = sorted({key for each in settings for key in each})
    texts = {
        key: [json.dumps(each[key], ensure_ascii=False) if key in each else "not set" for each in settings]
        for key in keys
    }
    return [(key, values) for key, values in texts.items() if len(set(values)) > 1]


def flattened(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of nested sections by dotted key, such as "data.root"; an empty section has none."""
    found: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, Mapping):
            found.update(flattened(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def _with_interval(value: float, low: float, high: float) -> str:
    return "n/a" if np.isnan(value) else f"{value:.4f} ({figure_text(low)} to {figure_text(high)})"


def _signed(found: Difference) -> str:
    low, high = found.interval
    return "n/a" if np.isnan(found.value) else f"{_sign(found.value)} ({_sign(low)} to {_sign(high)})"


def _sign(value: float) -> str:
    if np.isnan(value):
        return "n/a"
    text = f"{value:+.4f}"
    return text[1:] if float(text) == 0 else text


def _json_of(found: Difference) -> dict[str, Any]:
    return {"value": plain(found.value), "interval": [plain(end) for end in found.interval], "p": plain(found.p)}

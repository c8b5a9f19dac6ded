"""Model card of a pushed run: the README.md of its repository, with the metadata that hubs read in its head."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from segzoo.escaping import for_markdown, printable
from segzoo.extras import index_command
from segzoo.reporting.page import figure_text, markdown_table

# Figures of an evaluation report: key, heading; "<key>_interval" holds the interval where there is one.
_FIGURES = (
    ("mean_iou", "mean IoU"),
    ("pixel_accuracy", "pixel accuracy"),
    ("mean_accuracy", "mean accuracy"),
    ("frequency_weighted_iou", "frequency-weighted IoU"),
    ("mcc", "Matthews correlation"),
    ("cohen_kappa", "Cohen's kappa"),
    ("expected_calibration_error", "expected calibration error"),
)

_OF_CLASS = ("dice", "precision", "recall")
_SPLITS = {"val": "Validation split", "test": "Test split"}


@dataclass(frozen=True)
class ModelCard:
    """Contents of a model card.

    Attributes:
        name: name of the run.
        address: where the run is pushed to, an address or a folder.
        decoder: name of the decoder.
        backbone: name of the backbone.
        license: identifier of the licence; None: nothing was stated.
        weights: "best" or "last", which of the run's weights these are.
        needs: names of modules that have to be imported before the model can be built.
        classes: names of the classes, in the order of their labels.
        mode: "multiclass", "binary" or "multilabel".
        channels: number of channels of an image.
        data: rows of name and text on the data.
        training: rows of name and text on the training.
        evaluations: split to its evaluation report, as `Report.as_json` returns it.
        epoch: figures of the validation split at the best epoch, as in metrics.csv; none if the run is unfinished.
        digests: name of a file to its sha256.
    """

    name: str
    address: str
    decoder: str
    backbone: str
    license: str | None
    weights: str
    needs: Sequence[str]
    classes: Sequence[str]
    mode: str
    channels: int
    data: Sequence[tuple[str, str]]
    training: Sequence[tuple[str, str]]
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    epoch: Mapping[str, float | None] = field(default_factory=dict)
    digests: Mapping[str, str] = field(default_factory=dict)

    def as_markdown(self) -> str:
        """Return the whole file."""
        parts = [
            self._head(),
            self._title(),
            self._use(),
            ["## Data", "", *markdown_table([("Name", "Value"), *self.data], words=True), ""],
            self._metrics(),
            ["## Training", "", *markdown_table([("Name", "Value"), *self.training], words=True), ""],
            self._license(),
            self._files(),
        ]
        return "\n".join(line for part in parts for line in part)

    def _head(self) -> list[str]:
        """Metadata in YAML, whose strings are JSON's."""
        stated = [f"license: {json.dumps(self.license)}"] if self.license else []
        tags = [f"- {json.dumps(tag)}" for tag in ("segzoo", "image-segmentation", self.decoder, self.backbone)]
        return ["---", *stated, "library_name: keras", "pipeline_tag: image-segmentation", "tags:", *tags, "---", ""]

    def _title(self) -> list[str]:
        classes = f"{len(self.classes)} classes"
        return [
            f"# {for_markdown(self.name)}",
            "",
            f"Segmentation into {classes} by {for_markdown(self.decoder)} on {for_markdown(self.backbone)}, trained "
            f"with segzoo. It takes images of {self.channels} channels, pixels 0 to 255, of any size from 32 x 32, and "
            f"returns logits of the image's size ({self.mode}). The {self.weights} weights of the run are here.",
            "",
        ]

    def _use(self) -> list[str]:
        address = printable(self.address)
        plugin = [f"import {name}  # registers what the model is built of" for name in self.needs]
        return [
            "## Use",
            "",
            "```sh",
            index_command("hub"),
            f"segzoo predict {shlex.quote(address)} photos --out predictions",
            "```",
            "",
            "```python",
            "import segzoo",
            *plugin,
            "",
            f"predictor = segzoo.load({json.dumps(address, ensure_ascii=False)})",
            'class_map = predictor("photo.jpg")  # (H, W) of class numbers, in multilabel (H, W, classes)',
            "predictor.model  # a keras.Model: pixels 0..255 to logits",
            "```",
            "",
            "Fine-tuning starts from it with this in a configuration, where classes may differ:",
            "",
            "```yaml",
            f"training: {{init_from: {json.dumps(address, ensure_ascii=False)}}}",
            "```",
            "",
        ]

    def _metrics(self) -> list[str]:
        lines = ["## Metrics", ""]
        for split, report in self.evaluations.items():
            figures = [(title, *_with_interval(report, key)) for key, title in _FIGURES if key in report]
            rows = [
                (str(row["class"]), *_with_interval(row, "iou"), *(figure_text(row[key]) for key in _OF_CLASS))
                for row in report["classes"]
            ]
            lines += [
                f"### {_SPLITS[split]}, {report['samples']:,} samples",
                "",
                *markdown_table([("Metric", "Value", "95 % interval"), *figures]),
                "",
                *markdown_table([("Class", "IoU", "95 % interval", *map(str.capitalize, _OF_CLASS)), *rows]),
                "",
            ]
        if self.evaluations:
            return [*lines, "Intervals are those of a bootstrap over the samples; n/a: the class does not occur.", ""]
        if not self.epoch:
            return [*lines, "The run is not finished, and was not evaluated by segzoo evaluate.", ""]
        rows = [(name.removeprefix("val_"), figure_text(value)) for name, value in self.epoch.items()]
        return [
            *lines,
            "Validation split at the best epoch, without intervals, which segzoo evaluate finds.",
            "",
            *markdown_table([("Metric", "Value"), *rows]),
            "",
        ]

    def _license(self) -> list[str]:
        text = f"{for_markdown(self.license)}." if self.license else "Whoever pushed the run stated no licence."
        return ["## Licence", "", text, ""]

    def _files(self) -> list[str]:
        rows = [("File", "sha256"), *self.digests.items()]
        return ["## Files", "", *markdown_table(rows, words=True), ""]


def _with_interval(figures: Mapping[str, Any], key: str) -> tuple[str, str]:
    """Return the texts of a figure and of its interval, which may be missing."""
    ends = figures.get(f"{key}_interval")
    shown = "" if not ends or None in ends else f"{figure_text(ends[0])} to {figure_text(ends[1])}"
    return figure_text(figures[key]), shown

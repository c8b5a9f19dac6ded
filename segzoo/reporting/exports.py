"""Table of a model's exports, by which one chooses: JSON for programs, Markdown for merge requests, an HTML page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segzoo.escaping import for_markdown
from segzoo.files import make_folder, replacing
from segzoo.reporting.page import html_table, markdown_table, page, quiet

#: Name of the files, with the endings .json, .md and .html.
NAME = "exports"
_HEADINGS = (
    "Format",
    "Precision",
    "File",
    "MB",
    "Latency, ms",
    "Images/s",
    "Peak memory, MB",
    "mIoU, %",
    "Same class, %",
    "Largest difference",
    "Remark",
)


@dataclass(frozen=True)
class ExportRow:
    """Figures of one export; None for those that were not measured.

    Attributes:
        format: name of the format.
        precision: precision of the file.
        file: name of the file or folder; None if nothing was written.
        megabytes: size on disk, in 10^6 bytes.
        milliseconds: median latency of an image.
        images_per_second: images a second, one after another.
        memory: largest resident memory of a process that runs it, in 10^6 bytes.
        mean_iou: mean IoU on the validation split, 0..1.
        agreement: fraction of pixels of the same class as Keras's, 0..1.
        difference: largest difference of a logit from Keras's.
        remark: the reason why there is no file, or no speed.
        failed: whether the export was tried and not written.
    """

    format: str
    precision: str
    file: str | None = None
    megabytes: float | None = None
    milliseconds: float | None = None
    images_per_second: float | None = None
    memory: float | None = None
    mean_iou: float | None = None
    agreement: float | None = None
    difference: float | None = None
    remark: str = ""
    failed: bool = False

    def cells(self) -> tuple[str, ...]:
        """Return the texts of the row, in the order of the headings."""
        return (
            self.format,
            self.precision,
            self.file or "",
            _text(self.megabytes, ".1f"),
            _text(self.milliseconds, ".1f"),
            _text(self.images_per_second, ".1f"),
            _text(self.memory, ".0f"),
            _text(self.mean_iou, ".2f", 100),
            _text(self.agreement, ".2f", 100),
            _text(self.difference, ".2g"),
            self.remark,
        )


@dataclass(frozen=True)
class ExportTable:
    """Table of exports.

    Attributes:
        title: title of the table, one line.
        rows: one for each export, that of the Keras model first.
        notes: sentences on how the figures were measured.
        path: page that the table is written to; None before it is.
    """

    title: str
    rows: Sequence[ExportRow]
    notes: Sequence[str]
    path: Path | None = None

    @property
    def failed(self) -> list[ExportRow]:
        """Rows of exports that were tried and not written."""
        return [row for row in self.rows if row.failed]

    def cells(self) -> list[tuple[str, ...]]:
        """Return the texts of all rows, the headings first, without columns that are empty throughout."""
        rows = [_HEADINGS, *(row.cells() for row in self.rows)]
        kept = [index for index in range(len(_HEADINGS)) if any(row[index] for row in rows[1:])]
        return [tuple(row[index] for index in kept) for row in rows]

    def as_json(self) -> dict[str, Any]:
        """Return title, rows and notes as plain values."""
        rows = [dataclasses.asdict(row) for row in self.rows]
        return {"title": self.title, "exports": rows, "notes": list(self.notes)}

    def as_markdown(self) -> str:
        """Return the table and the notes as Markdown."""
        lines = [f"# {for_markdown(self.title)}", "", *markdown_table(self.cells())]
        return "\n".join([*lines, "", *(for_markdown(note) for note in self.notes), ""])

    def as_html(self) -> str:
        """Return the table and the notes as a page."""
        return page(self.title, [html_table(self.cells()), *(quiet(note) for note in self.notes)])

    def written(self, folder: Path) -> ExportTable:
        """Write exports.json, exports.md and exports.html into a folder; returns the table with the path of the page.

        Raises:
            StorageError: they cannot be written.
        """
        make_folder(folder)
        texts = {"json": json.dumps(self.as_json(), indent=2) + "\n", "md": self.as_markdown(), "html": self.as_html()}
        for ending, text in texts.items():
            with replacing(folder / f"{NAME}.{ending}") as temporary:
                temporary.write_text(text, encoding="utf-8")
        return dataclasses.replace(self, path=folder / f"{NAME}.html")


def _text(value: float | None, form: str, scale: float = 1) -> str:
    return "" if value is None else format(scale * value, form)

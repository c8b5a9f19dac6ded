"""Data quality report of `segzoo check-data`: a self-contained HTML page, and the same as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.table import Table
from rich.text import Text

from segzoo.data import Findings, Report
from segzoo.data.findings import Thumbnail
from segzoo.data.problems import KINDS, Problem
from segzoo.escaping import for_plot, printable
from segzoo.files import make_folder, replacing
from segzoo.reporting.figure import new_figure
from segzoo.reporting.page import embedded, heading, html_table, page, picture
from segzoo.reporting.pictures import overlay, palette

_SHOWN = 200  # problems of one kind on the page; all of them are in the JSON file
_BARS = 60  # classes in the histogram


@dataclass(frozen=True)
class DataReport:
    """Contents of a data quality report.

    Attributes:
        title: title of the report, one line.
        findings: result of `check_splits`.
        colours: one colour per class, 0..255 (C, 3).
        ignore_index: label of pixels without a class.
        background: class that is not tinted in pictures, or None.
    """

    title: str
    findings: Findings
    colours: np.ndarray
    ignore_index: int
    background: int | None = None

    def counts(self) -> list[tuple[str, list[Problem]]]:
        """Group the problems by kind, the most severe first."""
        by_kind: dict[str, list[Problem]] = {}
        for problem in self.findings.problems:
            by_kind.setdefault(problem.kind, []).append(problem)
        return [(kind, by_kind[kind]) for kind in KINDS if kind in by_kind]

    def as_json(self) -> dict[str, Any]:
        """Return the report without its pictures as JSON-compatible values."""
        splits = {}
        for name, report in self.findings.splits.items():
            splits[name] = {
                "samples": report.samples,
                "usable": sum(report.sizes.values()),
                "ignored_pixels": report.ignored,
                "sizes": [{"height": h, "width": w, "samples": n} for (h, w), n in report.sizes.items()],
                "classes": [
                    {"class": key, "pixels": report.pixels[key], "samples": report.images[key]} for key in report.pixels
                ],
                "fingerprint": report.fingerprint,
            }
        problems = [
            {"severity": p.severity, "kind": p.kind, "split": p.split, "id": p.id, "message": p.message}
            for p in self.findings.problems
        ]
        return {"title": self.title, "ok": self.findings.ok, "splits": splits, "problems": problems}

    def write(self, folder: Path) -> Path:
        """Write report.json and report.html into `folder`; return the page's path. Each is replaced atomically."""
        make_folder(folder)
        index = folder / "report.html"
        text = json.dumps(self.as_json(), indent=1) + "\n"
        for path, content in ((folder / "report.json", text), (index, self._page())):
            with replacing(path) as temporary:
                temporary.write_text(content, encoding="utf-8")
        return index

    def _page(self) -> str:
        numbers = {s: sum(p.severity == s for p in self.findings.problems) for s in ("error", "warning", "note")}
        summary = ", ".join(f"{n:,} {name}{'' if n == 1 else 's'}" for name, n in numbers.items())
        total = sum(report.samples for report in self.findings.splits.values())
        histogram = embedded(_histogram(self.findings, self.colours))
        parts = [
            heading("Classes"),
            html_table(_class_rows(self.findings)),
            picture(histogram, "Percentage of pixels per class and split"),
            heading("Sizes"),
            html_table(_size_rows(self.findings)),
        ]
        samples = [
            (embedded(self._thumbnail(small), "jpeg"), f"{small.split}: {small.id}")
            for small in self.findings.thumbnails
        ]
        return page(
            self.title,
            parts,
            "data_quality.html",
            remark=f"{total:,} samples: {summary}. Errors stop training or invalidate its metrics, warnings may reduce "
            "the quality of the model, notes are for information.",
            kinds=[_shown(kind, problems) for kind, problems in self.counts()],
            legend=list(zip(self._names(), self.colours.tolist(), strict=False)),
            samples=samples,
        )

    def _thumbnail(self, small: Thumbnail) -> bytes:
        return _jpeg(_drawn(small.image, small.mask, self.colours, self.ignore_index, self.background))

    def _names(self) -> Sequence[str]:
        return list(next(iter(self.findings.splits.values())).pixels)


def _shown(kind: str, problems: Sequence[Problem]) -> dict[str, Any]:
    """Return what the page shows of a kind of problems; the list is truncated if there are very many."""
    severity, title, remedy, _ = KINDS[kind]
    affected = [(f"{p.split}: " if p.split else "") + p.message for p in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        affected.append(f"{len(problems) - _SHOWN:,} more in report.json")
    return {
        "name": kind,
        "severity": severity,
        "title": title,
        "remedy": remedy,
        "count": f"{len(problems):,}",
        "affected": affected,
    }


def _class_rows(findings: Findings) -> list[list[str]]:
    """Return the cells of the table of pixels, percentage and samples of each class in each split, heading first."""
    splits = findings.splits
    rows = [["class", *(text for name in splits for text in (f"{name}: pixels", "% of labelled", "samples"))]]
    for key in next(iter(splits.values())).pixels:
        cells = [key]
        for report in splits.values():
            cells += [f"{report.pixels[key]:,}", f"{100 * report.share(key):.2f}", f"{report.images[key]:,}"]
        rows.append(cells)
    return [*rows, ["ignored", *(text for report in splits.values() for text in (f"{report.ignored:,}", "", ""))]]


def _size_rows(findings: Findings) -> list[list[str]]:
    """Return the cells of the table of image sizes in each split, heading first."""
    rows = [["split", "width x height", "samples"]]
    for name, report in findings.splits.items():
        sizes = list(report.sizes.items())
        rows += [[name, f"{width} x {height}", f"{samples:,}"] for (height, width), samples in sizes[:10]]
        if len(sizes) > 10:
            rows.append([name, f"{len(sizes) - 10} others", f"{sum(samples for _, samples in sizes[10:]):,}"])
    return rows


def _drawn(
    image: np.ndarray, mask: np.ndarray, colours: np.ndarray, ignore_index: int, background: int | None
) -> np.ndarray:
    """Return the image next to its overlay of labels, uint8 (h, 2 w, 3); of overlapping labels the last is drawn."""
    if mask.ndim == 3:
        chosen = mask.shape[2] - 1 - (mask[..., ::-1] == 1).argmax(-1)
        mask = np.where((mask == 1).any(-1), chosen, ignore_index)
    labelled = overlay(image, mask, colours, 0.6, ignore_index, background=background, contours=True)
    plain = overlay(image, np.full(mask.shape, ignore_index), colours, 0.6, ignore_index)
    return np.concatenate([plain, labelled], axis=1)


def _histogram(findings: Findings, colours: np.ndarray) -> bytes:
    """Plot the percentage of each class in the labelled pixels of each split, on a logarithmic scale, as a PNG."""
    names = list(next(iter(findings.splits.values())).pixels)[:_BARS]
    figure = new_figure(figsize=(8, 1.2 + 0.3 * len(names)), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    thickness = 0.8 / len(findings.splits)
    shades = palette(len(findings.splits))
    for position, (split, report) in enumerate(findings.splits.items()):
        shares = [100 * report.share(name) for name in names]
        places = np.arange(len(names)) + (position - (len(findings.splits) - 1) / 2) * thickness
        axes.barh(places, shares, height=thickness, color=shades[position] / 255, label=for_plot(split))
    axes.set_yticks(range(len(names)), [for_plot(name) for name in names])
    axes.invert_yaxis()
    every = [100 * report.share(name) for report in findings.splits.values() for name in names]
    smallest = min((share for share in every if share > 0), default=1.0)
    if any(every):  # a logarithmic scale needs a positive value
        axes.set_xscale("log")
    axes.set_xlim(max(1e-4, smallest / 3), 100)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("% of the split's labelled pixels (log scale)")
    axes.grid(alpha=0.3, axis="x")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return stream.getvalue()


def _jpeg(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=85)
    return stream.getvalue()


def split_table(name: str, report: Report) -> Table:
    """Return samples and pixels of each class of a split, for the terminal."""
    table = Table(title=f"{name}: {report.samples:,} samples, {len(report.problems):,} unusable", title_justify="left")
    table.add_column("class")
    for name in ("samples", "pixels", "% of labelled"):
        table.add_column(name, justify="right")
    for key, pixels in report.pixels.items():
        share = f"{100 * report.share(key):.2f}"
        table.add_row(Text(printable(key)), f"{report.images[key]:,}", f"{pixels:,}", share)
    table.add_row("ignored", "", f"{report.ignored:,}", "")
    return table


def kind_table(kinds: Sequence[tuple[str, list[Problem]]]) -> Table:
    """Return the kinds of problems with severity, count and remedy, for the terminal."""
    table = Table(title="problems", title_justify="left")
    for name, side in (("problem", "left"), ("severity", "left"), ("count", "right"), ("remedy", "left")):
        table.add_column(name, justify=side)  # type: ignore[arg-type]
    for kind, problems in kinds:
        severity, title, cure, _ = KINDS[kind]
        style = {"error": "bold red", "warning": "yellow"}.get(severity, "")
        table.add_row(title, severity, f"{len(problems):,}", cure, style=style)
    return table

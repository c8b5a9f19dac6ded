"""Data quality report of `segzoo check-data`: a self-contained HTML page, and the same as JSON."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from rich.table import Table
from rich.text import Text

from segzoo.data import Findings, Report
from segzoo.data.problems import KINDS, Problem
from segzoo.escaping import for_html, for_plot, printable
from segzoo.files import make_folder, replacing
from segzoo.reporting.page import STYLE
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
        page = folder / "report.html"
        text = json.dumps(self.as_json(), indent=1) + "\n"
        for path, content in ((folder / "report.json", text), (page, self._page())):
            with replacing(path) as temporary:
                temporary.write_text(content, encoding="utf-8")
        return page

    def _page(self) -> str:
        kinds = self.counts()
        numbers = {s: sum(p.severity == s for p in self.findings.problems) for s in ("error", "warning", "note")}
        summary = ", ".join(f"{n:,} {name}{'' if n == 1 else 's'}" for name, n in numbers.items())
        total = sum(report.samples for report in self.findings.splits.values())
        parts = [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{for_html(self.title)}</title>'
            f"<style>{STYLE}{_MORE_STYLE}</style></head><body>",
            f"<h1>{for_html(self.title)}</h1>",
            f'<p class="quiet">{total:,} samples: {summary}. Errors stop training or invalidate its metrics, '
            "warnings may reduce the quality of the model, notes are for information.</p>",
        ]
        if kinds:
            parts += ["<h2>Problems</h2>", _problem_table(kinds)]
        parts += ["<h2>Classes</h2>", _class_table(self.findings)]
        parts.append(_picture(_histogram(self.findings, self.colours), "Percentage of pixels per class and split"))
        parts += ["<h2>Sizes</h2>", _size_table(self.findings)]
        if self.findings.thumbnails:
            parts += ["<h2>Samples</h2>", _legend(list(self._names()), self.colours), '<div class="sheet">']
            for small in self.findings.thumbnails:
                drawn = _drawn(small.image, small.mask, self.colours, self.ignore_index, self.background)
                caption = for_html(f"{small.split}: {small.id}")
                parts.append(
                    f"<figure>{_picture(_jpeg(drawn), caption, 'jpeg')}<figcaption>{caption}</figcaption></figure>"
                )
            parts.append("</div>")
        for kind, problems in kinds:
            parts.append(_listed(kind, problems))
        return "\n".join([*parts, "</body></html>", ""])

    def _names(self) -> Sequence[str]:
        return list(next(iter(self.findings.splits.values())).pixels)


_MORE_STYLE = """
td.text, th.text { text-align: left; } .error { color: #b00020; font-weight: 600; } .warning { color: #9a5b00; }
.sheet { display: flex; flex-wrap: wrap; gap: 12px; } figure { margin: 0; } figcaption { font-size: .8em; color: #666;
max-width: 480px; overflow-wrap: anywhere; } .swatch { display: inline-block; width: .9em; height: .9em;
margin: 0 .3em 0 1em; border: 1px solid #888; vertical-align: -.1em; } summary { cursor: pointer; margin-top: .6em; }
li { overflow-wrap: anywhere; }
"""


def _problem_table(kinds: Sequence[tuple[str, list[Problem]]]) -> str:
    rows = ["<tr><th>problem</th><th>count</th><th class=text>severity</th><th class=text>remedy</th></tr>"]
    for kind, problems in kinds:
        severity, title, cure, _ = KINDS[kind]
        rows.append(
            f'<tr><td><a href="#{kind}">{for_html(title)}</a></td><td>{len(problems):,}</td>'
            f'<td class="text {severity}">{severity}</td><td class=text>{for_html(cure)}</td></tr>'
        )
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _listed(kind: str, problems: Sequence[Problem]) -> str:
    """Return the HTML list of the problems of a kind, truncated if there are very many."""
    severity, title, cure, _ = KINDS[kind]
    items = [f"<li>{for_html(f'{p.split}: ' if p.split else '')}{for_html(p.message)}</li>" for p in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        items.append(f"<li>{len(problems) - _SHOWN:,} more in report.json</li>")
    return (
        f'<h2 id="{kind}" class="{severity}">{for_html(title)} ({len(problems):,})</h2>'
        f"<p>{for_html(cure)}</p><details open><summary>Affected samples</summary><ul>{''.join(items)}</ul></details>"
    )


def _class_table(findings: Findings) -> str:
    """Return the HTML table of pixels, percentage and samples of each class in each split."""
    splits = findings.splits
    heads = "".join(f"<th>{for_html(name)}: pixels</th><th>% of labelled</th><th>samples</th>" for name in splits)
    rows = [f"<tr><th>class</th>{heads}</tr>"]
    for key in next(iter(splits.values())).pixels:
        cells = ""
        for report in splits.values():
            share = 100 * report.pixels[key] / max(1, sum(report.pixels.values()))
            cells += f"<td>{report.pixels[key]:,}</td><td>{share:.2f}</td><td>{report.images[key]:,}</td>"
        rows.append(f"<tr><td>{for_html(key)}</td>{cells}</tr>")
    cells = "".join(f"<td>{report.ignored:,}</td><td></td><td></td>" for report in splits.values())
    rows.append(f"<tr><td>ignored</td>{cells}</tr>")
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _size_table(findings: Findings) -> str:
    rows = ["<tr><th>split</th><th>width x height</th><th>samples</th></tr>"]
    for name, report in findings.splits.items():
        sizes = list(report.sizes.items())
        for (height, width), samples in sizes[:10]:
            rows.append(f"<tr><td>{for_html(name)}</td><td>{width} x {height}</td><td>{samples:,}</td></tr>")
        if len(sizes) > 10:
            others = sum(samples for _, samples in sizes[10:])
            rows.append(f"<tr><td>{for_html(name)}</td><td>{len(sizes) - 10} others</td><td>{others:,}</td></tr>")
    return f'<div class="scroll"><table>{"".join(rows)}</table></div>'


def _legend(names: Sequence[str], colours: np.ndarray) -> str:
    swatches = [
        f'<span class="swatch" style="background: rgb({r},{g},{b})"></span>{for_html(name)}'
        for name, (r, g, b) in zip(names, colours[: len(names)].tolist(), strict=True)
    ]
    return f"<p>{''.join(swatches)}</p>"


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
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(names)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    thickness = 0.8 / len(findings.splits)
    shades = palette(len(findings.splits))
    for position, (split, report) in enumerate(findings.splits.items()):
        total = max(1, sum(report.pixels.values()))
        shares = [100 * report.pixels[name] / total for name in names]
        places = np.arange(len(names)) + (position - (len(findings.splits) - 1) / 2) * thickness
        axes.barh(places, shares, height=thickness, color=shades[position] / 255, label=for_plot(split))
    axes.set_yticks(range(len(names)), [for_plot(name) for name in names])
    axes.invert_yaxis()
    every = [100 * r.pixels[name] / max(1, sum(r.pixels.values())) for r in findings.splits.values() for name in names]
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


def _picture(data: bytes, words: str, kind: str = "png") -> str:
    return f'<img alt="{words}" src="data:image/{kind};base64,{base64.b64encode(data).decode()}">'


def split_table(name: str, report: Report) -> Table:
    """Return samples and pixels of each class of a split, for the terminal."""
    table = Table(title=f"{name}: {report.samples:,} samples, {len(report.problems):,} unusable", title_justify="left")
    table.add_column("class")
    for heading in ("samples", "pixels", "% of labelled"):
        table.add_column(heading, justify="right")
    total = max(1, sum(report.pixels.values()))
    for key, pixels in report.pixels.items():
        table.add_row(Text(printable(key)), f"{report.images[key]:,}", f"{pixels:,}", f"{100 * pixels / total:.2f}")
    table.add_row("ignored", "", f"{report.ignored:,}", "")
    return table


def kind_table(kinds: Sequence[tuple[str, list[Problem]]]) -> Table:
    """Return the kinds of problems with severity, count and remedy, for the terminal."""
    table = Table(title="problems", title_justify="left")
    for heading, side in (("problem", "left"), ("severity", "left"), ("count", "right"), ("remedy", "left")):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    for kind, problems in kinds:
        severity, title, cure, _ = KINDS[kind]
        style = {"error": "bold red", "warning": "yellow"}.get(severity, "")
        table.add_row(title, severity, f"{len(problems):,}", cure, style=style)
    return table

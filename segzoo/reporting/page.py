"""Building blocks of reports: tables in Markdown and HTML, pictures, and the page around them."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Sequence
from pathlib import Path

from segzoo.escaping import for_html, for_markdown, unbroken

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1280px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; } th, td { padding: .25em .8em; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; } th { border-bottom: 2px solid #888; }
table.words td { text-align: left; vertical-align: top; overflow-wrap: anywhere; }
img { max-width: 100%; } .scroll { overflow-x: auto; } .quiet { color: #666; }
pre { font: 13px/1.45 ui-monospace, monospace; background: #f6f6f6; padding: 1em; overflow-x: auto; }
"""


def plain(value: float) -> float | None:
    """Convert a metric for JSON: NaN, shown as n/a, becomes None."""
    return None if math.isnan(value) else float(value)


def figure_text(value: float | None) -> str:
    """Format a metric or loss with four decimals; None and NaN become n/a."""
    return "n/a" if value is None or math.isnan(value) else f"{value:.4f}"


def markdown_table(rows: Sequence[Sequence[str]], words: bool = False) -> list[str]:
    """Return the lines of a table of plain text, heading first; columns after the first are numbers unless `words`."""
    heading, *rest = ([for_markdown(cell) for cell in row] for row in rows)
    lines = [f"| {' | '.join(heading)} |", "|---" + ("|---" if words else "|---:") * (len(heading) - 1) + "|"]
    return lines + [f"| {' | '.join(row)} |" for row in rest]


def html_table(rows: Sequence[Sequence[str]], headed: bool = True, words: bool = False) -> str:
    """Return a table that scrolls if it is too wide; the first row is the heading if `headed`.

    Cells are plain text, right-aligned like numbers, except in the first column, or in all columns if `words`.
    """
    lines = []
    for index, row in enumerate(rows):
        kind = "th" if headed and index == 0 else "td"
        lines.append("<tr>" + "".join(f"<{kind}>{for_html(cell)}</{kind}>" for cell in row) + "</tr>")
    opening = '<table class="words">' if words else "<table>"
    return f'<div class="scroll">{opening}' + "\n".join(lines) + "</table></div>"


def quiet(text: str) -> str:
    """Return a paragraph of plain text in a muted style."""
    return f'<p class="quiet">{for_html(text)}</p>'


def link(target: str, text: str) -> str:
    """Return a paragraph that links to a file by its URL."""
    return f'<p><a href="{for_html(target)}">{for_html(text)}</a></p>'


def heading(text: str) -> str:
    """Return a section heading of plain text."""
    return f"<h2>{for_html(text)}</h2>"


def preformatted(text: str) -> str:
    """Return preformatted text, such as a file, with its line breaks and spaces."""
    return f"<pre>{html.escape(unbroken(text))}</pre>"


def picture(source: str, alt: str) -> str:
    """Return a picture by its URL, with an alternative text."""
    return f'<img src="{for_html(source)}" alt="{for_html(alt)}">'


def embedded(path: Path) -> str:
    """Return a PNG as a data URL, for a self-contained page."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def page(title: str, parts: Sequence[str]) -> str:
    """Return the whole page: a title in plain text, followed by parts in HTML."""
    text = for_html(title)
    head = f'<html lang="en"><head><meta charset="utf-8"><title>{text}</title><style>{STYLE}</style></head><body>'
    return "\n".join(["<!doctype html>", head, f"<h1>{text}</h1>", *parts, "</body></html>", ""])

"""Building blocks of reports: figures as text, tables in Markdown, and HTML pages from the files in templates/."""

from __future__ import annotations

import base64
import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from segzoo.escaping import for_markdown, printable, unbroken

if TYPE_CHECKING:
    import jinja2


@dataclass(frozen=True)
class Block:
    """Part of a page.

    Attributes:
        macro: name of the macro of templates/blocks.html that renders it.
        values: arguments of the macro; plain text, which is escaped there.
    """

    macro: str
    values: Mapping[str, Any]


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


def html_table(rows: Sequence[Sequence[str]], headed: bool = True, words: bool = False, footed: bool = False) -> Block:
    """Return a table that scrolls if it is too wide, and is sorted by a click on a column's heading.

    Args:
        rows: cells in plain text, aligned to the right like numbers except in the first column.
        headed: whether the first row is the heading.
        words: whether all columns are aligned to the left.
        footed: whether the last row, such as that of the mean, stays last.
    """
    rows = list(rows)
    head = rows.pop(0) if headed else None
    foot = rows.pop() if footed else None
    return Block("table", {"head": head, "rows": rows, "foot": foot, "words": words})


def quiet(text: str) -> Block:
    """Return a paragraph of plain text in a muted style."""
    return Block("quiet", {"text": text})


def link(target: str, text: str) -> Block:
    """Return a paragraph that links to a file by its URL."""
    return Block("link", {"target": target, "text": text})


def heading(text: str) -> Block:
    """Return a section heading of plain text."""
    return Block("heading", {"text": text})


def preformatted(text: str) -> Block:
    """Return preformatted text, such as a file, with its line breaks and spaces."""
    return Block("preformatted", {"text": text})


def picture(source: str, alt: str) -> Block:
    """Return a picture by its URL, with an alternative text; a click enlarges it."""
    return Block("picture", {"source": source, "alt": alt})


def embedded(data: bytes, kind: str = "png") -> str:
    """Return the content of a picture file as a data URL, for a self-contained page; `kind` is "png" or "jpeg"."""
    return f"data:image/{kind};base64," + base64.b64encode(data).decode("ascii")


def page(title: str, parts: Sequence[Block], template: str = "page.html", **values: Any) -> str:
    """Return a whole page, which needs no other file but the pictures that it names.

    Args:
        title: title in plain text.
        parts: contents in their order.
        template: file in templates/, which extends page.html.
        values: further variables of the template; plain text is escaped there.
    """
    return _environment().get_template(template).render(title=title, parts=parts, **values)


@functools.cache
def _environment() -> jinja2.Environment:
    """Build the environment of the templates, which escapes every text that they insert."""
    import jinja2
    from markupsafe import Markup

    def finalize(value: Any) -> Any:
        return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("segzoo.reporting"),
        autoescape=True,
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["unbroken"] = lambda text: Markup.escape(unbroken(text))
    return made

r"""Escaping of foreign text (names of classes, paths, messages) for terminal, plot, Markdown and pages.

A class may be called "[/b]", "$\foo$" or "</pre>", and a file anything but "/" and the zero byte. Each medium has one
function here that lets such a text be seen as it is; nothing else escapes but the templates of pages, which are given
printable text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

# What moves the cursor, hides text or cannot be encoded: controls, formats (also those that turn the direction of
# writing) and surrogates, which stand for the bytes of file names that are no UTF-8.
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_PLOTTED = 60  # letters, as many as leave room for the plot itself
_MARKDOWN = re.compile(r"([\\`*_\[\]<>&|~$#!])")


def printable(text: str, keep: str = "") -> str:
    r"""Return one line of printable characters: others become Python escapes, such as \n and \udcff.

    Args:
        text: anything.
        keep: characters that stay although they are not seen, such as the line breaks of a text of several lines.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(letter) if letter not in keep and _is_unseen(letter) else letter for letter in text)


def _is_unseen(letter: str) -> bool:
    return unicodedata.category(letter) in _UNSEEN


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def for_plot(text: str) -> str:
    """Escape text for matplotlib, where "$" would begin a formula; very long text is truncated.

    Letters that its fonts lack would be drawn as boxes, all alike; they become escapes. With a font that has them
    (`font.family` in a matplotlibrc) they stay.
    """
    shown = printable(text)
    if not shown.isascii():
        from matplotlib import font_manager

        found = []
        for family in font_manager.FontProperties().get_family():
            with suppress(ValueError):  # not installed
                found.append(font_manager.findfont(family, fallback_to_default=False))
        shown = _in_glyphs(shown, found or [font_manager.findfont("DejaVu Sans")])
    return (shown if len(shown) <= _PLOTTED else f"{shown[: _PLOTTED - 1]}…").replace("$", r"\$")


def for_picture(text: str, font: Path) -> str:
    """Return one line in which letters that a font file lacks are escapes, and not boxes that all look alike."""
    shown = printable(text)
    return shown if shown.isascii() else _in_glyphs(shown, [font])


def _in_glyphs(text: str, fonts: Iterable[Any]) -> str:
    from matplotlib.font_manager import get_font

    opened = [get_font(font) for font in fonts]
    return "".join(
        letter if any(font.get_char_index(ord(letter)) for font in opened) else _escape(letter) for letter in text
    )


def for_markdown(text: str) -> str:
    """Escape text to one line of Markdown, for a paragraph, a heading or a table cell."""
    return _MARKDOWN.sub(r"\\\1", printable(text))


def unbroken(text: str) -> str:
    """Return text of several lines with unprintable characters escaped."""
    return printable(text, keep="\n\t")


def fenced(text: str, language: str = "") -> list[str]:
    """Return a Markdown code block of a text, with a fence that does not occur in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", unbroken(text).rstrip(), fence]

r"""Text that others wrote (names of classes, paths, messages) as terminals, pictures, Markdown and HTML take it.

A class may be called "[/b]", "$\foo$" or "</pre>", and a file anything but "/" and the zero byte. Each medium has one
function here that lets such a text be seen as it is; nothing else escapes.
"""

from __future__ import annotations

import html
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
    r"""Return one line in which every character is seen: others become escapes of Python, such as \n and \udcff.

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
    """Return text that matplotlib draws as it is: a "$" begins no formula; the end of a very long one is cut off.

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
    """Return one line that Markdown shows as it is, in a paragraph, a heading or the cell of a table."""
    return _MARKDOWN.sub(r"\\\1", printable(text))


def for_html(text: str) -> str:
    """Return one line that is plain text in a page and within an attribute."""
    return html.escape(printable(text))


def unbroken(text: str) -> str:
    """Return text of several lines whose characters are all seen."""
    return printable(text, keep="\n\t")


def fenced(text: str, language: str = "") -> list[str]:
    """Return lines of Markdown that show a whole text as code, between fences that do not occur in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", unbroken(text).rstrip(), fence]

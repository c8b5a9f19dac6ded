"""Legends in pictures: swatches of colours with names beside them, in lines, at the scale of the picture."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segzoo.escaping import for_picture

INK, PALE_INK, PAPER = (30, 30, 30), (110, 110, 110), (255, 255, 255)
# Dimensions at scale 1, in pixels.
GAP, LINE, SWATCH, TEXT = 8, 22, 14, 13
_LONGEST = 24  # letters, of about a text size each, by which a name may widen a strip


class Entry(NamedTuple):
    """Entry of a legend.

    Attributes:
        name: text beside the swatch, as `for_picture` returns it.
        colour: colour of the swatch, RGB 0..255.
        pale: whether it is drawn as of a class that is not there: a frame in its colour, and grey letters.
    """

    name: str
    colour: tuple[int, ...]
    pale: bool = False


def draw_entry(draw: ImageDraw.ImageDraw, left: int, top: int, entry: Entry, scale: float = 1) -> None:
    """Draw a swatch and its name on a line that begins at (left, top)."""
    swatch, middle = round(SWATCH * scale), top + round(LINE * scale) // 2
    box = (left, middle - swatch // 2, left + swatch, middle - swatch // 2 + swatch)
    if entry.pale:
        draw.rectangle(box, fill=PAPER, outline=entry.colour, width=max(1, round(2 * scale)))
    else:
        draw.rectangle(box, fill=entry.colour, outline=PALE_INK, width=max(1, round(scale)))
    place, ink = (left + swatch + round(6 * scale), middle), PALE_INK if entry.pale else INK
    draw.text(place, entry.name, font=font(round(TEXT * scale)), fill=ink, anchor="lm")


def flow(names: Sequence[str], width: int, scale: float = 1) -> tuple[list[tuple[int, int]], int]:
    """Return the corner of each entry, one behind the other in lines of `width`, and the height of all."""
    gap, line = round(GAP * scale), round(LINE * scale)
    places, left, top = [], gap, 0
    for name in names:
        taken = _width(name, scale)
        if left > gap and left + taken > width:
            left, top = gap, top + line
        places.append((left, top))
        left += taken
    return places, top + line if places else 0


def strip(entries: Sequence[Entry], width: int, scale: float = 1) -> np.ndarray:
    """Draw a legend to be laid below a picture.

    Args:
        entries: one at least.
        width: width of the picture.
        scale: factor of all dimensions.

    Returns:
        `(h, w, 3)` uint8 on white; w is `width`, or more where the widest entry needs it.
    """
    room = max(width - round((SWATCH + 6 + 3 * GAP) * scale), round(_LONGEST * TEXT * scale))
    letters = font(round(TEXT * scale))
    entries = [entry._replace(name=_cut(entry.name, letters, room)) for entry in entries]
    names = [entry.name for entry in entries]
    gap = round(GAP * scale)
    wide = max(width, max(_width(name, scale) for name in names) + gap)
    places, height = flow(names, wide, scale)
    picture = Image.new("RGB", (wide, height + gap), PAPER)
    draw = ImageDraw.Draw(picture)
    for entry, (left, top) in zip(entries, places, strict=True):
        draw_entry(draw, left, top + gap // 2, entry, scale)
    return np.asarray(picture)


def shortened(text: str, letters: ImageFont.FreeTypeFont, room: float) -> str:
    """Truncate text on the left to fit: the end of a path is more informative than its beginning."""
    text = for_picture(text, font_file())
    if letters.getlength(text) <= room:
        return text
    while text and letters.getlength("…" + text) > room:
        text = text[1:]
    return "…" + text


def _cut(name: str, letters: ImageFont.FreeTypeFont, room: float) -> str:
    """Truncate a name on the right to fit."""
    if letters.getlength(name) <= room:
        return name
    while name and letters.getlength(name + "…") > room:
        name = name[:-1]
    return name + "…"


def _width(name: str, scale: float) -> int:
    """Return the width of an entry and the gap behind it."""
    return int(font(round(TEXT * scale)).getlength(name)) + round((SWATCH + 6 + 2 * GAP) * scale)


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font of all pictures in a size."""
    return ImageFont.truetype(str(font_file(bold)), size)


def font_file(bold: bool = False) -> Path:
    """Return the file of the font: DejaVu of matplotlib, with Greek and Cyrillic letters, which Pillow's own lacks."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")

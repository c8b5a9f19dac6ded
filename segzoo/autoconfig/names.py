"""Class names from files that annotation tools write beside masks: tables of colours or values, and plain lists."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

from segzoo.autoconfig.evidence import Evidence
from segzoo.config.fields import LONGEST_LINE
from segzoo.config.text_checks import one_line
from segzoo.errors import ConfigError, DataError, shortened
from segzoo.files import read_text

# Tables of names and colours: CVAT's, CamVid's, and those of collections of data sets.
_COLOUR_TABLES = ("labelmap.txt", "labelmap", "label_colors.txt", "label_colours.txt", "class_dict.csv", "colormap.txt")
_VALUE_TABLES = ("_classes.csv",)  # Roboflow's "Pixel Value, Class"
_LISTS = ("classes.txt", "labels.txt", "class_names.txt", "codes.txt")  # a name a line, in the order of the labels
_NO_CLASS = "__ignore__"  # in LabelMe's lists what stands for unlabelled pixels


def check_name(name: str, where: str) -> None:
    """Raise DataError unless a configuration takes `name` for a class; `where` says what holds it, for messages."""
    why = ""
    if not 0 < len(name) <= LONGEST_LINE:
        why = f"it has {len(name):,} characters, where 1 to {LONGEST_LINE:,} are due" if name else "it is empty"
    try:
        one_line(name)
    except ValueError as error:
        why = str(error)
    if why:
        raise DataError(f"{where} is {shortened(name)}, which names no class: {why}. Correct it.")


def names_beside(found: Evidence, folders: Sequence[Path]) -> None:
    """Add the names of the classes to the evidence, from the first file that lies in one of the folders and fits.

    A file that does not fit is said to be there, in `found.remarks`, and not used.
    """
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        for kinds, read in ((_COLOUR_TABLES, _by_color), (_VALUE_TABLES, _by_value), (_LISTS, _by_order)):
            for path in (folder / name for name in kinds):
                if not path.is_file():
                    continue
                try:
                    why = read(found, path)
                except (OSError, ValueError, ConfigError, csv.Error) as error:
                    why = f"it cannot be read ({error})"
                if not why:
                    return
                found.remarks.append(f"{path} was not used: {why}.")


def _by_color(found: Evidence, path: Path) -> str:
    """Name classes by their colours; return the obstacle, or "" on success."""
    from segzoo.data.formats.rgb import read_colors

    table = read_colors(path)
    names = {color: name for name, color in table}
    if len(names) < len(table) or len(set(names.values())) < len(table):
        return "a name or colour stands there twice"
    if found.masks["format"] == "rgb":
        colors = [(*color,) for color in found.masks["colors"]]
        strange = [list(color) for color in colors if color not in names]
        if strange:
            return f"the masks hold colours that it lacks, such as {strange[0]}"
        pixels = dict(zip(colors, found.pixels, strict=True))
        found.names = [name for name, _ in table]
        found.palette = found.values = found.masks["colors"] = [list(color) for _, color in table]
        found.classes, found.pixels = len(table), [pixels.get(color, 0) for _, color in table]
        found.named = f"and colours of {path.name}"
        return ""
    if found.palette is None:
        return "the masks have no colours to compare with it"
    colors = [(*color,) for color in found.palette]
    if not all(color in names for color in colors):
        return "the masks' palette has colours that it lacks"
    found.names, found.named = [names[color] for color in colors], f"of {path.name}, by the colours of the palette"
    return ""


def _by_value(found: Evidence, path: Path) -> str:
    """Name classes by the values of their pixels; return the obstacle, or "" on success."""
    if found.masks["format"] not in ("index", "array"):
        return "the masks are no class indices"
    lines = csv.reader(io.StringIO(read_text(path), newline=""))
    rows = [cells for row in lines if len(cells := [cell.strip() for cell in row]) > 1]
    pairs = [(int(row[0]), row[1]) for row in rows if re.fullmatch(r"[0-9]{1,5}", row[0]) and row[1]]
    names = dict(pairs)
    if len(pairs) < 2 or len(names) < len(pairs) or len(set(names.values())) < len(pairs):
        return "it is no table of different values and names"
    values = found.values or [value for value in range(found.classes) if found.pixels[value]]
    strange = [value for value in values if value not in names]
    if strange:
        return f"the masks hold values that it lacks, such as {strange[0]}"
    if sorted(names) != list(range(len(names))):  # the values of the file as they are
        if found.values is None or sorted(names) != found.values:
            return "its values have gaps, and are not those of the masks"
        found.names = [names[value] for value in found.values]
    elif found.values is not None or found.ignore_index < len(names):
        return "its values are not those of the masks"
    else:
        _more_classes(found, [names[value] for value in range(len(names))])
    found.named = f"of {path.name}, by the values of the pixels"
    return ""


def _by_order(found: Evidence, path: Path) -> str:
    """Name classes in the order of a list; return the obstacle, or "" on success."""
    if found.masks["format"] == "rgb":
        return "the masks hold colours, and it has no order for them"
    lines = read_text(path).splitlines()
    names = [line.strip() for line in lines if line.strip() and line.strip() != _NO_CLASS]
    if len(set(names)) < len(names) or not names:
        return "it names a class twice, or none"
    found.named = f"of {path.name}, in its order"
    if len(names) == found.classes - 1 and "background" not in (name.strip("_").lower() for name in names):
        names = ["background", *names]
        found.named += "; it has one name less than there are labels, so label 0 is taken for background"
    indices = found.masks["format"] in ("index", "array") and found.values is None
    if len(names) < found.classes or (len(names) > found.classes and not indices):
        return f"it has {len(names)} names, and the masks {found.classes} classes"
    if found.ignore_index < len(names):
        return f"it has {len(names)} names, and the label {found.ignore_index} marks unlabelled pixels"
    _more_classes(found, names)
    return ""


def _more_classes(found: Evidence, names: list[str]) -> None:
    """Assign names to labels from 0, of which the masks may show fewer."""
    if len(names) > found.classes:
        found.palette = None
    found.pixels += [0] * (len(names) - found.classes)
    found.classes, found.names = len(names), names

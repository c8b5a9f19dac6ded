"""Samples by list: text files of "image mask" per line, or of names, and CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from segzoo.data.folder import Pair
from segzoo.errors import DataError


class Row(NamedTuple):
    """A line of a CSV: a pair of files, and the line's own cells by heading."""

    pair: Pair
    cells: Mapping[str, str]


def read_list(path: Path, root: Path) -> list[Pair] | list[str]:
    """Read a list of samples: "image mask" on each line, or only a name, as VOC has them.

    The two paths are parted by a tab, or by spaces where neither has one; they start at `root`, also with a leading
    slash, as in CamVid's lists, unless such a file exists. Empty lines and those that begin with # are left out.

    Returns:
        pairs, or where lines hold only a name, the names.

    Raises:
        DataError: no such file, nothing in it, a line of another form, a file that is missing, a sample that is there
            twice.
    """
    pairs: list[Pair] = []
    names: list[str] = []
    for number, line in _lines(path):
        cells = [cell.strip() for cell in (line.split("\t") if "\t" in line else line.split())]
        if len(cells) > 2:
            raise DataError(
                f"{path}:{number}: {line!r} is not an image and a mask. Part the two by a tab where paths have spaces."
            )
        if len(cells) == 1:
            names.append(cells[0])
        else:
            pairs.append(_pair(cells[0], cells[1], root, f"{path}:{number}"))
    if pairs and names:
        raise DataError(f"{path}: some lines hold an image and a mask, others one word only, such as {names[0]!r}.")
    if not pairs and not names:
        raise DataError(f"{path}: lists no sample.")
    _refuse_repeats(names or [pair.name for pair in pairs], path)
    return names or pairs


def read_csv(path: Path, root: Path, columns: Sequence[str] = ()) -> list[Row]:
    """Read a CSV with the columns `image` and `mask`, and others that are handed on.

    Args:
        path: the file, with a line of headings; commas or semicolons.
        root: where paths start.
        columns: further columns that must be there.

    Raises:
        DataError: no such file or column, a line without one of them, a file that is missing, a sample that is there
            twice.
    """
    lines = list(_lines(path))
    if not lines:
        raise DataError(f"{path}: lists no sample.")
    reader = csv.reader([line for _, line in lines], delimiter=";" if ";" in lines[0][1] else ",")
    headings = [cell.strip() for cell in next(reader)]
    for column in ("image", "mask", *columns):
        if column not in headings:
            raise DataError(f"{path}: has no column {column!r}. Its columns: {', '.join(headings)}.")
    rows = []
    for (number, _), values in zip(lines[1:], reader, strict=True):
        cells = dict(zip(headings, (value.strip() for value in values), strict=False))
        for column in ("image", "mask", *columns):
            if not cells.get(column):
                raise DataError(f"{path}:{number}: the column {column!r} is empty.")
        rows.append(Row(_pair(cells["image"], cells["mask"], root, f"{path}:{number}"), cells))
    if not rows:
        raise DataError(f"{path}: lists no sample.")
    _refuse_repeats([row.pair.name for row in rows], path)
    return rows


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of samples ({error}). Check data.split.") from error
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            yield number, line.strip()


def _pair(image: str, mask: str, root: Path, where: str) -> Pair:
    paths = [_resolved(text, root, where) for text in (image, mask)]
    return Pair(Path(image.lstrip("/")).with_suffix("").as_posix(), paths[0], paths[1])


def _resolved(text: str, root: Path, where: str) -> Path:
    absolute = Path(text)
    if absolute.is_absolute() and absolute.exists():
        return absolute
    path = root / text.lstrip("/")
    if not path.exists():
        raise DataError(f"{where}: there is no {path}. Paths in lists start at data.root.")
    return path


def _refuse_repeats(names: Sequence[str], path: Path) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{path}: {name} is there twice.")
        seen.add(name)

"""Strict reading of JSON annotations: every value is taken as it is meant, or refused by its place in the file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from segzoo.errors import DataError
from segzoo.files import read_at_most

# Both are far above what tools write; a file or a number beyond them would cost memory and minutes, or crash C code.
_MOST_BYTES = 2**30
_FAR = 16  # sides of the image that a point may lie away from it


def read_json(path: Path, kind: str) -> dict[str, Any]:
    """Return the object that a JSON file holds, in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Args:
        path: the file.
        kind: expected kind of file, for messages: "LabelMe annotation".

    Raises:
        DataError: a file that is missing, over 1 GiB or not JSON, or whose value is not an object.
    """
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise DataError(f"{path}: {size / 2**20:.0f} MiB is more than a {kind} of 1024 MiB. Split the file.")
        content = json.loads(read_at_most(path, _MOST_BYTES))
    except RecursionError as error:
        raise DataError(
            f"{path}: no {kind} (lists within lists, too deep to be read). Export the file again."
        ) from error
    except (OSError, ValueError, MemoryError) as error:
        raise DataError(f"{path}: no {kind} ({type(error).__name__}: {error}). Export the file again.") from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: no {kind} (it holds {shown(content)}, not an object {{...}}). Export the file again.")
    return content


def entries(content: dict[str, Any], key: str, where: object) -> list[dict[str, Any]]:
    """Return the list of objects under a key; DataError names the first that is none."""
    found = content.get(key)
    if not isinstance(found, list):
        state = "is missing" if key not in content else f"is {shown(found)}, not a list"
        raise DataError(f"{where}: {key!r} {state}. Export the file again.")
    for number, entry in enumerate(found):
        if not isinstance(entry, dict):
            raise DataError(
                f"{where}: {key}[{number}] is {shown(entry)}, not an object {{...}}. Export the file again."
            )
    return found


def identifier(value: Any) -> str | None:
    """Return an id as text, so that 1, 1.0 and "1" are the same; None for any other value."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else None
    if isinstance(value, int):
        return str(value) if abs(value) < 10**300 else None
    return value.strip() if isinstance(value, str) and value.strip() else None


def whole(value: Any) -> int | None:
    """Return a whole number, also if it is written as text or with a point; None for any other value."""
    if isinstance(value, str):
        digits = value.strip()
        return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 20 else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def differs(stated: Any, found: int) -> bool:
    """Return True if a stated height or width differs from the image's; null and 0 state nothing."""
    return stated not in (None, 0) and whole(stated) != found


def coordinates(values: Any, size: tuple[int, int], where: str) -> list[float]:
    """Return a list of numbers as floats.

    Args:
        values: values from the file.
        size: (height, width) of the image.
        where: name of the list in messages: file, annotation and key.

    Raises:
        DataError: not a list of numbers; NaN, infinity, or points far outside the image.
    """
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise DataError(f"{where} is {shown(values)}, not a list of numbers.")
    limit = _FAR * max(size)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"{where} holds {shown(value)}, which is no number.")
        if not -limit <= value <= limit:  # false for NaN too
            raise DataError(
                f"{where} holds {shown(value)}, far outside of the image of {size[1]} x {size[0]} pixels (width x "
                "height). Correct or remove it."
            )
    return [float(value) for value in values]


def points(values: Any, size: tuple[int, int], where: str) -> list[tuple[float, float]]:
    """Return a list of [x, y]; DataError as `coordinates`."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise DataError(f"{where} is {shown(values)}, not a list of points [x, y].")
    found = []
    for number, value in enumerate(values):
        pair = coordinates(value, size, f"{where}[{number}]")
        if len(pair) != 2:
            raise DataError(f"{where}[{number}] has {len(pair)} numbers, not the two of a point [x, y].")
        found.append((pair[0], pair[1]))
    return found


def path_length(corners: Sequence[tuple[float, float]]) -> float:
    """Return the pixels that the outline of a polygon passes."""
    turned = [*corners[1:], *corners[:1]]
    return math.fsum(max(abs(a - c), abs(b - d)) for (a, b), (c, d) in zip(corners, turned, strict=True))


def shown(value: Any) -> str:
    """Return a value of a JSON file in few characters, for messages."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10**30:
        return f"a number of about {math.log10(abs(value)):.0f} digits"
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else text[:57] + "..."

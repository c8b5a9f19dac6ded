"""JSON of long lists, written and read item by item."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def json_with_list(head: dict[str, Any], name: str, items: Iterable[Any]) -> Iterator[str]:
    """Yield the text of an object, piece by piece: members that are at hand, and a list that memory need not hold.

    Args:
        head: the first members, at least one.
        name: name of the last member, the list.
        items: what is in the list.
    """
    yield f"{json.dumps(head, ensure_ascii=False)[:-1]}, {json.dumps(name)}: ["
    for number, item in enumerate(items):
        yield (", " if number else "") + json.dumps(item, ensure_ascii=False)
    yield "]}"


def json_lines(path: Path) -> Iterator[Any]:
    """Yield what the lines of a file hold, each of them JSON."""
    with path.open(encoding="utf-8") as stream:
        yield from map(json.loads, stream)

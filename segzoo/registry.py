"""A table from public names to where their objects live, so that listing names imports no framework."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from segzoo.errors import UnknownNameError, unknown_name


def find(where: str) -> Any:
    """Import what lies at "module:attribute" or "module:table[key]"."""
    module, _, place = where.partition(":")
    attribute, _, key = place.rstrip("]").partition("[")
    found = getattr(importlib.import_module(module), attribute)
    return found[key] if key else found


class Registry:
    """Names of one kind of thing (backbones, decoders, losses), each imported when it is first asked for.

    Args:
        kind: what an entry is, in the singular, for error messages ("decoder").
        entries: public name to "module:attribute", or "module:table[key]".
        absent: names that people ask for though nothing has them, with the reason.
    """

    def __init__(self, kind: str, entries: Mapping[str, str], absent: Mapping[str, str] | None = None):
        self.kind = kind
        self._entries = dict(entries)
        self._absent = dict(absent or {})

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def check(self, name: str) -> None:
        """Raise UnknownNameError, listing what there is, unless `name` is registered; imports nothing."""
        if name in self._absent:
            raise UnknownNameError(f"There is no {self.kind} {name!r}: {self._absent[name]}")
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)

    def __getitem__(self, name: str) -> Any:
        """Import and return what is called `name`; UnknownNameError lists what there is."""
        self.check(name)
        return find(self._entries[name])

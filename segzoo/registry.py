"""A table from public names to where their objects live, so that listing names imports no framework."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from segzoo.errors import unknown_name


class Registry:
    """Names of one kind of thing (backbones, decoders, losses), each imported when it is first asked for.

    Args:
        kind: what an entry is, in the singular, for error messages ("decoder").
        entries: public name to "module:attribute".
    """

    def __init__(self, kind: str, entries: Mapping[str, str]):
        self.kind = kind
        self._entries = dict(entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> Any:
        """Import and return the object called `name`; UnknownNameError lists what there is."""
        if name not in self._entries:
            raise unknown_name(self.kind, name, self._entries)
        module, _, attribute = self._entries[name].partition(":")
        return getattr(importlib.import_module(module), attribute)

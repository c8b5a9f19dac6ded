"""Public names of a package that are imported when they are first used, so that the package imports no framework."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def attach(package: str, where: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` of a package (PEP 562), which lists what its `__all__` does.

    Args:
        package: its `__name__`.
        where: public name to the module that defines it.
    """

    def import_name(name: str) -> Any:
        if name in where:
            return getattr(importlib.import_module(where[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return import_name, lambda: list(sys.modules[package].__all__)

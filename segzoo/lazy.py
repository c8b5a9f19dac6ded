"""Public names of a package that are imported when they are first used, so that the package imports no framework."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
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


@contextmanager
def absent(*modules: str) -> Iterator[None]:
    """Let imports of these modules fail within the block, as if they were not installed; loaded ones stay.

    For packages that import a framework of hundreds of megabytes where it is installed, and do as well without it.
    """
    hidden = [name for name in modules if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)

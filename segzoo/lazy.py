"""Imports that wait until they are needed: public names of a package, and packages that another one imports."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
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


class _Deferred(types.ModuleType):
    """Stand-in for a module, which is imported when a name of it is used for the first time."""

    def __init__(self, name: str):
        super().__init__(name)
        self.__dict__["_segzoo_waits"] = True

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of the module itself; while the block lasts, and of the import system, there is none."""
        if self.__dict__["_segzoo_waits"] or name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} is imported later and has no attribute {name!r} yet")
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def deferred(*modules: str) -> Iterator[list[str]]:
    """Put stand-ins in the place of modules within the block, each imported when it is used after the block.

    For packages whose `import x` or `from x import y`, y a module that is named too, is of no use to most callers. To
    import anything else from one of these modules fails within the block, as if it were not installed. Modules that
    are loaded, and packages that are not installed, stay as they are; yields the names of the others.
    """
    waiting = {name: _Deferred(name) for name in modules if name not in sys.modules and is_installed(name)}
    sys.modules.update(waiting)
    try:
        yield list(waiting)
    finally:
        for name, module in waiting.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
            module.__dict__["_segzoo_waits"] = False


def is_installed(module: str) -> bool:
    """Return True if the package that a module is in can be found; nothing is imported."""
    return importlib.util.find_spec(module.partition(".")[0]) is not None

"""Modules and their sources, found without importing them."""

from __future__ import annotations

import importlib.util
import pkgutil
from collections.abc import Iterator
from importlib.machinery import PathFinder


def sources(package: str) -> Iterator[tuple[str, str | None]]:
    """Yield the name and the source of each module below a package, in the order of their names.

    Works wherever Python itself finds modules: in folders, wheels and zip files. The source is None where there is none
    to read, as in an application that was frozen to bytecode.
    """
    spec = importlib.util.find_spec(package)
    yield from _below(package, list(spec.submodule_search_locations or ()) if spec else [])


def source(module: str) -> str | None:
    """Return the source of a module, for which the packages around it are not imported either; None without one."""
    package, *inside = module.split(".")
    spec, name = importlib.util.find_spec(package), package
    for part in inside:
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, spec.submodule_search_locations) if spec else None
    return spec.loader.get_source(name) if spec and spec.loader else None  # type: ignore[attr-defined]  # all have it


def _below(package: str, places: list[str]) -> Iterator[tuple[str, str | None]]:
    for info in pkgutil.iter_modules(places, f"{package}."):
        spec = info.module_finder.find_spec(info.name, None)
        if spec is None or spec.loader is None:
            continue
        if info.ispkg:
            yield from _below(info.name, list(spec.submodule_search_locations or ()))
        else:
            yield info.name, spec.loader.get_source(info.name)  # type: ignore[attr-defined]  # all of these can

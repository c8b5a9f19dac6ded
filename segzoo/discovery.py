"""The modules of a package and their sources, found without importing them."""

from __future__ import annotations

import importlib.util
import pkgutil
from collections.abc import Iterator


def sources(package: str) -> Iterator[tuple[str, str | None]]:
    """Yield the name and the source of each module below a package, in the order of their names.

    Works wherever Python itself finds modules: in folders, wheels and zip files. The source is None where there is none
    to read, as in an application that was frozen to bytecode.
    """
    spec = importlib.util.find_spec(package)
    yield from _below(package, list(spec.submodule_search_locations or ()) if spec else [])


def _below(package: str, places: list[str]) -> Iterator[tuple[str, str | None]]:
    for info in pkgutil.iter_modules(places, f"{package}."):
        spec = info.module_finder.find_spec(info.name, None)
        if spec is None or spec.loader is None:
            continue
        if info.ispkg:
            yield from _below(info.name, list(spec.submodule_search_locations or ()))
        else:
            yield info.name, spec.loader.get_source(info.name)  # type: ignore[attr-defined]  # all of these can

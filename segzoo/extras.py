"""Commands that install optional dependencies, for a clone and for a package."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

DISTRIBUTION = "keras-segzoo"
"""Name on the package index; `segzoo` there is another project's."""


def install_command(*extras: str) -> str:
    """Return the command that installs these extras, quoted for a shell.

    A package of the index is named as there (`pip install "keras-segzoo[geo]"`). Where segzoo runs from a clone, or was
    installed from one, the clone is named instead: `pip install ".[geo]"` in the clone's own folder, else by its path.

    Args:
        extras: names of optional dependencies in pyproject.toml.
    """
    clone = _clone()
    if clone is None:
        return index_command(*extras)
    return _command("." if clone == Path.cwd() else str(clone), extras)


def missing_packages(modules: Iterable[str]) -> list[str]:
    """Return the modules that are not installed; none is imported."""
    return [name for name in modules if importlib.util.find_spec(name) is None]


def cure_of(what: str, missing: Sequence[str], *extras: str) -> str:
    """Return a message that something needs packages which are not installed, with the command that installs them.

    Args:
        what: what needs them, such as "This export".
        missing: names of the packages, one or more.
        extras: names of optional dependencies in pyproject.toml.
    """
    are = "is" if len(missing) == 1 else "are"
    return f"{what} needs {' and '.join(missing)}, which {are} not installed: {install_command(*extras)}"


def index_command(*extras: str) -> str:
    """Return the command for a package of the index, for documents that must not depend on the machine."""
    return _command(DISTRIBUTION, extras)


def _command(place: str, extras: tuple[str, ...]) -> str:
    return f'pip install "{place}[{",".join(extras)}]"'


@cache
def _clone() -> Path | None:
    """Return the root of the clone that segzoo runs from or was installed from; None for a package of an index."""
    beside = Path(__file__).resolve().parents[1]
    if _is_clone(beside):
        return beside
    try:
        text = importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
        address = urlsplit(str(json.loads(text)["url"])) if text else None
    except (importlib.metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        return None
    if address is None or address.scheme != "file":
        return None
    origin = Path(unquote(address.path))
    return origin if _is_clone(origin) else None


def _is_clone(folder: Path) -> bool:
    try:
        return f'name = "{DISTRIBUTION}"' in (folder / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False

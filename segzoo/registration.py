"""Registration of segzoo's classes with Keras, so that `import segzoo` is enough for `keras.models.load_model`.

Keras 3 finds a class of a saved model by its registered name alone (`saving/serialization_lib.py`: for packages other
than its own it imports no module), and a class is registered when its module runs. So the modules that define such
classes are imported as soon as Keras is there: at once where it was imported before segzoo, else when it is imported.
Until then nothing is, because `import segzoo` starts no framework.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import re
import sys
import threading
import types
from collections.abc import Sequence
from typing import Any

from segzoo.discovery import sources

# Packages with classes that Keras may save, and what registers one there: Keras's decorator, or a registry's. Metrics
# are functions.
_PACKAGES = ("layers", "decoders", "losses", "metrics", "models", "optim")
_REGISTRATION = re.compile(r"\bregister_keras_serializable\(|^@(?!METRICS)[A-Z_]+\.register\(", re.MULTILINE)


def modules() -> list[str]:
    """Return the modules that define classes which Keras may save, by their sources; imports none of them."""
    found = (module for package in _PACKAGES for module in sources(f"segzoo.{package}"))
    return [name for name, source in found if source is None or _REGISTRATION.search(source)]


def register_with_keras() -> None:
    """Register every class of segzoo: now where Keras is loaded, else at the end of the import that loads it.

    A watcher that is there already is replaced: notebooks reload segzoo, or remove it from `sys.modules` and import it
    again, and two watchers would each ask the other who finds a module.
    """
    sys.meta_path[:] = [finder for finder in sys.meta_path if _identity(type(finder)) != _identity(_Watcher)]
    if sys.modules.get("keras") is not None:
        _register()
    else:
        sys.meta_path.insert(0, _Watcher())


def _identity(kind: type) -> tuple[str, str]:
    """Return the module and name of a class, which stay when its module is run again."""
    return kind.__module__, kind.__qualname__


def _register() -> None:
    for module in modules():
        importlib.import_module(module)


class _Watcher(importlib.abc.MetaPathFinder):
    """Import hook that finds no module itself, but observes the end of imports of Keras and of segzoo's modules.

    Parts of segzoo import Keras too: then registering must wait until the outermost of them has run to its end, since
    its classes do not exist before. After that the finder removes itself.
    """

    def __init__(self) -> None:
        self._running = threading.local()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the specification that the other finders make, with a loader that reports its end.

        Raises:
            ConfigError: a part of segzoo imports Keras, whose backend cannot be used, see `backend.check_backend`.
            MissingPackageError: that backend is not installed.
        """
        if name != "keras" and not name.startswith("segzoo."):
            return None
        if name == "keras" and getattr(self._running, "depth", 0) > 0:
            from segzoo.backend import check_backend

            check_backend()  # a part of segzoo is about to import Keras; whoever imports it by hand gets its own answer
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        found = next((spec for finder in others if (spec := finder.find_spec(name, path, target))), None)
        if found is not None and found.loader is not None:
            found.loader = _Reporting(found.loader, self)
        return found

    def begin(self) -> None:
        """Count an import that has begun in this thread."""
        self._running.depth = getattr(self._running, "depth", 0) + 1

    def end(self, failed: bool) -> None:
        """Count an import that is over, and register after the outermost one if Keras has come with it."""
        self._running.depth -= 1
        if self._running.depth == 0 and not failed and sys.modules.get("keras") and self in sys.meta_path:
            sys.meta_path.remove(self)
            _register()


class _Reporting(importlib.abc.Loader):
    """Loader that delegates to another one, and notifies a watcher of the begin and end of execution."""

    def __init__(self, loader: importlib.abc.Loader, watcher: _Watcher):
        self._loader = loader
        self._watcher = watcher

    def __getattr__(self, name: str) -> Any:
        """Answer as the loader itself, of which runpy asks for code and inspect for source."""
        return getattr(self._loader, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType | None:
        """Create the module as its own loader does."""
        return self._loader.create_module(spec)

    def exec_module(self, module: types.ModuleType) -> None:
        """Run the module, from here on with its own loader as the one that it names."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._watcher.begin()
        failed = True
        try:
            self._loader.exec_module(module)
            failed = False
        finally:
            self._watcher.end(failed)

"""First import of Keras, without packages that a few of its functions, or of TensorFlow's, need and training does not.

Where they are installed, scikit-learn, Matplotlib, huggingface_hub and JAX are 40 % of the processor time of
`import keras` on TensorFlow. They are imported when one of those functions is used; a program that imported Keras
itself has them already.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

from segzoo.lazy import absent, deferred, is_installed

_WRAPPERS = ("SKLearnClassifier", "SKLearnRegressor", "SKLearnTransformer")
# Keras imports these as modules, for galleries and for models on the hub: stand-ins do for them.
_MODULES = ("matplotlib", "matplotlib.pyplot", "matplotlib.patches", "huggingface_hub")


def import_keras(backend: str) -> types.ModuleType:
    """Import Keras and its backend, if nobody has yet.

    Args:
        backend: name of the backend that Keras will choose.

    Raises:
        ImportError: a package is broken or missing.
        ValueError: settings that Keras refuses.
    """
    if "keras" not in sys.modules:
        unused = {"sklearn": _defer_wrappers}
        if backend == "tensorflow" and "tensorflow" not in sys.modules:
            unused["jax"] = _defer_conversion
        unused = {name: defer for name, defer in unused.items() if name not in sys.modules and is_installed(name)}
        with absent(*unused), deferred(*_MODULES):
            importlib.import_module("keras")
        for defer in unused.values():
            defer()
    return sys.modules["keras"]


def _defer_wrappers() -> None:
    """Let Keras's wrappers for scikit-learn, whose base classes come from there, be made when one is asked for."""
    homes = [module for name in ("keras.wrappers", "keras.src.wrappers") if (module := sys.modules.get(name))]

    def made(name: str) -> Any:
        if name not in _WRAPPERS:
            raise AttributeError(f"module 'keras.wrappers' has no attribute {name!r}")
        for module in ("fixes", "utils", "sklearn_wrapper"):
            importlib.reload(sys.modules[f"keras.src.wrappers.{module}"])
        for home in homes:
            del home.__getattr__
            vars(home).update(
                {each: getattr(sys.modules["keras.src.wrappers.sklearn_wrapper"], each) for each in _WRAPPERS}
            )
        return getattr(homes[0], name)

    for home in homes:
        for name in _WRAPPERS:
            vars(home).pop(name, None)
        home.__getattr__ = made  # type: ignore[method-assign]


def _defer_conversion() -> None:
    """Let TensorFlow's converter of JAX functions to TFLite import `jax.jit` when it calls it."""

    def jit(*given: Any, **named: Any) -> Any:
        return importlib.import_module("jax").jit(*given, **named)

    for name in ("tensorflow.lite.python.util", "tensorflow.lite.python.lite"):
        if name in sys.modules:
            sys.modules[name]._jit = jit  # type: ignore[attr-defined]

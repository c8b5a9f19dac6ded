"""Plugins: user modules that register decoders, losses and other objects (`Registry.register`).

Importing a module runs its code. So segzoo imports what the user names to it: in the configuration that a command is
given, by `--plugin`, or by `load` in Python. The list in a run folder's configuration is compared with what is
loaded, and never imported.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from segzoo.errors import RegistrationError

_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def load(names: Iterable[str]) -> None:
    """Import modules by their dotted names, such as "my_package.my_module"; those that are loaded stay as they are.

    The working directory is searched too, after everything else.

    Raises:
        RegistrationError: a module that does not exist or cannot be imported; the message includes the cause.
    """
    for name in names:
        if not _NAME.fullmatch(name):
            raise RegistrationError(f"A plugin is named as in an import, such as my_package.my_module, not {name!r}.")
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        try:
            importlib.import_module(name)
        except RegistrationError:
            raise
        except Exception as error:
            raise RegistrationError(_failure(name, error)) from error


def missing(names: Iterable[str]) -> list[str]:
    """Return those of the names whose modules are not loaded; imports nothing."""
    return [name for name in names if name not in sys.modules]


def _failure(name: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
        return (
            f"There is no module {error.name!r} for the plugin {name}. Install it, or start the command in the folder "
            "that it lies in, or add that folder to PYTHONPATH."
        )
    return f"The plugin {name} cannot be imported: {type(error).__name__}: {error}"

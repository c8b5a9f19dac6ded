"""Errors that a user can act on: each message says what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path


class SegzooError(Exception):
    """Base of all errors raised on purpose; the command line prints one as a paragraph, without a traceback."""


class ConfigError(SegzooError):
    """A configuration file, key, value or override that cannot be used."""


class DataError(SegzooError):
    """Images, masks or labels that cannot be used.

    Args:
        message: what is wrong, where, and what to do.
        kind: a key of `segzoo.data.problems.KINDS`, by which `check-data` sorts what it finds.
    """

    def __init__(self, message: str, kind: str = "unusable"):
        super().__init__(message)
        self.kind = kind


class WeightsError(SegzooError):
    """Weights that are missing, unreadable or made for another network."""


class MissingPackageError(SegzooError, ImportError):
    """A package that segzoo does not install by itself, and that something asked for needs."""


class RunError(SegzooError):
    """A run folder that cannot be used, or a training run that had to stop."""


class RunInterruptedError(RunError):
    """A training run that a signal stopped after its state was saved; the same command goes on with it."""


class StorageError(SegzooError, OSError):
    """A file that the operating system would not let segzoo write: a full disk, a read-only folder, a quota."""

    @classmethod
    def of(cls, error: OSError, path: Path) -> StorageError:
        """What `error` says about `path`, the file that was meant to be written."""
        return cls(error.errno, os.strerror(error.errno) if error.errno else str(error), str(path))

    def __str__(self) -> str:
        return f"{self.filename} cannot be written: {str(self.strerror).rstrip('.')}."


class UnknownNameError(SegzooError, ValueError):
    """A name that no registry entry, class or level has."""


def unknown_name(kind: str, name: object, known: Iterable[str]) -> UnknownNameError:
    """Return an error that names the nearest known names and lists all of them.

    Args:
        kind: what the name was meant to be, in the singular ("backbone").
        name: what was asked for.
        known: the names that exist.
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return UnknownNameError(f"Unknown {kind} {str(name)!r}.{hint} Known: {', '.join(names)}.")

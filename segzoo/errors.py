"""Errors that a user can act on: each message says what was wrong, where, and what to do."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
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


class HubError(SegzooError):
    """A repository of a hub that cannot be found, reached, read or written to, or holds something else than it says."""


class AddressError(HubError, ValueError):
    """An address of a hub that is malformed, or names no hub that segzoo knows."""


class MissingPackageError(SegzooError, ImportError):
    """A package that segzoo does not install by itself, and that something asked for needs."""


class RunError(SegzooError):
    """A run folder that cannot be used, or a training run that had to stop."""


class RunInterruptedError(RunError):
    """A training run that a signal stopped after its state was saved; the same command resumes it."""


class StorageError(SegzooError, OSError):
    """A file that the operating system would not let segzoo write: a full disk, a read-only folder, a quota."""

    @classmethod
    def of(cls, error: OSError, path: Path) -> StorageError:
        """Convert an OSError on writing `path`."""
        return cls(error.errno, os.strerror(error.errno) if error.errno else str(error), str(path))

    def __str__(self) -> str:
        return f"{self.filename} cannot be written: {str(self.strerror).rstrip('.')}."


class UnknownNameError(SegzooError, ValueError):
    """A name that no registry entry, class or level has."""


class RegistrationError(SegzooError, ValueError):
    """A thing that cannot be registered under a name, or a plugin that cannot be imported."""


# Beyond these a list of names is no help to a reader, and a search for the nearest takes seconds.
_LISTED, _COMPARED = 200, 5000
# Up to so many names a message on one that none of them is lists them all; beyond, those alike are more help.
_FEW, _NEAR_OF_FEW, _NEAR_OF_MANY = 20, 3, 5
_SHOWN = 60  # characters of a text that a message repeats


def listed(names: Iterable[str]) -> str:
    """Join names with commas; of more than 200 the first, and their number."""
    found = list(names)
    return ", ".join(found[:_LISTED]) + (f", ... ({len(found):,} in all)" if len(found) > _LISTED else "")


def shortened(text: str) -> str:
    """Return the `repr` of a text, of at most some 60 characters."""
    return repr(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")


def wrong_type(what: str, wanted: str, value: object) -> SegzooError:
    """Return an error for an argument whose value is of another type than the argument takes.

    Args:
        what: name of the argument, such as "classes".
        wanted: what it takes, in words, such as "a whole number above 0".
        value: value that was given.
    """
    return SegzooError(f"{what} must be {wanted}, not {_of_type(value)}.")


def check_is_name(kind: str, name: object, example: str) -> None:
    """Raise UnknownNameError unless a value that should name a thing is a string.

    Args:
        kind: kind of thing that it should name, in the singular ("backbone").
        name: value that was given, such as a list or a class.
        example: a name that exists.
    """
    if not isinstance(name, str):
        raise UnknownNameError(f"Name the {kind} by a string, such as {example!r}, not by {_of_type(name)}.")


def _of_type(value: object) -> str:
    """Return a value, shortened, with the name of its type."""
    text = repr(value)
    return f"{text if len(text) <= _SHOWN else text[: _SHOWN - 3] + '...'} (of the type {type(value).__name__})"


def nearest(name: str, known: Sequence[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Return the names closest to `name`, at most `most`; none if there are thousands of candidates."""
    if len(name) > 1000 or len(known) > _COMPARED:
        return []
    return difflib.get_close_matches(name, known, n=most, cutoff=cutoff)


def alternatives(name: str, known: Sequence[str], elsewhere: str = "", families: Iterable[str] = ()) -> str:
    """Return sentences on the names that `name` may stand for: the nearest, and all of them unless they are many.

    Args:
        name: name that nothing has.
        known: the names that exist.
        elsewhere: the place that lists all of them, with its preposition ("by segzoo backbones"), which more than 20
            are left to; empty: there is none.
        families: names of groups of the known ones, shown where these are many and none is near.
    """
    if not known:
        return "There are none."
    many = len(known) > _FEW
    near = nearest(name, known, most=_NEAR_OF_MANY if many else _NEAR_OF_FEW)
    where = f"All {len(known):,} are listed {elsewhere}." if many and elsewhere else ""
    groups = f"Families: {', '.join(families)}." if families else ""
    if near:
        hint = f"Did you mean {', '.join(near[:-1])}{' or ' if near[1:] else ''}{near[-1]}?"
        return f"{hint} {where}".rstrip() if many else f"{hint} Known: {listed(known)}."
    return f"{groups} {where}".lstrip() if where else f"Known: {listed(known)}."


def unknown_name(
    kind: str, name: object, known: Iterable[str], elsewhere: str = "", families: Iterable[str] = ()
) -> UnknownNameError:
    """Return an error that names the nearest known names, and lists all of them unless they are many.

    Args:
        kind: kind of thing that the name should refer to, in the singular ("backbone").
        name: name that was requested.
        known: the names that exist.
        elsewhere: as `alternatives` takes it.
        families: as `alternatives` takes it.
    """
    said = alternatives(str(name), sorted(known), elsewhere, families)
    return UnknownNameError(f"Unknown {kind} {shortened(str(name))}. {said}")

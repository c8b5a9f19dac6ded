"""Validation errors with the key that they belong to, and the wording that their messages share."""

from __future__ import annotations

from collections.abc import Iterable

from segzoo.errors import listed, nearest, shortened


class ProblemAt(ValueError):
    """A mistake below the value under validation.

    Args:
        at: keys that lead from the validated value to the mistake.
        message: what is wrong and what is allowed.
    """

    def __init__(self, at: tuple[str | int, ...], message: str):
        super().__init__(message)
        self.at = at


def not_among(kind: str, name: str, known: Iterable[str]) -> str:
    """Return a message that `name` is unknown, with the nearest known name and a list of all."""
    names = list(known)
    near = nearest(name, names)
    hint = f"; did you mean {near[0]}?" if near else "."
    there = f"Known: {listed(names)}." if names else "There are none."
    return f"{shortened(name)} is no {kind}{hint} {there}"


def given(value: object) -> str:
    """Return a value as the user wrote it, shortened; null, mappings and texts are marked as such."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        keys = ", ".join(key if str(key).isprintable() else repr(key) for key in map(str, value))
        return f"a mapping with the keys {keys}"[:80] if value else "an empty mapping"
    if isinstance(value, str):
        return f"the text {shortened(value)}"
    text = repr(value[:30] if isinstance(value, list) else value)  # of a long list only its beginning is shown
    return text if len(text) <= 60 else text[:57] + "..."

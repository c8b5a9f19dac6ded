"""Validators of text: names and paths that are safe in terminals, tables and file systems."""

from __future__ import annotations

import os
import unicodedata

from segzoo.files import expanded, unnameable

_NAME_BYTES = 255  # of a file name, on every common file system
_CONTROLS = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, separators of lines and paragraphs


def one_line(text: str) -> str:
    """Return `text`; ValueError where it holds a control character, or a separator of lines."""
    for place, character in enumerate(text):
        if unicodedata.category(character) in _CONTROLS:
            raise ValueError(
                f"the character {character!r} at position {place} has no place in a name or path; leave it out"
            )
    return text


def path(text: str) -> str:
    """Return a path with a leading ~ or ~user expanded.

    Raises:
        ValueError: a part of the path is longer than file systems take, the system's encoding of names lacks a letter
            of it, or there is no such user.
    """
    for part in text.split("/"):
        if (length := len(part.encode())) > _NAME_BYTES:
            raise ValueError(f"{part[:30]!r}... has {length} bytes, and file names have at most {_NAME_BYTES}")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise ValueError(unnameable(error)) from None
    return str(expanded(text)) if text.startswith("~") else text

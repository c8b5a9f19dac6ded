"""Validators of text: names and paths that are safe in terminals, tables and file systems."""

from __future__ import annotations

import os
import unicodedata

from segzoo import hub
from segzoo.files import expanded, unnameable

_NAME_BYTES = 255  # of a file name, on every common file system
_CONTROLS = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, separators of lines and paragraphs


def one_line(text: str) -> str:
    """Return `text`; raise ValueError if it contains a control character or a line separator."""
    for place, character in enumerate(text):
        if unicodedata.category(character) in _CONTROLS:
            raise ValueError(
                f"the character {character!r} at position {place} has no place in a name or path; leave it out"
            )
    return text


def address(text: str) -> str:
    """Return `text`; raise AddressError, a ValueError, if it is a malformed address of a hub rather than a path."""
    if hub.is_address(text):
        hub.parse(text)
    return text


def path(text: str) -> str:
    """Return a path with a leading ~ or ~user expanded.

    Raises:
        ValueError: a component of the path is longer than file systems allow, a character does not exist in the
            file system's encoding, or the user is unknown.
    """
    for part in text.split("/"):
        if (length := len(part.encode())) > _NAME_BYTES:
            raise ValueError(f"{part[:30]!r}... has {length} bytes, and file names have at most {_NAME_BYTES}")
    try:
        os.fsencode(text)
    except UnicodeEncodeError as error:
        raise ValueError(unnameable(error)) from None
    return str(expanded(text)) if text.startswith("~") else text

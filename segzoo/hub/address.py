"""Addresses of runs and weights files on hubs: the one place that reads and writes them.

    hf://USER/NAME[@REVISION][/FILE]
    kaggle://OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION][/FILE]

The first is the grammar of `huggingface_hub`, whose revisions are branches, tags and commits; the second that of
`kagglehub`, whose versions are numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from segzoo.errors import AddressError, shortened

# Two letters or more before the colon: a single one is a drive of Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_COLLAPSED = re.compile(r"(hf|kaggle):/+")  # which pathlib makes of "hf://"
# A name as both hubs allow it: ASCII letters, digits, "-", "_" and ".", the ends a letter or digit or "_".
_NAME = re.compile(r"\w(?:[\w.-]{0,94}\w)?", re.ASCII)
_REFERENCE = re.compile(r"refs/(?:pr|convert)/[\w.-]+", re.ASCII)
_VERSION = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_FORMS = {
    "hf": "hf://USER/NAME[@REVISION][/FILE]",
    "kaggle": "kaggle://OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION][/FILE]",
}


@dataclass(frozen=True)
class Address:
    """A repository of a hub, or a file in it.

    Attributes:
        scheme: "hf" or "kaggle".
        repository: name of the repository as its hub's library takes it.
        revision: branch, tag, commit or version; None: the newest.
        file: path of a file in the repository, with "/" between folders; None: the run that it holds.
    """

    scheme: str
    repository: str
    revision: str | None = None
    file: str | None = None

    def at(self, revision: str) -> Address:
        """Return the same address at a revision."""
        return replace(self, revision=revision)

    def of(self, file: str | None) -> Address:
        """Return the address of a file in the same repository, of the repository itself for None."""
        return replace(self, file=file)

    def __str__(self) -> str:
        """Return the address as `parse` reads it."""
        revision = _WRITERS[self.scheme](self.revision) if self.revision else ""
        return f"{self.scheme}://{self.repository}{revision}{f'/{self.file}' if self.file else ''}"


def is_address(text: str) -> bool:
    """Return True if a text has the form of an address, well-formed or not, rather than of a path."""
    return _SCHEME.match(text) is not None or _COLLAPSED.match(text) is not None


def parse(text: str) -> Address:
    """Read an address.

    Raises:
        AddressError: another form, or a scheme other than hf and kaggle.
    """
    scheme = _SCHEME.match(text)
    if scheme is None:
        if _COLLAPSED.match(text):
            raise AddressError(
                f"{shortened(text)} has lost a slash, as an address does that was made a pathlib.Path: give it as a "
                "text, with two slashes after the colon."
            )
        raise AddressError(f"{shortened(text)} is no address of a hub. Addresses: {_listed()}.")
    if scheme[1] not in _READERS:
        raise AddressError(f"{shortened(text)}: there is no hub {scheme[1]}:// here. Addresses: {_listed()}.")
    found = _READERS[scheme[1]](text[scheme.end() :])
    if found is None:
        raise AddressError(f"{shortened(text)} is not of the form {_FORMS[scheme[1]]}.")
    return found


def _listed() -> str:
    return " and ".join(_FORMS.values())


def _read_hf(rest: str) -> Address | None:
    user, _, rest = rest.partition("/")
    # An "@" behind the next slash is part of a file's name.
    head, slash, tail = rest.partition("/")
    name, at, revision = head.partition("@")
    if at and (reference := _REFERENCE.match(f"{revision}{slash}{tail}")):
        revision, left = reference[0], f"{revision}{slash}{tail}"[reference.end() :]
        if left and not left.startswith("/"):
            return None
        slash, tail = left[:1], left[1:]
    revision = unquote(revision)
    if not (_is_name(user) and _is_name(name)) or (at and not _is_revision(revision)):
        return None
    if slash and not _is_inside(tail):
        return None
    return Address("hf", f"{user}/{name}", revision or None, tail or None)


def _read_kaggle(rest: str) -> Address | None:
    parts = rest.split("/")
    names, rest_of = parts[:4], parts[4:]
    if len(names) < 4 or not all(_is_name(name) for name in names):
        return None
    version = rest_of.pop(0) if rest_of and _VERSION.fullmatch(rest_of[0]) else None
    file = "/".join(rest_of)
    if rest_of and not _is_inside(file):
        return None
    return Address("kaggle", "/".join(names), version, file or None)


def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None and "--" not in text and ".." not in text


def _is_revision(text: str) -> bool:
    """Return True for what Git allows as the name of a branch or tag, or for a commit."""
    return re.fullmatch(r"\w[\w./+-]*", text) is not None and ".." not in text and "//" not in text


def _is_inside(file: str) -> bool:
    """Return True for the path of a file that cannot lead out of its repository."""
    return all(part not in ("", ".", "..") for part in file.split("/")) and re.search(r"[\\\x00-\x1f:]", file) is None


_READERS: dict[str, Callable[[str], Address | None]] = {"hf": _read_hf, "kaggle": _read_kaggle}
_WRITERS: dict[str, Callable[[str], str]] = {
    "hf": lambda revision: "@" + (revision if _REFERENCE.fullmatch(revision) else quote(revision, safe="")),
    "kaggle": lambda version: f"/{version}",
}

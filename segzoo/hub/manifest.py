"""Manifest of a pushed run, segzoo.json: its files and their digests."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segzoo.errors import HubError, shortened
from segzoo.files import read_at_most, replacing

NAME = "segzoo.json"
#: The model card, which lies beside it.
CARD = "README.md"
#: All files of a run that are pushed, fetched and read; a manifest that names others is refused.
CONFIG = "config.yaml"
WEIGHTS = ("best.weights.h5", "last.weights.h5")
THRESHOLDS = ("best.thresholds.json", "last.thresholds.json")
FILES = (CONFIG, "environment.json", "class_pixels.json", *WEIGHTS, *THRESHOLDS)
_FORMAT = 1
_MOST = 2**20  # bytes: a manifest has five lines
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Manifest:
    """Files of a run and their digests.

    Attributes:
        files: name to sha256 in hexadecimal.
        version: version of segzoo that wrote it.
    """

    files: Mapping[str, str]
    version: str

    @classmethod
    def of(cls, folder: Path, version: str) -> Manifest:
        """Describe the files of a run in a folder."""
        return cls({name: sha256_of(folder / name) for name in FILES if (folder / name).is_file()}, version)

    @classmethod
    def read(cls, path: Path, origin: str) -> Manifest:
        """Read and check a manifest.

        Args:
            path: the file.
            origin: address or folder that it is of, for messages.

        Raises:
            HubError: another format, a newer one, or names of files that a run does not have.
        """
        try:
            found = json.loads(read_at_most(path, _MOST).decode("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise _unreadable(origin, f"it is no JSON ({error})") from error
        if not isinstance(found, dict):
            raise _unreadable(origin, "it is no table")
        if found.get("format") != _FORMAT:
            raise HubError(
                f"{origin} was pushed in the format {shortened(str(found.get('format')))}, and this version of segzoo "
                f"reads format {_FORMAT}. Install the version that pushed it or a newer one, or push it again."
            )
        return cls(_checked(found.get("files"), origin), str(found.get("segzoo")))

    def write(self, folder: Path) -> None:
        """Write the manifest into a folder."""
        with replacing(folder / NAME) as temporary:
            text = json.dumps({"format": _FORMAT, "segzoo": self.version, "files": dict(self.files)}, indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked(files: Any, origin: str) -> dict[str, str]:
    if not isinstance(files, dict):
        raise _unreadable(origin, "it lists no files")
    for name, digest in files.items():
        if name not in FILES:
            raise HubError(
                f"{origin}: its {NAME} names {shortened(name)}, which no run has that segzoo pushes. Of a hub segzoo "
                f"reads {', '.join(FILES)} and nothing else, so nothing was fetched."
            )
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest):
            raise _unreadable(origin, f"{name} has no sha256")
    if CONFIG not in files or not any(name in files for name in WEIGHTS):
        raise _unreadable(origin, f"it lists no {CONFIG}, or no weights")
    return files


def _unreadable(origin: str, reason: str) -> HubError:
    return HubError(f"{origin}: its {NAME} cannot be used: {reason}. Push the run again by segzoo push.")

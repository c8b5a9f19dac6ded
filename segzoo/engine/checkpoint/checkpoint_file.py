"""Checkpoint file: arrays with checksums, in two generations, so that a crash or a bad disk cannot lose both."""

from __future__ import annotations

import hashlib
import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segzoo import files
from segzoo.errors import RunError

_FORMAT = 2
_DIGEST_BYTES = 64  # a sha256 in hexadecimal, the comment of the zip archive and so the file's last bytes


class DamagedStateWarning(UserWarning):
    """The newest generation of a run state cannot be read, so the previous one is used."""


@dataclass(frozen=True)
class Stored:
    """Content of one generation.

    Attributes:
        facts: JSON-serialisable values.
        arrays: arrays by name.
    """

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]

    @property
    def is_bare(self) -> bool:
        """True if it holds facts only: a finished run has dropped its variables."""
        return not self.arrays


def previous_of(path: Path) -> Path:
    """Return the path of the previous generation: state.npz has state.previous.npz."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


def write(path: Path, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Write a new generation to `path`, a plain `.npz`; the existing one becomes the previous generation.

    The sha256 of all bytes before it is the archive's comment.

    Raises:
        StorageError: the file system reports an error; both generations are unchanged.
    """
    text = json.dumps({"format": _FORMAT, **facts})
    with files.replacing(path, previous=previous_of(path)) as temporary:
        # Made in memory: zipfile goes back to fill in sizes, and the digest needs one pass over the whole.
        content = io.BytesIO()
        np.savez(content, **{"facts": np.array(text), **arrays})  # type: ignore[arg-type]
        with zipfile.ZipFile(content, "a") as archive:
            archive.comment = b"0" * _DIGEST_BYTES
        whole = content.getbuffer()[:-_DIGEST_BYTES]
        with temporary.open("wb") as stream:
            stream.write(whole)
            stream.write(hashlib.sha256(whole).hexdigest().encode())


def read(path: Path, *, mend: bool = False) -> Stored | None:
    """Read the newest intact generation; None if there is no file.

    Args:
        path: path of the newest generation.
        mend: remove a damaged newest one, so that the next `write` cannot take it for the previous one. Only who may
            write to the run folder sets it.

    Raises:
        RunError: the checkpoint is unreadable, or was written by another version of segzoo.

    Warns:
        DamagedStateWarning: the newest checkpoint is damaged and the previous one was read.
    """
    previous = previous_of(path)
    trouble: list[str] = []
    for candidate in (path, previous):
        if not candidate.is_file():
            continue  # of a write that was cut off between its two renamings only the previous one is left
        try:
            stored = _read_one(candidate)
        except RunError:
            raise
        except Exception as error:  # zipfile and NumPy raise a dozen kinds on bytes that are no archive
            trouble.append(f"{candidate} ({type(error).__name__}: {error})")
            continue
        if trouble:
            warnings.warn(
                f"The newest run state is damaged: {trouble[0]}. The one before it, {candidate}, is used; the steps "
                "between the two are done again.",
                DamagedStateWarning,
                stacklevel=2,
            )
            if mend:
                files.remove(path)
        return stored
    if trouble:
        raise RunError(
            f"No generation of the run state can be read: {'; '.join(trouble)}. Put back a copy of one of them, or "
            "train anew with --overwrite; weights that are in the folder can be kept by copying them elsewhere."
        )
    return None


def _read_one(path: Path) -> Stored:
    content = path.read_bytes()
    whole, digest = memoryview(content)[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(whole).hexdigest().encode() != digest:
        if b"meta.npy" in content[:100]:  # the first member of the files of version 0.1.0, which had no digest
            raise RunError(f"{path} was written by another version of segzoo; train anew, or use that version.")
        raise ValueError("its checksum is wrong")
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    facts = json.loads(str(arrays.pop("facts")))
    if not isinstance(facts, dict):
        raise ValueError(f"its facts are of the type {type(facts).__name__}")
    if facts.pop("format") != _FORMAT:
        raise RunError(f"{path} was written by another version of segzoo; train anew, or use that version.")
    return Stored(facts, arrays)

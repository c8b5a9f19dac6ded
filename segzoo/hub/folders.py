"""Pushing to a folder of this machine."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from segzoo.errors import HubError
from segzoo.files import check_folder, make_folder, operation, remove
from segzoo.hub import manifest

_PUSHED = (*manifest.FILES, manifest.NAME, manifest.CARD)


def refuse_taken(folder: Path, overwrite: bool) -> None:
    """Raise HubError if a push to `folder` would lose something, StorageError if nothing can be written there."""
    check_folder(folder)
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / manifest.NAME).is_file():
        raise HubError(f"{folder} is not empty and holds no pushed run, so it is left alone; name another one.")
    if not overwrite:
        raise HubError(f"{folder} holds a pushed run already; replace it with --overwrite, or name another one.")
    others = sorted(path.name for path in folder.iterdir() if path.name not in _PUSHED)
    if others:
        named = f"{', '.join(others[:3])}{' and others' if len(others) > 3 else ''}"
        raise HubError(
            f"{folder} holds a pushed run, and beside it {named}, which --overwrite would remove; an evaluation of the "
            "pushed run writes there. Move what you need elsewhere and remove the rest, or name another folder."
        )


def push_to_folder(source: Path, folder: Path) -> None:
    """Copy the files of `source` into `folder` in one step: whoever looks sees the old ones, none, or all new ones.

    Raises:
        StorageError: the disk is full, the folder cannot be written, or the like; the old files are left, and no
            parent folder that was made for it.
    """
    made_parents = [parent for parent in folder.absolute().parents if not parent.exists()]  # the deepest first
    try:
        make_folder(folder.parent)
        _replace(source, folder)
    except BaseException:
        for parent in made_parents:
            with suppress(OSError):  # not made, or somebody else has put something there
                parent.rmdir()
        raise


def _replace(source: Path, folder: Path) -> None:
    made, old = (folder.with_name(f".{os.getpid()}-{kind}-{folder.name}") for kind in ("new", "old"))
    try:
        with operation("write", folder):
            shutil.copytree(source, made)
            for path in made.iterdir():
                with path.open("rb") as stream:
                    os.fsync(stream.fileno())
        if folder.exists():
            with operation("keep", folder):
                folder.rename(old)
        try:
            with operation("replace", folder):
                made.rename(folder)
        except BaseException:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    remove(old)

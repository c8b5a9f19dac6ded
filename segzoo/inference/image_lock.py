"""Lock of an image that is predicted by windows: of several processes that write into one folder, one predicts it."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from segzoo.errors import SegzooError
from segzoo.files import make_folder, replacing
from segzoo.inference.writers.contract import Job
from segzoo.locks import locked


@contextmanager
def locked_image(root: Path, job: Job) -> Iterator[None]:
    """Lock the partial results of an image within the block; the lock of a killed process is taken over.

    Args:
        root: folder of the partial results of all images.
        job: the image.

    Raises:
        SegzooError: another process predicts the image into the same folder; names it, and since when it does.
        StorageError: the lock cannot be written.
    """
    lock = _lock_of(root, job)
    holder = lock.with_suffix(".json")
    make_folder(lock.parent)
    try:
        with locked(lock, lambda: _refusal(root, job, holder)):
            with replacing(holder) as temporary:
                since = datetime.now().astimezone().isoformat(" ", "seconds")
                facts = {"image": str(job.image), "host": platform.node(), "pid": os.getpid(), "since": since}
                temporary.write_text(json.dumps(facts) + "\n", encoding="utf-8")
            try:
                yield
            finally:
                for path in (holder, lock):  # while it is held: later the lock may be another's
                    with suppress(OSError):  # Windows removes no file that is open
                        path.unlink()
    finally:
        remove_empty_folders(root, job)


def remove_empty_folders(root: Path, job: Job) -> None:
    """Remove the folders above the partial results of an image, up to `root`, that are empty."""
    for above in (root / job.name).parents[: len(job.name.parts)]:
        with suppress(OSError):  # others are in it
            above.rmdir()


def _lock_of(root: Path, job: Job) -> Path:
    """Return the path of a lock file, whose name is short, whatever that of the image is."""
    digest = hashlib.sha256(os.fsencode(job.name.name)).hexdigest()[:16]
    return root / job.name.parent / f".{digest}.lock"


def _refusal(root: Path, job: Job, holder: Path) -> SegzooError:
    try:
        facts = json.loads(holder.read_text(encoding="utf-8"))
        who = f" (process {facts['pid']} on {facts['host']}, since {facts['since']})"
    except (OSError, ValueError, LookupError, TypeError):  # it has just begun or ended
        who = ""
    return SegzooError(
        f"Another process is predicting {job.image} into {root.parent}{who}. Wait for it or stop it, or choose another "
        "output folder."
    )

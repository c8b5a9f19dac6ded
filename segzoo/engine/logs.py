"""Log writers: TensorBoard event files and the CSV of epochs."""

from __future__ import annotations

import csv
import itertools
import os
import platform
import re
import time
from collections.abc import Mapping
from io import FileIO, TextIOWrapper
from pathlib import Path
from typing import Any

from segzoo import files
from segzoo.escaping import printable

_NUMBERS = itertools.count()  # of the event files of a process
_NOT_SENT = ("seconds", "val_seconds")  # no later run compares with these


def sent_figures(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of an epoch that TensorBoard and trackers get."""
    return {key: value for key, value in row.items() if isinstance(value, float) and key not in _NOT_SENT}


class TensorBoardLog:
    """Writer of TensorBoard event files with scalars and pictures, independent of any framework.

    Args:
        folder: folder for the event files.
        purge_step: what earlier event files say of this and later steps no longer holds: a crashed process wrote it,
            and the steps are done again. None where there is no earlier file.
    """

    def __init__(self, folder: Path, purge_step: int | None = None):
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        files.make_folder(folder)
        now = time.time()
        self._path = folder / f"events.out.tfevents.{now:010.0f}.{_host()}.{os.getpid()}.{next(_NUMBERS)}"
        with files.operation("append", self._path):
            # TensorBoard's own writer has a thread and, where there is TensorFlow, its file system: a full disk ends
            # the one and has the errors of the other. Without a buffer a record is in the file or refused at once.
            self._file = self._path.open("wb", buffering=0)
        self._records = RecordWriter(_Whole(self._file))
        self._add(Event(wall_time=now, file_version="brain.Event:2"))
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._add(Event(wall_time=time.time(), step=purge_step, session_log=start))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Add one value for each tag at `step`."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._summary(step, [Summary.Value(tag=printable(tag), simple_value=value) for tag, value in values.items()])

    def picture(self, step: int, tag: str, path: Path) -> None:
        """Add the PNG at `path`."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(encoded_image_string=path.read_bytes())
        self._summary(step, [Summary.Value(tag=printable(tag), image=image)])

    def graph(self, definition: Any) -> None:
        """Add a `GraphDef`, which the graphs tab shows."""
        from tensorboard.compat.proto.event_pb2 import Event

        self._add(Event(wall_time=time.time(), graph_def=definition.SerializeToString()))

    def _summary(self, step: int, values: list[Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _add(self, event: Any) -> None:
        with files.operation("append", self._path):
            self._records.write(event.SerializeToString())

    def close(self) -> None:
        """Close the event file; StorageError on failure."""
        with files.operation("append", self._path):
            self._file.close()


class _Whole:
    """File whose `write` is complete or raises: an unbuffered write may be partial."""

    def __init__(self, file: FileIO):
        self._file = file

    def write(self, content: bytes) -> None:
        """Write all bytes; on an error the file is truncated to its previous length."""
        start = self._file.tell()
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.seek(start)
            self._file.truncate()
            raise


def _host() -> str:
    return re.sub(r"[^\w.-]", "_", platform.node()) or "unknown"


def _opened(path: Path) -> TextIOWrapper:
    return path.open("w", newline="", encoding="utf-8", errors="backslashreplace")  # names can hold what UTF-8 cannot


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV, a column for each key in order of appearance; the file is replaced as a whole."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with files.replacing(path) as temporary, _opened(temporary) as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)

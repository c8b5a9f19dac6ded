"""Where figures go besides the screen: TensorBoard event files and the CSV of epochs."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

from segzoo import files


class TensorBoardLog:
    """Scalars and pictures as TensorBoard event files, without going through a framework.

    Args:
        folder: where the event files go.
        purge_step: what earlier event files say of this and later steps no longer holds: a crashed process wrote it,
            and the steps are done again. None where there is no earlier file.
    """

    def __init__(self, folder: Path, purge_step: int | None = None):
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._folder = folder
        with files.operation("make folder", folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventFileWriter(str(folder))
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._add(Event(wall_time=time.time(), step=purge_step, session_log=start))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Add one value for each tag at `step`."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._summary(step, [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])

    def picture(self, step: int, tag: str, path: Path) -> None:
        """Add the PNG at `path`."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(encoded_image_string=path.read_bytes())
        self._summary(step, [Summary.Value(tag=tag, image=image)])

    def _summary(self, step: int, values: list[Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _add(self, event: Any) -> None:
        with files.operation("append", self._folder):
            try:
                self._writer.add_event(event)
                self._writer.flush()
            except OSError:
                raise
            except Exception as error:  # where TensorFlow is installed its file system is used, with errors of its own
                raise OSError(str(error)) from error

    def close(self) -> None:
        """Flush and close the event file; StorageError where that is refused."""
        with files.operation("append", self._folder):
            self._writer.close()


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV, a column for each key in order of appearance; the file is replaced as a whole."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with files.replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)

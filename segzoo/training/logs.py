"""Where figures go besides the screen: TensorBoard event files and the CSV of epochs."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Any

from segzoo.files import replacing


class TensorBoardLog:
    """Scalars and pictures as TensorBoard event files, without going through a framework.

    Args:
        folder: where the event files go.
    """

    def __init__(self, folder: Path):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventFileWriter(str(folder))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Add one value for each tag at `step`."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(step, Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]))

    def picture(self, step: int, tag: str, path: Path) -> None:
        """Add the PNG at `path`."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(encoded_image_string=path.read_bytes())
        self._add(step, Summary(value=[Summary.Value(tag=tag, image=image)]))

    def graph(self, definition: Any) -> None:
        """Add a `GraphDef`, which the graphs tab shows."""
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), graph_def=definition.SerializeToString()))
        self._writer.flush()

    def _add(self, step: int, summary: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV, a column for each key in order of appearance; the file is replaced as a whole."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)

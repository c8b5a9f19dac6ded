"""Parts of a run that other tests check, replaced by ones that cost nothing; processes of the tests import it too.

Charts take half of the time of a small run, and the trial of a weights file starts a process.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from segzoo import files, hdf5
from segzoo.engine import artifacts, epochs, summary


def write(path: Path, *arrays: np.ndarray) -> None:
    """Write a chart that is the numbers which it would show."""
    with files.replacing(path) as temporary:
        temporary.write_bytes(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays))


def sheet(pictures: Any, names: Any, colours: Any, ignore_index: Any, path: Path, **options: Any) -> None:
    write(path, *(part for picture in pictures for part in picture[:3]))


def lighten(replace: Callable[[Any, str, Any], None]) -> None:
    """Replace charts, and the trial of weights files; test_reports.py draws them, tests/test_hdf5.py is about it.

    Args:
        replace: `setattr`, or pytest's.
    """
    replace(epochs, "prediction_sheet", sheet)
    replace(artifacts, "plot_curves", lambda rows, path: write(path, np.array([row["loss"] for row in rows])))
    replace(summary, "confusion_picture", lambda confusion, names, path: write(path, confusion.counts))
    replace(hdf5, "try_out", lambda path, wanted: None)

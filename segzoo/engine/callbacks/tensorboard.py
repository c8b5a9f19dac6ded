"""TensorBoard: scalars, sheets of predictions and the graph of layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from segzoo.engine.callbacks.base import RunCallback
from segzoo.engine.callbacks.sheets import PredictionSheets
from segzoo.engine.checkpoint.progress import Progress
from segzoo.engine.graph import layer_graph
from segzoo.engine.logs import TensorBoardLog, sent_figures


class TensorBoard(RunCallback):
    """Writes event files; a context that closes them.

    What killed processes wrote of steps that are done again is purged.

    Args:
        folder: folder for the event files.
        network: shown as a graph of its layers.
        sheets: the pictures of an epoch.
        progress: progress of the run when training starts.
    """

    def __init__(self, folder: Path, network: keras.Model, sheets: PredictionSheets, progress: Progress):
        super().__init__()
        self.sheets = sheets
        self.log = TensorBoardLog(folder, _purge_step(folder, progress))
        self.log.graph(layer_graph(network))

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(self, *exception: object) -> None:
        self.log.close()

    def on_checkpoint(self, row: Mapping[str, Any], is_best: bool, resumed: bool) -> None:
        """Add the figures and sheets of an epoch."""
        self.log.scalars(row["step"], sent_figures(row))
        for tag, path in self.sheets.of_epoch(row, is_best).items():
            self.log.picture(row["step"], tag, path)


def _purge_step(folder: Path, progress: Progress) -> int | None:
    """Return the step from which earlier event files are to be discarded, or None if there are none."""
    if not folder.is_dir():
        return None
    if not progress.history:
        return 0
    # At the end of an epoch its figures are written again.
    return progress.history[-1]["step"] + (1 if progress.position else 0)

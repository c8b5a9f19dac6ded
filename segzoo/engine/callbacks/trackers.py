"""Experiment trackers, told of each epoch and of the end of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from segzoo.engine.callbacks.base import RunCallback
from segzoo.engine.callbacks.sheets import PredictionSheets
from segzoo.engine.logs import sent_figures
from segzoo.metrics import ConfusionMatrix, MultilabelCounts
from segzoo.tracking import Tracking


class Trackers(RunCallback):
    """Sends figures and sheets to the configured trackers; a context that ends this process's part of their runs.

    Args:
        tracking: the trackers, started.
        sheets: the pictures of an epoch.
    """

    def __init__(self, tracking: Tracking, sheets: PredictionSheets):
        super().__init__()
        self.tracking = tracking
        self.sheets = sheets

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *exception: object) -> None:
        self.tracking.close(finished=False)  # nothing is left to close where `finish` was called

    def on_checkpoint(self, row: Mapping[str, Any], is_best: bool, resumed: bool) -> None:
        """Send the figures and sheets of an epoch; each tracker gets a step once."""
        self.tracking.send(row["step"], sent_figures(row), self.sheets.of_epoch(row, is_best))

    def finish(self, best_epoch: int, confusion: ConfusionMatrix | MultilabelCounts, artifacts: Sequence[Path]) -> None:
        """Send the results of the run and those artifacts that exist, and end the trackers' runs."""
        figures = {
            "best/epoch": float(best_epoch),
            "best/val_mean_iou": confusion.mean_iou(),
            "best/val_pixel_accuracy": confusion.pixel_accuracy(),
        }
        self.tracking.finish(figures, [path for path in artifacts if path.is_file()])

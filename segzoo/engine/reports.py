"""What the epochs of a run show to people: sheets of predictions, TensorBoard, trackers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
from rich.console import Console

from segzoo.config import Config
from segzoo.engine import builders
from segzoo.engine.checkpoint.run_folder import RunFolder
from segzoo.engine.evaluation import Evaluation, Picture
from segzoo.engine.graph import layer_graph
from segzoo.engine.logs import TensorBoardLog
from segzoo.metrics import ConfusionMatrix, MultilabelCounts
from segzoo.reporting.pictures import prediction_sheet
from segzoo.terminal import say, warn
from segzoo.tracking import Tracking

# Those that no later run compares with.
_NOT_SENT = ("seconds", "val_seconds")


class Reports:
    """Draws what evaluations found and sends figures and pictures on; a context that ends the trackers' runs.

    Args:
        config: the resolved configuration.
        folder: the run folder.
        network: shown as a graph of its layers.
        tensorboard: open event files.
        console: where trackers, and their failures, are told of.

    Raises:
        RunError: a tracker cannot be started for a new run.
    """

    def __init__(
        self, config: Config, folder: RunFolder, network: keras.Model, tensorboard: TensorBoardLog, console: Console
    ):
        self.config = config
        self.folder = folder
        self.tensorboard = tensorboard
        tensorboard.graph(layer_graph(network))
        self.tracking = Tracking(
            builders.trackers(config),
            str(config.name),
            config.model_dump(mode="json"),
            folder.trackers,
            tell=lambda text: say(console, f"Tracked by {text}"),
            warn=lambda text: warn(console, f"Tracker {text}"),
        )

    def __enter__(self) -> Reports:
        return self

    def __exit__(self, *exception: object) -> None:
        self.tracking.close(finished=False)  # nothing is left to close where `finish` was called

    def draw(self, found: Evaluation, epoch: int, improved: bool) -> None:
        """Draw the sheets that the evaluation of `epoch` calls for.

        The best epoch so far has predictions.png and worst.png; other epochs only, every `output.pictures_every`,
        predictions_latest.png.
        """
        if improved:
            self._sheet(found.pictures, "predictions")
            self._sheet(found.worst, "worst")
        elif self._is_due(epoch):
            self._sheet(found.pictures, "predictions_latest")

    def epoch(self, row: Mapping[str, Any], is_best: bool) -> None:
        """Send the figures of an epoch, and the sheets that `draw` drew for it, which lie in the run folder."""
        evaluated = "val_mean_iou" in row
        wanted = {}
        if is_best:
            wanted["predictions_best"] = "predictions"
        if evaluated and self._is_due(row["epoch"]):
            wanted["predictions"] = "predictions" if is_best else "predictions_latest"
        sheets = {tag: self.folder.figures / f"{name}.png" for tag, name in wanted.items()}
        sheets = {tag: path for tag, path in sheets.items() if path.is_file()}
        figures = {key: value for key, value in row.items() if isinstance(value, float) and key not in _NOT_SENT}
        self.tensorboard.scalars(row["step"], figures)
        for tag, path in sheets.items():
            self.tensorboard.picture(row["step"], tag, path)
        self.tracking.send(row["step"], figures, sheets)

    def finish(self, best_epoch: int, confusion: ConfusionMatrix | MultilabelCounts) -> None:
        """Send what the run came to, its summary and what that is made of, and end the trackers' runs."""
        figures = {
            "best/epoch": float(best_epoch),
            "best/val_mean_iou": confusion.mean_iou(),
            "best/val_pixel_accuracy": confusion.pixel_accuracy(),
        }
        files = [self.folder.summary, self.folder.config, self.folder.environment, self.folder.metrics, self.folder.log]
        self.tracking.finish(figures, [path for path in files if path.is_file()])

    def _is_due(self, epoch: int) -> bool:
        """Whether a multiple of `pictures_every` lies between the evaluation before and this one."""
        every = self.config.output.pictures_every
        return every is not None and epoch // every > (epoch - self.config.training.evaluate_every) // every

    def _sheet(self, pictures: list[Picture], name: str) -> None:
        if pictures:
            prediction_sheet(
                pictures,
                builders.class_names(self.config),
                builders.colours(self.config),
                self.config.data.ignore_index,
                self.folder.figures / f"{name}.png",
                background=builders.background(self.config),
            )

"""Artifacts derived from the checkpoint: weights, tables, curves, the finished model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from segzoo.config import Config
from segzoo.engine import builders
from segzoo.engine.assembly import TrainingBundle
from segzoo.engine.callbacks.base import RunCallback
from segzoo.engine.callbacks.progress_display import class_table
from segzoo.engine.callbacks.trackers import Trackers
from segzoo.engine.checkpoint.progress import Progress
from segzoo.engine.checkpoint.run_folder import RunFolder
from segzoo.engine.checkpoint.state import drop_variables
from segzoo.engine.distribution import Distribution
from segzoo.engine.logs import write_csv
from segzoo.engine.population import Comparison
from segzoo.engine.summary import write_summary
from segzoo.errors import RunError, StorageError
from segzoo.export import keras_file
from segzoo.files import replacing
from segzoo.metrics import ConfusionMatrix, MultilabelCounts, pixel_counts
from segzoo.models.build import logits_only
from segzoo.reporting.curves import plot_curves
from segzoo.terminal import say, warn
from segzoo.weights import bare, load_file, save_file


@dataclass
class Result:
    """Result of a run.

    Attributes:
        folder: the run folder.
        confusion: confusion matrix of the validation split at the best epoch.
        best_epoch: number of the best epoch, counted from 1.
        history: one row of figures for each epoch.
        model: the network with its best weights.
    """

    folder: Path
    confusion: ConfusionMatrix | MultilabelCounts
    best_epoch: int
    history: list[dict[str, Any]]
    model: keras.Model


class Artifacts(RunCallback):
    """Writes the artifacts of a run from its progress and the weights that belong to it, as often as it is asked to.

    Args:
        config: the resolved configuration.
        folder: the run folder, locked; of several processes one writes to it.
        trained: the network, and what moves with it.
        distribution: the devices.
        console: console on which the figures of a finished run are shown.

    Attributes:
        predicting: the network that is evaluated and saved, from images to logits alone.
    """

    def __init__(
        self, config: Config, folder: RunFolder, trained: TrainingBundle, distribution: Distribution, console: Console
    ):
        super().__init__()
        self.config = config
        self.folder = folder
        self.trained = trained
        self.predicting = logits_only(trained.evaluated)
        self.distribution = distribution
        self.console = console

    def on_checkpoint(self, row: Mapping[str, Any], is_best: bool, resumed: bool) -> None:
        """Write weights, table and curves of an epoch."""
        if not self.folder.is_written:
            return
        save_file(self.trained.evaluated, self.folder.last)
        if is_best:
            save_file(self.trained.evaluated, self.folder.best)
        write_csv(self.folder.metrics, self.progress.history)
        plot_curves(self.progress.history, self.folder.figures / "curves.png")

    def finish(self, progress: Progress, trackers: Trackers | None = None) -> Result:
        """Save the finished model, tell the trackers, and mark the run as finished last of all."""
        self.distribution.release(self.trained.network)
        result = self._result(progress)
        self.distribution.from_chief(lambda: self._write_end(progress, result, trackers))
        self._show(result)
        return result

    def result(self, progress: Progress) -> Result:
        """Show again what a finished run came to."""
        result = self._result(progress)
        self._show(result)
        return result

    def _result(self, progress: Progress) -> Result:
        """Load the best weights.

        Raises:
            RunError: the run was never evaluated.
        """
        if progress.best_counts is None or progress.best_epoch is None:
            raise RunError(f"{self.folder.path} was never evaluated; there is no best model to report.")
        self._load_best()
        confusion = pixel_counts(self.config.task, progress.best_counts)
        return Result(self.folder.path, confusion, progress.best_epoch, progress.history, self.predicting)

    def _load_best(self) -> None:
        if self.distribution.processes == 1:
            load_file(self.trained.evaluated, self.folder.best)
            return
        content = self.distribution.bytes_from_chief(self.folder.best.read_bytes)
        with tempfile.TemporaryDirectory() as folder:  # the run folder may be out of the other processes' reach
            copy = Path(folder) / self.folder.best.name
            copy.write_bytes(content)
            load_file(self.trained.evaluated, copy)

    def _show(self, result: Result) -> None:
        title = f"validation, best epoch {result.best_epoch} of {len(result.history)}"
        self.console.print(class_table(result.confusion, self.config.task.classes, title, self.config.output.metrics))
        say(self.console, f"Summary: {self.folder.summary}")
        say(self.console, f"Run folder: {self.folder.path}")

    def _write_end(self, progress: Progress, result: Result, trackers: Trackers | None) -> None:
        with replacing(self.folder.model) as temporary:
            bare(self.predicting).save(temporary)
            metadata = builders.model_metadata(self.config, given=self.trained.given)
            keras_file.put_metadata(temporary, metadata.to_json())
        found = {
            "best_epoch": progress.best_epoch,
            "val_mean_iou": result.confusion.mean_iou(),
            "monitor": self.config.training.monitor.removeprefix("val_"),
            "epochs": progress.epoch,
            "steps": progress.step,
            "stopped": progress.stopped,
        }
        self.folder.write_log(progress, "finish", **found)
        compared = Comparison.last_of(progress.events)
        write_summary(
            self.config,
            self.folder,
            result.history,
            result.confusion,
            result.best_epoch,
            compared,
            progress.automatic,
        )
        if trackers is not None:
            folder = self.folder
            files = [folder.summary, folder.config, folder.environment, folder.metrics, folder.log]
            trackers.finish(result.best_epoch, result.confusion, files)
        self.folder.write_session("finish", step=progress.step)
        with replacing(self.folder.result) as temporary:
            temporary.write_text(json.dumps({**found, "seconds": round(progress.seconds, 1)}, indent=2) + "\n")
        if not self.config.output.keep_state:
            self._drop_state(progress)

    def _drop_state(self, progress: Progress) -> None:
        """Reduce the state to what a finished run still needs, once all derived artifacts are on disk."""
        try:
            self.folder.rewrite_log(progress)  # lines that were appended may still be on their way to the disk
            freed = drop_variables(self.folder.state, progress)
        except StorageError as error:  # nothing is lost, and the run is finished
            warn(self.console, f"{error} So the run keeps its state, which it needs no more.")
            return
        say(
            self.console,
            f"Dropped the optimizer's state, {freed / 1e6:,.1f} MB: weights and figures stay, further training would "
            "need output.keep_state: true.",
        )

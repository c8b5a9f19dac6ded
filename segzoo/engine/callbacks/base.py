"""Base class of segzoo's own callbacks: a Keras callback that knows where the run stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from segzoo.engine.checkpoint.progress import Progress
from segzoo.engine.evaluation import Evaluation


class RunCallback(keras.callbacks.Callback):
    """A Keras callback with the run's progress, and three moments that Keras has no name for.

    Attributes:
        progress: progress of the run; `step` counts the batch whose `on_train_batch_end` is running.
    """

    progress: Progress

    def set_progress(self, progress: Progress) -> None:
        """Take the run's progress, as `set_model` takes its model."""
        self.progress = progress

    def on_metrics_reset(self) -> None:
        """Called once in each `fit`, before its first step, when Keras has set the metrics back."""

    def on_evaluation(self, epoch: int, found: Evaluation, improved: bool) -> None:
        """Called after the evaluation of an epoch, before `on_epoch_end`.

        Args:
            epoch: epochs done, this one included.
            found: confusion matrix, loss and pictures of the validation split.
            improved: whether the monitored figure is the best so far.
        """

    def on_checkpoint(self, row: Mapping[str, Any], is_best: bool, resumed: bool) -> None:
        """Called when the checkpoint of a whole epoch is on the disk: what is derived from it is written now.

        Args:
            row: the epoch's figures, as in metrics.csv.
            is_best: whether it is the best epoch so far.
            resumed: whether the epoch ended in an earlier process, which may not have come to this.
        """


def is_evaluated(logs: Mapping[str, Any]) -> bool:
    """Return whether the logs of an epoch's end hold the figures of an evaluation."""
    return "val_pixel_accuracy" in logs

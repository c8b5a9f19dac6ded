"""Early stopping on the monitored figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from segzoo.engine.callbacks.base import RunCallback, is_evaluated
from segzoo.engine.monitor import Monitor


class EarlyStopping(RunCallback):
    """Stops the training when the monitored figure has not risen for a number of epochs.

    Args:
        monitor: the figure.
        patience: epochs without a gain after which training stops.
        min_delta: smallest rise that counts as a gain.
        evaluate_every: epochs from one evaluation to the next.
        may_stop: function of the number of epochs done; training goes on while it returns False.
    """

    def __init__(
        self,
        monitor: Monitor,
        patience: int,
        min_delta: float,
        evaluate_every: int = 1,
        may_stop: Callable[[int], bool] = lambda epochs: True,
    ):
        super().__init__()
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.evaluate_every = evaluate_every
        self.may_stop = may_stop

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare the figure with the best so far."""
        if not is_evaluated(logs or {}):
            return
        score = self.monitor.score_of(logs or {})
        stale = self.progress.early_stopping.wait(score, self.min_delta, self.evaluate_every)
        if stale >= self.patience and self.may_stop(epoch + 1) and self.progress.stopped is None:
            self.progress.stopped = "early_stopping"
            self.model.stop_training = True

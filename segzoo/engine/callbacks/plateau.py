"""Lower learning rate on a plateau of the monitored figure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from segzoo.engine.callbacks.base import RunCallback, is_evaluated
from segzoo.engine.monitor import Monitor
from segzoo.optim.plateau import PlateauFactor


class ReduceOnPlateau(RunCallback):
    """Multiplies the scheduled learning rate by a factor when the monitored figure has not risen for some epochs.

    Args:
        monitor: the figure.
        plateau: the optimizer's factor on its schedule.
        patience: epochs without a gain after which the rate falls.
        min_delta: smallest rise that counts as a gain.
        factor: multiplier, 0..1.
        final_fraction: lowest value of the product of all multipliers.
        evaluate_every: epochs from one evaluation to the next.
        tell: called with a sentence when the rate falls.
    """

    def __init__(
        self,
        monitor: Monitor,
        plateau: PlateauFactor,
        patience: int,
        min_delta: float,
        factor: float,
        final_fraction: float,
        evaluate_every: int = 1,
        tell: Callable[[str], None] = lambda text: None,
    ):
        super().__init__()
        self.monitor = monitor
        self.plateau = plateau
        self.patience = patience
        self.min_delta = min_delta
        self.factor = factor
        self.final_fraction = final_fraction
        self.evaluate_every = evaluate_every
        self.tell = tell

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Compare the figure with the best so far."""
        if not is_evaluated(logs or {}):
            return
        waiting = self.progress.plateau
        if waiting.wait(self.monitor.score_of(logs or {}), self.min_delta, self.evaluate_every) >= self.patience:
            now = self.plateau.lower(self.factor, self.final_fraction)
            waiting.stale = 0
            self.tell(f"No better {self.monitor.label}: learning rate at {now:.3g} of its schedule.")

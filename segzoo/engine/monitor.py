"""Monitored figure, which selects the best epoch and drives early stopping and plateaus."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segzoo.config import Config
from segzoo.engine import builders
from segzoo.engine.evaluation import Evaluation
from segzoo.errors import RunError
from segzoo.metrics.confusion import mean_of


@dataclass(frozen=True)
class Monitor:
    """Monitored figure of the validation split.

    Attributes:
        name: `training.monitor` without `val_`: "mean_iou", "foreground_mean_iou", "pixel_accuracy", "loss" or
            "iou/CLASS".
        classes: names of the classes.
        background: label of the class that `foreground_mean_iou` leaves out; None: there is none.
    """

    name: str
    classes: Sequence[str]
    background: int | None

    @classmethod
    def of(cls, config: Config) -> Monitor:
        """Read the configuration.

        Raises:
            RunError: the foreground's mean IoU where nothing says which class is the background.
        """
        found = cls(config.training.monitor.removeprefix("val_"), config.task.classes, builders.background(config))
        if found.name == "foreground_mean_iou" and found.background is None and not config.task.multilabel:
            raise RunError(
                "training.monitor: foreground_mean_iou leaves the background out, and no class is known to be it. Name "
                "it by masks.background, or call it background."
            )
        return found

    @property
    def key(self) -> str:
        """Name of the figure in metrics.csv and in the logs of callbacks."""
        return f"val_{self.name}"

    @property
    def label(self) -> str:
        """Name of the figure in messages."""
        return {"mean_iou": "validation mIoU", "loss": "validation loss"}.get(self.name, self.key)

    def figure(self, found: Evaluation) -> float:
        """Return the figure of an evaluation; NaN where its class does not occur."""
        counts = found.confusion
        if self.name == "loss":
            return math.nan if found.loss is None else found.loss
        if self.name == "pixel_accuracy":
            return counts.pixel_accuracy()
        if self.name == "mean_iou":
            return counts.mean_iou()
        scores = counts.iou()
        if self.name == "foreground_mean_iou":
            kept = np.delete(scores, [] if self.background is None else [self.background])
            return mean_of(kept)
        return float(scores[self.classes.index(self.name.removeprefix("iou/"))])

    def score_of(self, logs: Mapping[str, float]) -> float:
        """Return the score of an epoch's logs; minus infinity where they lack the figure."""
        return self.score(logs.get(self.key, math.nan))

    def score(self, figure: float) -> float:
        """Return a score, higher is better: a loss is negated, NaN becomes minus infinity."""
        if math.isnan(figure):
            return -math.inf
        return -figure if self.name == "loss" else figure

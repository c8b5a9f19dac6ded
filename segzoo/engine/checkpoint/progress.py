"""Progress of a run: counters, history and bookkeeping, without its variables."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from segzoo.errors import RunError
from segzoo.escaping import printable

#: Figures of an epoch that depend on the clock: all others are the same however often a run was interrupted.
CLOCKED = ("seconds", "val_seconds", "images_per_second")


@with_config(ConfigDict(extra="forbid"))
@dataclass
class Patience:
    """Patience counter: waits for a score to improve by more than a given amount.

    Attributes:
        best: the score to beat, None before the first.
        stale: epochs since it was set.
    """

    best: float | None = None
    stale: int = 0

    def wait(self, score: float, min_delta: float, epochs: int) -> int:
        """Update with the score after `epochs` more epochs; return the number of epochs without a gain."""
        if self.best is None or score > self.best + min_delta:
            self.best, self.stale = score, 0
        else:
            self.stale += epochs
        return self.stale


@dataclass
class Progress:
    """Progress of a run.

    The data position needs no more than the step: order and augmentation are functions of seed, epoch and sample.

    Attributes:
        step: optimizer steps done.
        epoch: number of completed epochs, evaluation included.
        position: completed steps of the current epoch.
        losses: means over these steps, as Keras reports them.
        seconds: time spent in training and evaluation, in all processes together.
        epoch_began: value of `seconds` when the current epoch began.
        best_score: best figure of `training.monitor` so far, turned so that higher is better, or None.
        best_epoch: the epoch that reached it, or None.
        best_counts: confusion matrix (rows true, columns predicted) of the best epoch, for classes that may overlap a
            table of two by two for each; or None.
        early_stopping: state of early stopping: how long there has been no gain.
        plateau: the same for the reduction of the learning rate.
        stopped: why training ended before the last epoch, or None.
        events: content of the log, from its first line.
        origin: what the run depends on besides its state (see `provenance`).
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    losses: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    epoch_began: float = 0.0
    best_score: float | None = None
    best_epoch: int | None = None
    best_counts: list[list[Any]] | None = None
    early_stopping: Patience = field(default_factory=Patience)
    plateau: Patience = field(default_factory=Patience)
    stopped: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list)
    origin: dict[str, Any] = field(default_factory=dict)

    def is_over(self, epochs: int) -> bool:
        """Return True if a run of `epochs` epochs has none left, and none under way."""
        return not self.position and (self.stopped is not None or self.epoch >= epochs)

    @property
    def history(self) -> list[dict[str, Any]]:
        """Return one row of figures for each epoch, as in metrics.csv."""
        rows = [event for event in self.events if event["event"] == "epoch"]
        return [{key: value for key, value in row.items() if key not in ("event", "time")} for row in rows]

    @property
    def weights(self) -> str | None:
        """Weights report in the start event of the run; None before that."""
        return self._started.get("weights")

    @property
    def batch_norm(self) -> str | None:
        """Batch normalisation of the backbone in the run, "train" or "frozen"; None before the start event."""
        return self._started.get("batch_norm")

    @property
    def automatic(self) -> dict[str, float]:
        """Values of settings that the configuration leaves open, by their keys, in the last event that has them."""
        return next((event["automatic"] for event in reversed(self.events) if "automatic" in event), {})

    @property
    def _started(self) -> dict[str, Any]:
        return next((event for event in self.events if event["event"] == "start"), {})

    def to_json(self) -> dict[str, Any]:
        """Return JSON-compatible values for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Progress:
        """Rebuild from the values of `to_json`.

        Raises:
            RunError: keys are missing or unknown, or values are of other types.
        """
        try:
            if odd := sorted(_NAMES.keys() ^ facts.keys()):
                raise ValueError(f"{printable(odd[0])} is {'missing' if odd[0] in _NAMES else 'unknown'}")
            progress = _CHECKED.validate_python(facts)
            _check_counts(progress.best_counts)
            for number, event in enumerate(progress.events):
                _check_event(event, number)
        except (ValueError, RecursionError) as error:  # pydantic's is one
            raise RunError(
                f"The run state does not say where the run stands: {_first_line(error)}. Another version of segzoo, or "
                "something else, wrote it. Go on with that version, or train anew with --overwrite."
            ) from error
        return progress


_NAMES = Progress.__dataclass_fields__
_CHECKED = TypeAdapter(Progress)


def _check_counts(counts: list[list[Any]] | None) -> None:
    """Raise ValueError unless counts are whole numbers from 0 up, (C, C) or (C, 2, 2)."""
    if counts is None:
        return
    table = np.array(counts)  # ValueError where rows differ in length
    shapes = ((len(counts), len(counts)), (len(counts), 2, 2))
    if table.dtype.kind != "i" or table.shape not in shapes or table.min(initial=0) < 0:
        raise ValueError("best_counts are no counts of pixels")


def _check_event(event: dict[str, Any], number: int) -> None:
    """Raise ValueError unless an event has the keys that the history is read from."""
    if not isinstance(event.get("event"), str):
        raise ValueError(f"event {number} has no name")
    automatic = event.get("automatic", {})
    if not isinstance(automatic, dict) or not all(isinstance(value, int | float) for value in automatic.values()):
        raise ValueError(f"event {number} has automatic settings that are no numbers")
    if event["event"] != "epoch":
        return
    for key in ("epoch", "step", "loss", "seconds"):
        if isinstance(event.get(key), bool) or not isinstance(event.get(key), int | float):
            raise ValueError(f"event {number}, an epoch, has no number {key}")
    for key, value in event.items():
        if key not in ("event", "time") and not isinstance(value, int | float | None):
            raise ValueError(f"event {number}, an epoch, has a {key} that is no number")


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)

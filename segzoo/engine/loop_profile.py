"""Profile of a training loop: how long a step waits, computes and calls back, and what makes batches meanwhile.

Nothing is computed in another way than without it: clocks are read around the parts of the loop. The steps of a graph
are not taken apart (the trace does that), so forward pass, gradients, update and the mean loss are one figure.
"""

from __future__ import annotations

import copy
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from segzoo.data import TrainBatches
from segzoo.engine.callbacks.base import RunCallback
from segzoo.engine.fit_dataset import Batch
from segzoo.engine.forward import Predicts
from segzoo.engine.trace import Trace
from segzoo.files import replacing
from segzoo.reporting.time_table import (
    AUGMENTING,
    BETWEEN,
    CALLBACKS,
    COMPUTING,
    FIRST_BATCH,
    FORWARD,
    LOSS,
    METRICS,
    READING,
    TARGETS,
    WAITING,
    TimeTable,
)

SKIPPED = 1  # steps of the process that are not looked at: the first builds the graph
TRACED = 3  # steps after them that are traced, which slows them down
MEASURED = 20  # steps after these that the table is about
_COPIES = 5  # copies of a batch to the framework that are timed
_SHOWN_AHEAD = 64  # batches whose times are remembered; readers are a few ahead


class LoopProfile:
    """Clocks around the parts of a training loop, over a limited number of steps and the evaluations between them.

    Args:
        trace: recorder of single operations, or None.
    """

    def __init__(self, trace: Trace | None = None):
        self.trace = trace
        self._work = _Work()
        self._made: dict[int, tuple[float, float, int]] = {}  # step to when its batch was asked for, made, and by whom
        self._batch: Batch | None = None
        self._seen = 0  # steps of this process
        self._moments: dict[str, float] = {}
        self._steps: list[dict[str, float]] = []
        self._work_before: dict[str, float] = {}
        self._work_within: dict[str, float] = {}
        self._made_before = self._made_count = self._made_within = 0
        self._evaluation = _Evaluation()

    def watched(self, batches: Any) -> Any:
        """Return batches like these, reading, augmentation and targets of which are timed; given ones as they are."""
        if not isinstance(batches, TrainBatches):
            return batches
        timed = copy.copy(batches)
        timed.source = _TimedSource(batches.source, self._work)
        for part, name in _STEPS_OF_A_BATCH.items():
            if (made_by := getattr(batches, part)) is not None:
                setattr(timed, part, self._work.timed(name, made_by))
        return timed

    def read(self, batches: Callable[[int], Iterator[Batch]]) -> Callable[[int], Iterator[Batch]]:
        """Return the function from a step to the endless batches from there on, timed."""

        def timed(start: int) -> Iterator[Batch]:
            step, found = start, batches(start)
            while True:
                asked = time.perf_counter()
                batch = next(found, None)
                if batch is None:
                    return
                self._made[step] = (asked, time.perf_counter(), threading.get_ident())
                self._made.pop(step - _SHOWN_AHEAD, None)
                self._batch, self._made_count, step = batch, self._made_count + 1, step + 1
                yield batch

        return timed

    def first(self) -> RunCallback:
        """Return the callback that is called before all others."""
        return _Mark(self._enter, self._computed, self._begin_epoch, self._evaluation.end)

    def last(self) -> RunCallback:
        """Return the callback that is called after all others."""
        return _Mark(self._entered, self._called)

    def evaluated(
        self, network: Predicts, batches: Iterable[Any], loss: Callable[[Any, Any], Any] | None
    ) -> tuple[Predicts, Iterator[Any], Callable[[Any, Any], Any] | None]:
        """Return what an evaluation works with, timed."""
        return self._evaluation.timed(network, batches, loss)

    @property
    def is_complete(self) -> bool:
        """True if all steps were measured, and an evaluation."""
        return len(self._steps) == MEASURED and bool(self._evaluation.seconds)

    def table(self) -> TimeTable:
        """Return the table of what was measured so far."""
        return TimeTable(
            len(self._steps),
            _means(self._steps),
            {name: seconds / max(1, self._made_within) for name, seconds in self._work_within.items()},
            self._copied(),
            dict(self._evaluation.seconds),
            keras.backend.backend(),
            self._note(),
        )

    def close(self) -> None:
        """End the trace of a run that stopped while it was recorded."""
        if self.trace is not None:
            self.trace.stop()

    def _note(self) -> str:
        if self.trace is None or self._seen < SKIPPED + TRACED:
            return "Too few steps for a trace." if self.trace is not None else ""
        if self.trace.why_not:
            return f"No trace: {self.trace.why_not}."
        return f"Trace of {TRACED} steps for TensorBoard: {self.trace.folder}"

    # One step, in the order of the calls: _enter, _entered, the step, _computed, _called.

    def _begin_epoch(self) -> None:
        self._moments.pop("over", None)  # what comes between two epochs is no part of a step

    def _enter(self, step: int) -> None:
        if self.trace is not None and self._seen == SKIPPED:
            self.trace.start()
        if self._seen == SKIPPED + TRACED:
            self._work_before, self._made_before = self._work.so_far(), self._made_count
        self._moments["enter"] = time.perf_counter()

    def _entered(self, step: int) -> None:
        self._moments["entered"] = time.perf_counter()

    def _computed(self, step: int) -> None:
        self._moments["computed"] = time.perf_counter()

    def _called(self, step: int) -> None:
        """Add up a step that is over, the first being 0."""
        now, moments = time.perf_counter(), self._moments
        if SKIPPED + TRACED <= self._seen < SKIPPED + TRACED + MEASURED:
            self._steps.append(self._parts(step - 1, now))  # the step was counted meanwhile
            self._work_within = _difference(self._work.so_far(), self._work_before)
            self._made_within = self._made_count - self._made_before
        self._seen += 1
        if self.trace is not None and self._seen == SKIPPED + TRACED:
            self.trace.stop()
        moments["over"] = time.perf_counter()

    def _parts(self, step: int, now: float) -> dict[str, float]:
        moments = self._moments
        entered, computed = moments["entered"], moments["computed"]
        asked, made, maker = self._made.get(step, (0.0, 0.0, 0))
        between = waited = 0.0
        if "over" in moments:
            between = moments["enter"] - moments["over"]
        if maker == threading.get_ident():  # JAX and PyTorch take the batch between two steps
            waited = made - asked
            between = max(0.0, between - waited)
            inside = 0.0
        else:  # TensorFlow within the step, from a thread that reads ahead
            waited = inside = max(0.0, min(made, computed) - entered)
        return {
            WAITING: waited,
            COMPUTING: computed - entered - inside,
            CALLBACKS: (entered - moments["enter"]) + (now - computed),
            BETWEEN: between,
        }

    def _copied(self) -> float | None:
        """Return the seconds of a copy of a batch to the framework, the median of a few, None where there is none."""
        if self._batch is None:
            return None
        times = []
        for _ in range(_COPIES):
            before = time.perf_counter()
            keras.tree.map_structure(keras.ops.convert_to_tensor, self._batch)
            times.append(time.perf_counter() - before)
        return statistics.median(times)


class ProfileTable(RunCallback):
    """Shows the table of a profile once it is complete, else at the end of the training, and keeps it in a JSON file.

    Args:
        profile: the clocks.
        path: the file.
        console: console to show it on.
    """

    def __init__(self, profile: LoopProfile, path: Path, console: Console):
        super().__init__()
        self.profile = profile
        self.path = path
        self.console = console
        self._is_shown = False

    def on_checkpoint(self, row: Mapping[str, Any], is_best: bool, resumed: bool) -> None:
        """Show the table where all steps were measured, and an evaluation."""
        if self.profile.is_complete and not self._is_shown:
            self._show()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Show the table of a run too short for all steps."""
        if not self._is_shown:
            self._show()

    def _show(self) -> None:
        self._is_shown = True
        table = self.profile.table()
        self.console.print(table.on_screen())
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(table.to_json(), indent=2) + "\n", encoding="utf-8")


# Parts of `TrainBatches` that work on a sample or a batch, and the row of the table that they belong to.
_STEPS_OF_A_BATCH = {
    "crop": AUGMENTING,
    "augmentation": AUGMENTING,
    "batch_transforms": AUGMENTING,
    "target": TARGETS,
}


class _Work:
    """Seconds of the threads that make batches, by the part of their work."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._adding = threading.Lock()

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, the time of which is added up under `part`."""

        def timed(*args: Any) -> Any:
            before = time.perf_counter()
            try:
                return function(*args)
            finally:
                with self._adding:
                    self._seconds[part] = self._seconds.get(part, 0.0) + time.perf_counter() - before

        return timed

    def so_far(self) -> dict[str, float]:
        """Return seconds by part."""
        with self._adding:
            return dict(self._seconds)


class _TimedSource:
    """A source of samples the reading of which is timed."""

    def __init__(self, source: Any, work: _Work):
        self.source = source
        self._read = work.timed(READING, source.__getitem__)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Any:
        return self._read(index)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)


class _Mark(RunCallback):
    """A callback that notes when the others begin or have ended.

    Args:
        begin: called with the number of a step, the first being 0, before it.
        end: called after it with the steps done so far, as far as callbacks before this one have counted them.
        reset: called when an epoch begins or goes on.
        evaluated: called when an evaluation is over.
    """

    def __init__(
        self,
        begin: Callable[[int], None],
        end: Callable[[int], None],
        reset: Callable[[], None] = lambda: None,
        evaluated: Callable[[], None] = lambda: None,
    ):
        super().__init__()
        self._begin, self._end, self._reset, self._evaluated = begin, end, reset, evaluated

    def on_metrics_reset(self) -> None:
        """An epoch begins."""
        self._reset()

    def on_train_batch_begin(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """A step begins."""
        self._begin(self.progress.step)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """A step is over once its loss is a number, for which a device that works asynchronously is waited for."""
        for value in (logs or {}).values():
            float(value)
        self._end(self.progress.step)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """An evaluation is over."""
        self._evaluated()


class _Evaluation:
    """Seconds of the last evaluation by part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._running: dict[str, float] = {}
        self._began = 0.0

    def timed(self, network: Predicts, batches: Iterable[Any], loss: Callable[[Any, Any], Any] | None) -> tuple:
        """Begin to look at an evaluation; returns what it works with."""
        self._running = dict.fromkeys((WAITING, FIRST_BATCH, FORWARD, LOSS), 0.0)
        self._began = time.perf_counter()
        return _TimedNetwork(network, self._running), self._waited(batches), self._timed_loss(loss)

    def end(self) -> None:
        """Take the evaluation that is over; what is left of its time is that of metrics and pictures."""
        total = time.perf_counter() - self._began
        self.seconds = {**self._running, METRICS: max(0.0, total - sum(self._running.values()))}

    def _waited(self, batches: Iterable[Any]) -> Iterator[Any]:
        running, found = self._running, iter(batches)
        while True:
            before = time.perf_counter()
            batch = next(found, None)
            running[WAITING] += time.perf_counter() - before
            if batch is None:
                return
            yield batch

    def _timed_loss(self, loss: Callable[[Any, Any], Any] | None) -> Callable[[Any, Any], Any] | None:
        if loss is None:
            return None
        running = self._running

        def timed(truth: Any, logits: Any) -> Any:
            before = time.perf_counter()
            value = float(loss(truth, logits))
            running[LOSS] += time.perf_counter() - before
            return value

        return timed


class _TimedNetwork:
    """A network whose forward passes are timed, the first of an evaluation by itself: it may build a graph."""

    def __init__(self, network: Predicts, running: dict[str, float]):
        self._network = network
        self._running = running
        self._part = FIRST_BATCH

    def predict_on_batch(self, images: Any) -> Any:
        """Return the logits `(B, H, W, classes)` of images `(B, H, W, C)`."""
        before = time.perf_counter()
        logits = self._network.predict_on_batch(images)
        if hasattr(logits, "block_until_ready"):  # JAX returns before it has computed
            logits.block_until_ready()
        self._running[self._part] += time.perf_counter() - before
        self._part = FORWARD
        return logits


def _means(steps: list[dict[str, float]]) -> dict[str, float]:
    return {part: statistics.fmean(step[part] for step in steps) for part in steps[0]} if steps else {}


def _difference(after: dict[str, float], before: dict[str, float]) -> dict[str, float]:
    return {part: seconds - before.get(part, 0.0) for part, seconds in after.items()}

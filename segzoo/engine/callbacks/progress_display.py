"""Progress of a training run: a bar on a terminal, plain lines elsewhere, and the final table."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from segzoo.engine.callbacks.base import RunCallback
from segzoo.engine.memory import memory_text
from segzoo.escaping import printable
from segzoo.metrics import ConfusionMatrix, MultilabelCounts
from segzoo.progress import duration
from segzoo.reporting.class_table import class_cells
from segzoo.reporting.page import figure_text
from segzoo.terminal import say

# Seconds between two lines within an epoch where there is no terminal to draw on; a log file should not fill with them.
_BETWEEN_LINES = 60.0
# Seconds between two looks at the memory, which would cost more than they say at every step.
_BETWEEN_LOOKS = 2.0
# Columns of a terminal from which on everything stands in one line and leaves some room for the bar.
_WIDE = 120


class ProgressDisplay(RunCallback):
    """Progress of a run: loss, mIoU of the last validation, images/s, time left and memory.

    On a terminal a bar; elsewhere a line for each epoch, and within long ones a line a minute.

    Args:
        console: console to write to.
        total_steps: steps of the whole run.
        batch_size: images in a step.
        clock: seconds since some moment.
        monitored: column of metrics.csv that an epoch's line shows beside the usual ones, or None.
    """

    def __init__(
        self,
        console: Console,
        total_steps: int,
        batch_size: int,
        clock: Callable[[], float] = time.perf_counter,
        monitored: str | None = None,
    ):
        super().__init__()
        self.monitored = monitored
        self.console = console
        self.total_steps = total_steps
        self.batch_size = batch_size
        self._clock = clock
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn(
                "loss {task.fields[loss]}  mIoU {task.fields[score]}  {task.fields[speed]} images/s"
                + ("  " if console.width >= _WIDE else "\n")
                + "{task.fields[left]} left  {task.fields[memory]}"
            ),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._shown: dict[str, Any] = dict.fromkeys(("loss", "score", "speed", "left", "memory"), "...")
        self._task = self._bar.add_task("train", total=total_steps, epoch="1", **self._shown)
        self._started, self._first, self._warm = 0.0, 0, False  # of the epoch's speed
        self._run_started: tuple[float, int] | None = None  # of the whole run's: moment and step
        self._line, self._looked = clock(), -math.inf
        self._epoch = ""

    def __enter__(self) -> ProgressDisplay:
        """Start drawing."""
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop drawing."""
        self._bar.stop()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Show the epoch that begins, or goes on."""
        self.epoch(epoch + 1, self.params["epochs"], self.progress.step)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Show the step."""
        self.step(self.progress.step, self.progress.losses["loss"])

    def on_checkpoint(self, row: Mapping[str, Any], is_best: bool, resumed: bool) -> None:
        """Print the figures of an epoch, which an earlier process has printed of its own."""
        if not resumed:
            self.row(row, self.params["epochs"], is_best, self.monitored)

    def epoch(self, epoch: int, epochs: int, step: int) -> None:
        """A new epoch begins after `step` steps."""
        self._epoch = f"{epoch}/{epochs}"
        self._bar.update(self._task, completed=step, epoch=self._epoch)
        self._started, self._first, self._warm = self._clock(), step, False
        self._line = self._clock()

    def step(self, step: int, loss: float) -> None:
        """`step` steps are done; `loss` is the mean over the epoch so far."""
        now = self._clock()
        if not self._warm:  # the first step of an epoch may trace the graph, so it counts for no speed
            self._started, self._first, self._warm = now, step, True
            self._run_started = self._run_started or (now, step)
        else:
            speed = self.images_per_second(step)
            self._shown.update(speed="..." if speed is None else f"{speed:.1f}", left=self._left(step, now))
        if now - self._looked >= _BETWEEN_LOOKS:
            self._looked = now
            self._shown["memory"] = memory_text()
        self._shown["loss"] = f"{loss:.4f}"
        if self._bar.disable:
            if now - self._line >= _BETWEEN_LINES:
                self._line = now
                self._print(
                    f"epoch {self._epoch}  step {step}/{self.total_steps}  loss {self._shown['loss']}  "
                    f"mIoU {self._shown['score']}  {self._shown['speed']} images/s  {self._shown['left']} left  "
                    f"{self._shown['memory']}"
                )
        else:
            self._bar.update(self._task, completed=step, **self._shown)

    def images_per_second(self, step: int) -> float | None:
        """Training speed of this epoch so far, without its first step; None where there was no other."""
        if step <= self._first:
            return None
        return (step - self._first) * self.batch_size / max(1e-9, self._clock() - self._started)

    def row(self, row: Mapping[str, Any], epochs: int, best: bool, monitored: str | None = None) -> None:
        """Print the figures of an epoch as one line; `monitored` names one more that decides which is the best."""
        parts = [f"epoch {row['epoch']}/{epochs}", f"loss {row['loss']:.4f}"]
        if "val_mean_iou" in row:
            parts += [f"val loss {row['val_loss']:.4f}", f"val mIoU {row['val_mean_iou']:.4f}{' *' if best else ''}"]
            self._shown["score"] = f"{row['val_mean_iou']:.4f}"
        if monitored is not None and row.get(monitored) is not None:
            parts.append(f"{monitored.replace('_', ' ')} {row[monitored]:.4f}")
        if row["images_per_second"] is not None:
            parts.append(f"{row['images_per_second']:.1f} images/s")
        parts.append(f"{row['seconds']:.1f} s")
        parts += [f"{self._left(row['step'], self._clock())} left", memory_text()]
        self._print("  ".join(parts))

    def _left(self, step: int, now: float) -> str:
        """Estimated time to the end of the run at this process's pace, evaluations included."""
        if self._run_started is None or step <= self._run_started[1]:
            return "..."
        moment, first = self._run_started
        return duration((now - moment) / (step - first) * max(0, self.total_steps - step))

    def _print(self, text: str) -> None:
        say(self.console, text)


def class_table(
    confusion: ConfusionMatrix | MultilabelCounts,
    names: Sequence[str],
    title: str,
    metrics: Sequence[Any] = (),
    background: int | None = None,
) -> Table:
    """Per-class IoU, Dice, precision, recall and further metrics, means below; n/a where one is undefined.

    Args:
        confusion: counts of a whole split.
        names: names of the classes.
        title: title of the table.
        metrics: further metrics, see `class_cells`.
        background: label that the foreground mean leaves out; None: no such row.
    """
    heading, *rows = class_cells(confusion, names, metrics)
    table = Table(title=Text(printable(title)), title_justify="left")
    for place, name in enumerate(heading):
        table.add_column(Text(printable(name)), justify="right" if place else "left")
    for first, *figures in rows:
        table.add_row(Text(printable(first)), *figures)
    table.add_section()
    table.add_row("mean IoU", figure_text(confusion.mean_iou()), style="bold")
    if background is not None:
        table.add_row("foreground mean IoU", figure_text(confusion.foreground_mean_iou(background)))
    table.add_row("pixel accuracy", figure_text(confusion.pixel_accuracy()))
    return table

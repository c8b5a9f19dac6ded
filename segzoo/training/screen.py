"""What a training run shows: a progress bar on a terminal, plain lines elsewhere, and the final table."""

from __future__ import annotations

import math
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from segzoo.metrics import ConfusionMatrix, MultilabelCounts


class Screen:
    """Progress of a run, with loss, mIoU, images/s and time left.

    Args:
        console: where to write; a bar is drawn where it is a terminal.
        total_steps: steps of the whole run.
        batch_size: images in a step.
    """

    def __init__(self, console: Console, total_steps: int, batch_size: int):
        self.console = console
        self.batch_size = batch_size
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  mIoU {task.fields[score]}  {task.fields[speed]} images/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("train", total=total_steps, epoch="1", loss="...", score="...", speed="...")
        self._started = 0.0
        self._first = 0
        self._warm = False

    def __enter__(self) -> Screen:
        """Start drawing."""
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop drawing."""
        self._bar.stop()

    def epoch(self, epoch: int, epochs: int, step: int) -> None:
        """A new epoch begins after `step` steps."""
        self._bar.update(self._task, completed=step, epoch=f"{epoch}/{epochs}")
        self._started, self._first, self._warm = time.perf_counter(), step, False

    def step(self, step: int, loss: float) -> None:
        """`step` steps are done; `loss` is the mean over the epoch so far."""
        if not self._warm:  # the first step of an epoch may trace the graph, so it counts for no speed
            self._started, self._first, self._warm = time.perf_counter(), step, True
            speed = "..."
        else:
            speed = f"{self.images_per_second(step):.1f}"
        self._bar.update(self._task, completed=step, loss=f"{loss:.4f}", speed=speed)

    def images_per_second(self, step: int) -> float:
        """Training speed of this epoch so far, without its first step."""
        return (step - self._first) * self.batch_size / max(1e-9, time.perf_counter() - self._started)

    def row(self, row: dict[str, Any], epochs: int, best: bool) -> None:
        """Print the figures of an epoch as one line."""
        parts = [f"epoch {row['epoch']}/{epochs}", f"loss {row['loss']:.4f}"]
        if "val_mean_iou" in row:
            parts += [f"val loss {row['val_loss']:.4f}", f"val mIoU {row['val_mean_iou']:.4f}{' *' if best else ''}"]
            self._bar.update(self._task, score=f"{row['val_mean_iou']:.4f}")
        parts += [f"{row['images_per_second']:.1f} images/s", f"{row['seconds']:.1f} s"]
        self.console.print("  ".join(parts), highlight=False, soft_wrap=True)


def class_table(confusion: ConfusionMatrix | MultilabelCounts, names: list[str], title: str) -> Table:
    """Per-class IoU, Dice, precision and recall with the mean IoU below; n/a where a class is absent."""
    table = Table(title=title, title_justify="left")
    table.add_column("class")
    for heading in ("IoU", "Dice", "precision", "recall", "pixels"):
        table.add_column(heading, justify="right")
    for row in confusion.table(names):
        figures = (row[key] for key in ("iou", "dice", "precision", "recall"))
        table.add_row(row["class"], *map(_figure, figures), f"{row['pixels']:,}")
    table.add_section()
    table.add_row("mean IoU", _figure(confusion.mean_iou()), "", "", "", "", style="bold")
    table.add_row("pixel accuracy", _figure(confusion.pixel_accuracy()), "", "", "", "")
    return table


def _figure(value: float | None) -> str:
    return "n/a" if value is None or math.isnan(value) else f"{value:.4f}"

"""Display elements of commands: progress bars, tables, the device in use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from segzoo.progress import ProgressLines
from segzoo.terminal import say, warn


@contextmanager
def progress_bar(
    console: Console, words: str, device: bool | str = True, unit: str | None = None
) -> Iterator[Callable[[int, int], None]]:
    """Draw a bar on a terminal from the first report of progress on, until the block ends; print lines elsewhere.

    Args:
        console: console to draw on.
        words: description of the current activity.
        device: whether the device in use is printed first; or its name, where it was chosen.
        unit: what is counted, such as "images", whose speed the bar shows; None: no speed.

    Yields:
        what to call with the number done so far and that of all.
    """
    columns = [TextColumn(words), BarColumn(bar_width=None), MofNCompleteColumn(), TimeRemainingColumn()]
    if unit is not None:
        columns.insert(3, _SpeedColumn(unit))
    bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
    lines = ProgressLines(partial(say, console), words, unit)
    tasks: list[TaskID] = []

    def show(done: int, total: int) -> None:
        if not tasks:
            if isinstance(device, str):
                say(console, f"Device: {device}")
            elif device:
                say_device(console)
            tasks.append(bar.add_task(words, total=total))
            bar.start()
        if bar.disable:
            lines(done, total)
        else:
            bar.update(tasks[0], completed=done)

    try:
        yield show
    finally:
        if tasks:
            bar.stop()


class _SpeedColumn(ProgressColumn):
    """Speed of the last half minute, such as "3.2 images/s"."""

    def __init__(self, unit: str):
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return the speed; nothing before the second report of progress."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.3g} {self._unit}/s", style="progress.data.speed")


def say_device(console: Console) -> None:
    """Print the device in use, and a warning where a better one lies idle."""
    from segzoo.device import device_name, idle_card_note

    say(console, f"Device: {device_name()}")
    if note := idle_card_note():
        warn(console, note)


def listing_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    title: str,
    right: Sequence[int] = (),
    wrapped: Sequence[str] = ("description",),
) -> Table:
    """Return a table so narrow that a row of all levels fits into 80 columns.

    Args:
        headings: headings of the columns.
        rows: texts, one for each column.
        title: above the table.
        right: columns that are aligned to the right.
        wrapped: headings of columns that may have several lines.
    """
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    for index, heading in enumerate(headings):
        justify: Literal["right", "left"] = "right" if index in right else "left"
        table.add_column(heading, no_wrap=heading not in wrapped, overflow="fold", justify=justify)
    for row in rows:
        table.add_row(*map(Text, row))
    return table

"""Progress as plain lines, and the choice between them and a bar."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from segzoo.cli.display import progress_bar
from segzoo.progress import ProgressLines, duration


class Clock:
    """Clock that stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_at_once_and_then_one_every_half_minute() -> None:
    clock, lines = Clock(), []
    progress = ProgressLines(lines.append, "evaluating", "images", clock)
    progress(0, 1330)
    assert lines == ["evaluating: 1,330 images"]
    clock.now += 40  # the first batch traces the graph, and counts for no speed
    progress(10, 1330)
    for done in range(20, 101, 10):
        clock.now += 8
        progress(done, 1330)
    assert lines[1:] == [
        "evaluating: 10 of 1,330 images",
        f"evaluating: 50 of 1,330 images, {duration(0.8 * 1280)} left",
        f"evaluating: 90 of 1,330 images, {duration(0.8 * 1240)} left",
    ]


def test_the_end_has_no_line_of_its_own() -> None:
    clock, lines = Clock(), []
    progress = ProgressLines(lines.append, "exporting", None, clock)
    progress(0, 2)
    clock.now += 100
    progress(1, 2)
    clock.now += 100
    progress(2, 2)
    assert lines == ["exporting: 2", "exporting: 1 of 2"]


@pytest.mark.parametrize("terminal", [False, True])
def test_a_terminal_gets_a_bar_and_anything_else_lines(terminal: bool) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=terminal, color_system=None)
    with progress_bar(console, "reading", device=False, unit="samples") as progress:
        progress(0, 7)
        progress(7, 7)
    assert (stream.getvalue() == "reading: 7 samples\n") is not terminal
    assert ("━" in stream.getvalue()) is terminal


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05"), (360000, "100:00:00")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text

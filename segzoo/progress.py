"""Progress as plain lines, for a pipe or a log file, which no bar can be drawn on."""

from __future__ import annotations

import time
from collections.abc import Callable

_BETWEEN_LINES = 30.0  # seconds; a log file should not fill with them


def duration(seconds: float) -> str:
    """A span of time as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


class ProgressLines:
    """Lines on the progress of one activity: the first at once, the others no more often than every half minute.

    Args:
        write: prints a line.
        words: the activity, such as "evaluating".
        unit: what is counted, such as "images"; None: it is not named.
        clock: seconds since some moment.

    Example:
        >>> lines = ProgressLines(print, "evaluating", "images")
        >>> lines(0, 133)
        evaluating: 133 images
    """

    def __init__(
        self,
        write: Callable[[str], None],
        words: str,
        unit: str | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._write = write
        self._words = words
        self._counted = "" if unit is None else f" {unit}"
        self._clock = clock
        self._line: float | None = None
        self._first = (0.0, 0)  # moment and number of the first report with something done

    def __call__(self, done: int, total: int) -> None:
        """Report that `done` of `total` are done; prints a line if one is due."""
        now = self._clock()
        if self._line is None:
            self._line = now
            self._write(f"{self._words}: {total:,}{self._counted}")
        if done and not self._first[1]:
            self._first = (now, done)  # the first may include the tracing of a graph, so it counts for no speed
        if now - self._line < _BETWEEN_LINES or done >= total:  # at the end the result itself is printed
            return
        self._line = now
        self._write(f"{self._words}: {done:,} of {total:,}{self._counted}{self._left(now, done, total)}")

    def _left(self, now: float, done: int, total: int) -> str:
        moment, first = self._first
        if done <= first:
            return ""
        return f", {duration((now - moment) / (done - first) * (total - done))} left"


def percent(share: float) -> str:
    """Write a fraction in percent: two digits, and where they would be 1e+02, three."""
    return f"{100 * share:.{3 if share > 0.99 else 2}g}"

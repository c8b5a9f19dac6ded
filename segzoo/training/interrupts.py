"""SIGTERM and SIGINT as a request to save and stop: what Slurm, spot machines and Ctrl-C send."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from rich.console import Console

#: Exit code of a run that saved its state and stopped because a signal asked for it: EX_TEMPFAIL, "try again later".
EXIT_CODE = 75


class Interrupts:
    """Within its block the first SIGTERM or SIGINT is only noted; the second ends the process at once.

    Outside the main thread, where Python allows no handlers, it changes nothing.

    Args:
        console: where the first signal is acknowledged.

    Attributes:
        requested: name of the signal that came, or None.
    """

    def __init__(self, console: Console):
        self.console = console
        self.requested: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) != signal.SIG_IGN:  # as a shell does for what it starts in the background
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number).name
        for other in self._before:
            signal.signal(other, signal.SIG_DFL)  # state files are written so that death at any moment does no harm
        self.console.show_cursor(True)  # which the progress bar hides, and a second signal leaves no time to show
        self.console.print(
            f"{self.requested}: finishing this step and saving the state. Once more ends at once.", highlight=False
        )

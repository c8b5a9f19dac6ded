"""Handling of SIGTERM and SIGINT, which Slurm, spot machines and Ctrl-C send, as requests to save and stop."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console

from segzoo.terminal import say

#: Exit code of a run that saved its state and stopped because a signal asked for it: EX_TEMPFAIL, "try again later".
EXIT_CODE = 75
#: Exit code of a command that Ctrl-C stopped where there was nothing to save: 128 + SIGINT, as shells have it.
CTRL_C_CODE = 130


# Seconds after which an exception that Python ignored is raised again.
_AGAIN = 0.05


class SignalReceived(BaseException):
    """A signal ends a command; not an Exception, so that nothing but the command line catches it.

    Attributes:
        number: number of the signal.
        signal: name of the signal.
        exit_code: exit code of the command.
    """

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.number = number
        self.signal = signal.Signals(number).name
        self.exit_code = CTRL_C_CODE if number == signal.SIGINT else EXIT_CODE


# The signal that ends the command that runs, where one came: there is one command in a process.
_received: list[SignalReceived] = []


@contextmanager
def stopped_by_signals(*, ignore_hangup: bool = False) -> Iterator[list[SignalReceived]]:
    """Raise SignalReceived within the block at the first SIGTERM or SIGINT; the second ends the process at once.

    Yields a list that then holds it, for where somebody else's code made another error of it. Where it comes in the
    midst of what can raise nothing, such as a finalizer or JAX's callback of the garbage collector, it is raised again
    a moment later. A training replaces these handlers by its own (`Interrupts`) as soon as it has something to save.

    Args:
        ignore_hangup: whether the block goes on when its terminal vanishes (SIGHUP).
    """
    received = _received
    before: dict[int, Any] = {}
    hook = sys.unraisablehook

    def again(number: int, frame: FrameType | None) -> None:
        raise received[-1]

    def unraisable(ignored: Any) -> None:
        if not isinstance(ignored.exc_value, SignalReceived):
            hook(ignored)
        elif hasattr(signal, "setitimer"):
            before.setdefault(signal.SIGALRM, signal.signal(signal.SIGALRM, again))
            signal.setitimer(signal.ITIMER_REAL, _AGAIN)

    def stop(number: int, frame: FrameType | None) -> None:
        for other in (signal.SIGTERM, signal.SIGINT):
            if other in before:
                signal.signal(other, signal.SIG_DFL)
        received.append(SignalReceived(number))
        raise received[-1]

    handlers: dict[int, Any] = {signal.SIGTERM: stop, signal.SIGINT: stop}
    if ignore_hangup and hasattr(signal, "SIGHUP"):
        handlers[signal.SIGHUP] = lambda number, frame: None  # SIG_IGN would be inherited by what the run starts
    if threading.current_thread() is threading.main_thread():
        sys.unraisablehook = unraisable
        for number, handler in handlers.items():
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup does, and a shell for what runs behind it
                before[number] = signal.signal(number, handler)
    try:
        yield received
    finally:
        _cancel_alarm()
        received.clear()
        sys.unraisablehook = hook
        for number, previous in before.items():
            signal.signal(number, previous)


def _cancel_alarm() -> None:
    if _received and hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


class Interrupts:
    """Context in which the first SIGTERM or SIGINT is only recorded; the second ends the process at once.

    One that came before the block, and that the code there has swallowed, counts as the first.

    Outside the main thread, where Python allows no handlers, it changes nothing.

    Args:
        console: console on which the first signal is acknowledged.

    Attributes:
        requested: name of the signal that came, or None.
    """

    def __init__(self, console: Console):
        self.console = console
        self.requested: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        """Install the signal handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                if signal.getsignal(number) != signal.SIG_IGN:  # as a shell does for what it starts in the background
                    self._before[number] = signal.signal(number, self._note)
            if _received:
                _cancel_alarm()
                self._note(_received[-1].number, None)
        return self

    def __exit__(self, *exception: object) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = signal.Signals(number).name
        for other in self._before:
            signal.signal(other, signal.SIG_DFL)  # state files are written so that death at any moment does no harm
        self.console.show_cursor(True)  # which the progress bar hides, and a second signal leaves no time to show
        say(self.console, f"{self.requested}: finishing this step and saving the state. Once more ends at once.")

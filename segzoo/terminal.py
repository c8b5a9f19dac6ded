"""Robust standard streams: a closed terminal, a broken pipe or a full log cannot end a training.

A stream can be full, closed, of an encoding without the letters of a name, or a pipe that nobody reads; a terminal can
vanish. `steady_streams` puts streams in their place that escape what cannot be encoded and never raise.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO, cast

from rich.console import Console
from rich.text import Text

from segzoo.escaping import unbroken

logger = logging.getLogger("segzoo")

_MOST_WAITING = 2**20  # bytes kept for a reader that is away; what comes later is left out


def new_console() -> Console:
    """Return a console for the standard output, wide unless it is a terminal."""
    made = Console()
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = 240  # a file or a pipe: Rich would cut tables to 80 columns
    return made


class LogConsole(Console):
    """Console for library use, which writes to the logger "segzoo" instead of the terminal.

    `logging.basicConfig(level="INFO", format="%(message)s")` shows it; without, only warnings are.
    """

    def __init__(self) -> None:
        super().__init__(file=cast(TextIO, _LogLines()), width=120, color_system=None)


class _LogLines(io.TextIOBase):
    """Forward lines of text to the logger."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            logger.info(line)
        return len(text)


def say(where: Console, text: str) -> None:
    """Print plain text, of one line or several: nothing in it is markup, and a terminal wraps it."""
    if isinstance(where, LogConsole):
        logger.info(text)
        return
    where.print(Text(unbroken(text)), soft_wrap=True)


def warn(where: Console, text: str) -> None:
    """Print plain text as a warning."""
    if isinstance(where, LogConsole):
        logger.warning(text)
        return
    where.print(Text.assemble(("Warning:", "yellow"), " ", unbroken(text)), soft_wrap=True)


class SteadyStream(io.TextIOBase):
    """Text stream that replaces one with a file descriptor, and never raises on errors of that one.

    A thread writes, so that one blocked there cannot keep the others from working, nor signals from being handled.

    Args:
        stream: stream that this object replaces.
        patience: seconds that `flush` waits for a reader, and again only after the reader has come back; None: as
            long as it takes.

    Attributes:
        lost: why something could not be written; None where all of it could. A reader that has left had enough.
    """

    def __init__(self, stream: TextIO, patience: float | None):
        super().__init__()
        stream.flush()
        self._stream = stream
        self._descriptor = stream.fileno()
        self._patience = patience
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._is_away = False
        self._left_out = 0
        self._changed = threading.Condition()
        self._writer: tuple[int, threading.Thread] | None = None
        self.lost: str | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Encoding of the replaced stream."""
        return self._stream.encoding or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """Error handler for characters that the encoding lacks."""
        return "backslashreplace"

    def fileno(self) -> int:
        """File descriptor of the replaced stream."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return True if the stream is connected to a terminal."""
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        """Return True: the stream always accepts text."""
        return True

    def write(self, text: str) -> int:
        """Write text; whole lines are flushed."""
        content = text.encode(self.encoding, self.errors)
        with self._changed:
            self._start()
            if self._is_away and self._size + len(content) > _MOST_WAITING:
                self._left_out += len(content)
                return len(text)
            self._waiting.append(content)
            self._size += len(content)
            self._changed.notify_all()
        if "\n" in text:
            self.flush()
        return len(text)

    def flush(self) -> None:
        """Wait until everything has been written, or the timeout has passed."""
        deadline = None if self._patience is None else time.monotonic() + self._patience
        with self._changed:
            while self._size and not self._is_away and self._writes():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    self._is_away = True
                    self.lost = "nobody reads it"
                    return
                # In short turns: on some systems a signal is not handled before the wait ends.
                self._changed.wait(1.0 if left is None else min(left, 1.0))

    def _writes(self) -> bool:
        return self._writer is not None and self._writer[0] == os.getpid() and self._writer[1].is_alive()

    def _start(self) -> None:
        if not self._writes():  # the first time, and in a process that was forked from one that had a thread
            thread = threading.Thread(target=self._write_all, name="standard stream", daemon=True)
            self._writer = (os.getpid(), thread)
            thread.start()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    self._changed.wait()
                content = self._waiting[0]
            reason = _write(self._descriptor, content)
            with self._changed:
                if reason is not None:
                    self.lost = reason
                self._waiting.popleft()
                self._size -= len(content)
                if not self._size:
                    self._is_away = False
                    if self._left_out:
                        note = f"[{self._left_out:,} bytes were left out here: nobody read them]\n".encode("ascii")
                        self._left_out = 0
                        self._waiting.append(note)
                        self._size += len(note)
                self._changed.notify_all()


def _write(descriptor: int, content: bytes) -> str | None:
    """Write to a descriptor, blocking as long as needed; return the reason of a failure, or None."""
    while content:
        try:
            content = content[os.write(descriptor, content) :]
        except BlockingIOError:  # somebody else made it non-blocking
            with suppress(OSError, ValueError):
                select.select([], [descriptor], [], 1.0)
        except OSError as error:
            # A reader that has left, such as `head`, had enough.
            return None if error.errno == errno.EPIPE else os.strerror(error.errno or 0)
    return None


@contextmanager
def steady_streams(patience: float | None) -> Iterator[list[SteadyStream]]:
    """Replace the standard output and error by steady streams within the block; yield them.

    Streams without a descriptor (a notebook's, a test's) stay, but escape what they cannot encode.
    """
    _fill_descriptors()
    before = sys.stdout, sys.stderr
    made: list[SteadyStream] = []

    def steady(stream: TextIO | None) -> TextIO:
        if stream is None:  # Python's way to say that the descriptor was closed when it started
            return Path(os.devnull).open("w", encoding="utf-8")
        try:
            stream.fileno()
        except (OSError, ValueError, AttributeError):
            return stream
        if os.name == "nt":  # a console there is no file
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
            return stream
        made.append(SteadyStream(stream, patience))
        return made[-1]  # type: ignore[return-value]

    sys.stdout, sys.stderr = steady(before[0]), steady(before[1])
    try:
        yield made
    finally:
        for stream in made:
            stream.flush()
        sys.stdout, sys.stderr = before


def _fill_descriptors() -> None:
    """Open the null device where a standard descriptor is closed: the next file opened would be taken for it."""
    if os.name == "nt":
        return
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)

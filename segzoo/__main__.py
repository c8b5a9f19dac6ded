"""Entry point of the command `segzoo`; a signal during imports ends it without a traceback."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from types import FrameType

# As `segzoo.engine.interrupts` has them, whose import takes longer than this module is needed.
_EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 75}


def main(arguments: Sequence[str] | None = None) -> None:
    """Import the command line and run it; see `segzoo.cli.main`, which takes the signals over."""
    before = {number: signal.signal(number, _stop) for number in _EXIT_CODES if _is_default(number)}
    if arguments is None:
        from segzoo.files import name_files_in_utf8

        name_files_in_utf8()
    from segzoo.cli import main as run

    for number, handler in before.items():
        signal.signal(number, handler)
    run(arguments)


def _is_default(number: int) -> bool:
    """Return True if a signal has its default handler, so is neither handled nor ignored, as under nohup."""
    return signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)


def _stop(number: int, frame: FrameType | None) -> None:
    os.write(2, f"{signal.Signals(number).name}: stopped. Nothing had begun yet.\n".encode("ascii"))
    os._exit(_EXIT_CODES[signal.Signals(number)])


if __name__ == "__main__":
    main()

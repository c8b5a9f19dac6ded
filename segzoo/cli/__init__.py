"""The command line of segzoo; `segzoo --help` lists the commands.

A command reads its options, calls the function that does the work, mostly of `segzoo.workflows`, and prints what that
found. No framework is imported here before a command needs it, so that help and lists come at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from segzoo import __version__
from segzoo.cli import comparing, data, exports, listing, models, serving, sharing, training
from segzoo.engine.interrupts import EXIT_CODE, SignalReceived, stopped_by_signals
from segzoo.errors import RunInterruptedError, SegzooError, shortened
from segzoo.escaping import unbroken
from segzoo.files import is_of_names, unnameable
from segzoo.terminal import say, steady_streams

app = typer.Typer(
    help="Segmentation models in Keras 3: train from one YAML file, evaluate, predict, export.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
weights = typer.Typer(help="Weights files.", no_args_is_help=True)
_COMMANDS: dict[str, Callable[..., None]] = {
    "train": training.train,
    "find-lr": training.find_lr,
    "evaluate": training.evaluate,
    "compare": comparing.compare,
    "predict": models.predict,
    "serve": serving.serve,
    "demo": serving.demo,
    "export": exports.export,
    "push": sharing.push,
    "check-data": data.check_data,
    "preview": data.preview,
    "init": data.init,
    "backbones": listing.backbones,
    "decoders": listing.decoders,
    "schema": listing.schema,
}
for _name, _command in _COMMANDS.items():
    app.command(_name)(_command)
app.add_typer(weights, name="weights")
weights.command("convert")(models.convert_weights)

_PATIENCE = 2.0  # seconds that a training waits for who reads its output


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; errors that a user can act on are printed as one paragraph.

    Exit codes: 0, done; 1, an error; 2, options or arguments that the command does not have; 75, stopped by SIGTERM, or
    a training by either signal with its state saved: the same command goes on; 130, stopped by Ctrl-C.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    # TensorFlow's start-up chatter hides the messages that matter; whoever wants it sets the variable.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    is_training = given[:1] == ["train"]  # its log holds what is shown, so a terminal that is lost does not end it
    with (
        steady_streams(_PATIENCE if is_training else None) as streams,
        stopped_by_signals(ignore_hangup=is_training) as by,
    ):
        try:
            code = _run(given)
        except BaseException:
            if not by:
                raise
            code = _stopped(by[0])  # which an import or a library has made into another error
        for stream in streams:
            stream.flush()
            if stream.lost and code == 0 and not is_training:
                _complain(f"What the command printed could not be written: {stream.lost}.")
                code = 1
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """Run a command and print its error, if any; return the exit code."""
    try:
        app(arguments)
    except SystemExit as stop:  # what typer ends every command with
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except SignalReceived as stop:
        return _stopped(stop)
    except RunInterruptedError as stop:
        say(Console(stderr=True), str(stop))
        return EXIT_CODE
    except SegzooError as error:
        _complain(str(error))
        return 1
    except OSError as error:  # a path that cannot even be looked at, a temporary folder that is full
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}.")
        return 1
    except UnicodeEncodeError as error:  # such as a file that a list names
        if not is_of_names(error):
            raise
        _complain(f"{shortened(error.object)}: {unnameable(error)}.")
        return 1
    return 0


def _stopped(stop: SignalReceived) -> int:
    say(Console(stderr=True), f"{stop.signal}: stopped. Nothing was saved by this command since its start.")
    return stop.exit_code


def _complain(text: str) -> None:
    message = Text.assemble(("Error:", "bold red"), " ", unbroken(text))
    Console(stderr=True).print(message, soft_wrap=True)

"""Standard streams that are full, closed, blocked or gone; signals; places that cannot be written to.

Each command is a process of its own, of the sort that starts no framework.
"""

import contextlib
import errno
import os
import pty
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import h5py
import numpy as np
import pytest
from rich.console import Console

from segzoo import cli, files
from segzoo.__main__ import main
from segzoo.engine.interrupts import CTRL_C_CODE, EXIT_CODE, Interrupts, SignalReceived, stopped_by_signals
from segzoo.engine.logs import TensorBoardLog
from segzoo.errors import StorageError
from segzoo.terminal import SteadyStream

RUN = "from segzoo.cli import main; main()"
# A training's streams, without the training: what it prints, a mark in a file, then the exit code.
AS_TRAINING = """
import sys, time
from pathlib import Path
from segzoo import cli

def command(arguments):
    Path(sys.argv[2]).write_text("started")
    for number in range(int(sys.argv[3])):
        print("line", number, "x" * 1000)
    time.sleep(float(sys.argv[4]))
    Path(sys.argv[2]).write_text("done")
    return 0

cli._run = command
cli.main(["train"])
"""


def segzoo(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        capture_output=not options,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


def start_training(mark, lines, seconds=0, **options):
    command = [sys.executable, "-c", AS_TRAINING, "train", str(mark), str(lines), str(seconds)]
    return subprocess.Popen(command, **options)


def until(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("command", [["schema"], ["backbones"], ["--help"]])
def test_output_onto_a_full_disk_is_one_paragraph_and_exit_code_1(command):
    with Path("/dev/full").open("w") as full:
        done = segzoo(*command, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == f"Error: What the command printed could not be written: {os.strerror(errno.ENOSPC)}.\n"


def test_a_reader_that_has_enough_is_no_error():
    process = subprocess.Popen([sys.executable, "-c", RUN, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(1)
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (0, b"")


def test_a_closed_output_is_no_error_and_no_file_is_taken_for_it(tmp_path):
    code = f"import sys, os; sys.argv[1:] = ['schema', '--out', {str(tmp_path / 'schema.json')!r}]; {RUN}"
    command = f'exec {sys.executable} -c "{code}" >&- 2>&- <&-'
    assert subprocess.run(["bash", "-c", command], timeout=60, check=False).returncode == 0
    assert (tmp_path / "schema.json").stat().st_size > 1000


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_names_are_escaped_where_the_terminal_lacks_their_letters(tmp_path, encoding):
    done = segzoo(
        "check-data",
        "наме[/b]\x1b.yaml",
        env={**os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: There is no configuration")
    assert r"\u043d\u0430\u043c\u0435[/b]\x1b.yaml" in done.stderr


@pytest.fixture
def named_in_many_letters(tmp_path):
    """A configuration in a file of such a name, whose folder of runs is a file of such a name."""
    (tmp_path / "läufe Ω 日本 🦊").write_text("")
    content = """
model: {decoder: fpn, backbone: resnet18}
data: {source: folder, root: données 日本, classes: [straße, 犬]}
training: {epochs: 1}
output: {root: läufe Ω 日本 🦊}
"""
    (tmp_path / "é Ω 🦊.yaml").write_text(content, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("options", "module", "words"),
    [
        ([], "segzoo", r"l\xe4ufe \u03a9 \u65e5\u672c \U0001f98a is a file, not a folder"),
        ([], "segzoo.cli", r"l\xe4ufe \u03a9 \u65e5\u672c \U0001f98a is a file, not a folder"),
        (["-X", "utf8=0"], "segzoo", r"data.root: names of files are in ascii here, which has no '\xe9'. Set the"),
    ],
)
def test_an_ascii_locale_has_files_of_all_names(named_in_many_letters, options, module, words):
    name, locale = "é Ω 🦊.yaml", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    if options:  # then it is the message that counts
        name = (named_in_many_letters / name).rename(named_in_many_letters / "mine.yaml").name
    done = subprocess.run(
        [sys.executable, *options, "-m", module, "check-data", name],
        cwd=named_in_many_letters,
        env={key: value for key, value in os.environ.items() if key != "PYTHONIOENCODING"} | locale,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1 and words in done.stderr.decode("ascii"), done.stderr
    assert b"Traceback" not in done.stderr


def test_a_name_of_letters_that_the_encoding_of_names_lacks_is_one_paragraph(monkeypatch, capsys, tmp_path):
    unknown = UnicodeEncodeError("latin-1", "日本", 1, 2, "ordinal not in range")
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    monkeypatch.setattr("segzoo.cli.app", Mock(side_effect=unknown))
    with pytest.raises(SystemExit) as stop:
        cli.main(["backbones"])
    assert stop.value.code == 1
    assert capsys.readouterr().err.startswith(
        "Error: '日本': names of files are in latin-1 here, which has no '本'. Set"
    )
    words = r"日本 cannot be written: names of files are in latin-1 .*PYTHONUTF8=1"
    with pytest.raises(StorageError, match=words), files.operation("write", Path("日本")):
        raise unknown


def test_a_training_goes_on_when_its_output_is_full_closed_or_nobody_reads_it(tmp_path):
    mark = tmp_path / "mark"
    with Path("/dev/full").open("w") as full:
        assert start_training(mark, 5, stdout=full).wait(60) == 0
    assert mark.read_text() == "done"
    process = start_training(mark, 500, stdout=subprocess.PIPE)  # a pipe holds 64 of these lines
    assert process.wait(60) == 0 and mark.read_text() == "done"
    assert process.stdout.read(6) == b"line 0"


def test_a_training_goes_on_when_its_terminal_vanishes(tmp_path):
    mark = tmp_path / "mark"
    master, terminal = pty.openpty()
    process = start_training(mark, 2000, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True)
    os.close(terminal)
    until(mark.exists)
    os.close(master)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0 and mark.read_text() == "done"


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_stops_what_has_nothing_to_save_also_while_output_is_blocked(tmp_path, signals_arrive, sent, code):
    for lines, seconds in ((0, 30), (2000, 30)):
        mark = tmp_path / f"mark{lines}"
        process = start_training(mark, lines, seconds, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until(mark.exists)
        process.send_signal(sent)
        assert process.wait(30) == code
        assert process.stderr.read().decode().startswith(f"{sent.name}: stopped.")


# The command, which gets a signal at the moment at which it begins to import the command line.
WHILE_IMPORTING = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "segzoo.cli":
            os.kill(os.getpid(), int(sys.argv[1]))

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
from segzoo.__main__ import main
main(["--version"])
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, EXIT_CODE), (signal.SIGINT, CTRL_C_CODE)])
def test_a_signal_while_the_command_is_being_imported_is_no_traceback(sent, code):
    command = [sys.executable, "-c", WHILE_IMPORTING, str(int(sent))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr == f"{sent.name}: stopped. Nothing had begun yet.\n"


def test_the_command_gives_signals_back_before_it_runs(monkeypatch):
    before, found = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], []
    monkeypatch.setattr(
        "segzoo.cli.main",
        lambda given: found.extend([given, *map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))]),
    )
    main(["decoders"])
    assert found == [["decoders"], *before]


class Finalized:
    """Object that gets a signal in its finalizer, where Python ignores whatever is raised."""

    def __del__(self):
        signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def signals():
    """Signals as a command finds them at its start, and as they were again after the test."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_in_a_finalizer_is_raised_a_moment_later(signals, capsys):
    def collected():
        Finalized()
        time.sleep(20)

    start = time.monotonic()
    with pytest.raises(SignalReceived, match="SIGTERM"), stopped_by_signals():
        collected()
    assert time.monotonic() - start < 10 and capsys.readouterr().err == ""


def test_a_signal_that_was_swallowed_counts_as_soon_as_there_is_something_to_save(signals, capsys):
    with stopped_by_signals() as received:
        with contextlib.suppress(SignalReceived):
            signal.raise_signal(signal.SIGTERM)
        with Interrupts(Console()) as interrupts:
            assert interrupts.requested == "SIGTERM"
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # once more ends at once
    assert not received and "finishing this step and saving" in capsys.readouterr().out
    with stopped_by_signals(), Interrupts(Console()) as interrupts:
        assert interrupts.requested is None


def test_a_stream_writes_what_its_encoding_lacks_as_escapes(tmp_path):
    with (tmp_path / "out").open("w", encoding="ascii") as target:
        stream = SteadyStream(target, 1.0)
        print("Straße \udcff", file=stream, flush=True)
        assert stream.lost is None and not stream.isatty()
    assert (tmp_path / "out").read_text() == "Stra\\xdfe \\udcff\n"


def test_what_was_left_out_for_a_reader_that_was_away_is_said():
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as target:
        stream = SteadyStream(target, 0.2)
        for _ in range(300):
            stream.write("x" * 9999 + "\n")
        stream.flush()
        assert stream.lost == "nobody reads it"
        seen = b""
        while b"nobody read them" not in seen:
            seen += os.read(reading, 2**16)
    missing = int(seen.split(b"[")[1].split(b" ")[0].replace(b",", b""))
    assert seen.count(b"x") + seen.count(b"\n") - 1 + missing == 300 * 10_000
    os.close(reading)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no permission to mount a small file system")
    yield place
    subprocess.run(["umount", place], check=True)


def test_hdf5_and_event_files_on_a_full_disk_name_the_file(small_disk):
    path = small_disk / "some.weights.h5"
    path.write_bytes(b"before")
    with (
        pytest.raises(StorageError, match=rf"some\.weights\.h5 cannot be written: {os.strerror(errno.ENOSPC)}"),
        files.replacing(path) as temporary,
        h5py.File(temporary, "w") as file,
    ):
        for name in "abcd":
            file[name] = np.random.default_rng(0).random(100_000)
    assert path.read_bytes() == b"before" and [entry.name for entry in small_disk.iterdir()] == [path.name]
    log = TensorBoardLog(small_disk / "events")
    with pytest.raises(StorageError, match=rf"events\.out\.tfevents.* cannot be written: {os.strerror(errno.ENOSPC)}"):
        for step in range(2000):
            log.scalars(step, {f"tag{number}": 1.0 for number in range(50)})
    log.close()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(small_disk / "events"), {"scalars": 0})
    board.Reload()  # what is there is whole
    assert [event.step for event in board.Scalars("tag0")] == list(range(step))


def test_a_limit_on_the_size_of_files_is_a_storage_error(tmp_path):
    path = tmp_path / "some.weights.h5"
    before = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[0][1]))
    try:
        with (
            pytest.raises(StorageError, match=f"some.weights.h5 cannot be written: {os.strerror(errno.EFBIG)}"),
            files.replacing(path) as temporary,
            h5py.File(temporary, "w") as file,
        ):
            file["a"] = np.zeros(100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before[0])
        signal.signal(signal.SIGXFSZ, before[1])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("file/below/x.yaml", "is a file, not a folder"),
        ("folder.yaml", "it is a folder"),
        ("n" * 300 + ".yaml", os.strerror(errno.ENAMETOOLONG)),
        ("n/" * 2500 + "x.yaml", os.strerror(errno.ENAMETOOLONG)),
        ("zero\0byte.yaml", "zero byte"),
    ],
)
def test_places_that_cannot_hold_a_file(tmp_path, monkeypatch, place, words):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("folder.yaml").mkdir()
    with pytest.raises(StorageError, match=words) as caught:
        files.check_file(Path(place))
    assert str(caught.value).count("\n") == 0
    with pytest.raises(StorageError), files.replacing(Path(place)) as temporary:
        temporary.write_text("text")


def test_folders_that_are_files_and_names_as_long_as_they_may_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="it is a file"):
        files.check_folder(tmp_path / "file")
    with pytest.raises(StorageError, match="is a file, not a folder"):
        files.check_folder(tmp_path / "file" / "below")
    files.check_folder(tmp_path / "new" / "below")
    assert not (tmp_path / "new").exists()
    path = tmp_path / ("é" * 120 + ".weights.h5")  # 251 bytes; with a process id before it 255 are not enough
    files.check_file(path)
    with files.replacing(path) as temporary:
        assert temporary.name.endswith(".weights.h5") and files.is_temporary(temporary)
        temporary.write_text("text")
    assert path.read_text() == "text"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"KERAS_BACKEND": "theano"}, "KERAS_BACKEND names the Keras backend 'theano'.*KERAS_BACKEND=tensorflow"),
        ('{"backend": "theano"}', r"keras\.json names the Keras backend 'theano'.*KERAS_BACKEND=tensorflow"),
        ('{"backend": ["jax"]}', r"keras\.json names the Keras backend \['jax'\]"),
        ("[1]", r"keras\.json holds no settings of Keras, but list"),
    ],
)
def test_a_backend_that_is_none_is_one_paragraph(tmp_path, monkeypatch, settings, words):
    from segzoo.backend import check_backend
    from segzoo.errors import ConfigError

    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    if isinstance(settings, str):
        (tmp_path / "keras.json").write_text(settings)
    else:
        monkeypatch.setenv(*next(iter(settings.items())))
    with pytest.raises(ConfigError, match=words):
        check_backend()


def test_a_backend_that_is_not_installed_names_those_that_are(monkeypatch):
    from segzoo import backend
    from segzoo.errors import MissingPackageError

    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda name: None if name == "jax" else object())
    with pytest.raises(MissingPackageError, match=r"pip install jax.*tensorflow, torch.*KERAS_BACKEND=tensorflow"):
        backend.check_backend()


def test_library_use_tells_the_logger_and_prints_nothing(capsys, caplog) -> None:
    from rich.table import Table

    from segzoo.terminal import LogConsole, say, warn

    console = LogConsole()
    table = Table("class", "IoU")
    table.add_row("cat", "0.5")
    with caplog.at_level("INFO", logger="segzoo"):
        say(console, "epoch 1/2 [bold]")
        warn(console, "too short")
        console.print(table)
    assert capsys.readouterr() == ("", "")
    assert caplog.record_tuples[:2] == [("segzoo", 20, "epoch 1/2 [bold]"), ("segzoo", 30, "too short")]
    assert any("cat" in text and "0.5" in text for _, _, text in caplog.record_tuples[2:])

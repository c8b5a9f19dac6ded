"""A run that was killed, stopped or let down by its disk ends with the bits of one that was not.

A kill at some file operation leaves what lies in the folder before it. So one run is watched through the file layer,
the folder copied before every operation, step and validation batch, and a few distinct copies gone on with; the marker
`nightly` goes on with every one. A process that is terminated and killed for real stands at the end.
"""

import csv
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import textwrap
from pathlib import Path

import numpy as np
import pytest
from moments import Moments, at_moment, die
from rich.console import Console

from segzoo import files
from segzoo.config import load_config
from segzoo.engine import epochs as course
from segzoo.engine import train
from segzoo.engine.checkpoint import checkpoint_file
from segzoo.engine.checkpoint.progress import CLOCKED
from segzoo.errors import RunError, RunInterruptedError, SegzooError

RECIPE = """
name: tiny
model: {decoder: fpn, backbone: resnet18, weights: none}
data: {source: generated, size: [32, 32], train_count: 12, val_count: 5, batch_size: 4, eval_batch_size: 2, workers: 0}
training:
  epochs: 2
  schedule: {name: poly, warmup_steps: 1}
  save_every: 0
  reduce_on_plateau: {patience: 1, min_delta: 0.9}
  early_stopping: {patience: 9}
output: {pictures: 2, keep_state: true}
"""
STEPS, VAL_BATCHES = 6, 6


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def run(recipe, tmp_path):
    """Train in `root`; returns the run folder."""
    with (tmp_path / "screen.txt").open("w") as stream:
        console = Console(file=stream, width=200)

        def run(root, *overrides, **options):
            return train(load_config(recipe, [f"output.root={root}", *overrides]), console=console, **options).folder

        yield run


@pytest.fixture(scope="module")
def references():
    return []


@pytest.fixture(scope="module")
def operations_of_a_run():
    """Names and paths of the file operations of a run that saves after every step, once a test has watched one."""
    return []


@pytest.fixture
def whole(quick, run, tmp_path, references):
    """Files of an undisturbed run, which saves at the ends of epochs only."""
    if not references:
        references.append(left_behind(run(tmp_path / "whole", "training.save_every=1e9")))
    return references[0]


def left_behind(folder):
    """All that a run leaves, as far as it does not depend on the clock."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def timeless(rows):
        exempt = (*CLOCKED, "time", "epoch_began")
        return [{key: value for key, value in row.items() if key not in exempt} for row in rows]

    stored = checkpoint_file.read(folder / "state.npz")
    found = {key: (value.dtype.str, value.tobytes()) for key, value in stored.arrays.items()}
    origin = stored.facts.pop("origin")
    found["origin"] = {"data": origin["data"], "versions": origin["versions"]}  # the settings are free in part
    found["events"] = timeless(stored.facts.pop("events"))
    found["facts"] = timeless([stored.facts])
    found["log"] = timeless(json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines())
    with (folder / "metrics.csv").open() as stream:
        found["metrics"] = timeless(csv.DictReader(stream))
    found["result"] = timeless([json.loads((folder / "result.json").read_text())])
    for name in ("best.weights.h5", "last.weights.h5", "figures/predictions.png", "figures/curves.png"):
        found[name] = (folder / name).read_bytes()
    board = EventAccumulator(str(folder / "tensorboard"))
    board.Reload()
    for tag in set(board.Tags()["scalars"]) - set(CLOCKED):
        found[f"board/{tag}"] = [(event.step, event.value) for event in board.Scalars(tag)]
    found["board/pictures"] = [(event.step, event.encoded_image_string) for event in board.Images("predictions_best")]
    return found


def assert_equal(folder, whole):
    left = left_behind(folder)
    assert left.keys() == whole.keys()
    assert [key for key in left if left[key] != whole[key]] == []
    assert not any(files.is_temporary(path) for path in folder.rglob("*"))


class Snapshots:
    """Copies a folder before every file operation, and whenever it is called, unless it looks as in a copy before."""

    def __init__(self, folder, target):
        self.folder, self.target = folder, target
        self.copies, self.operations, self._seen = [], [], set()

    def __call__(self, name, path):
        self.operations.append((name, path))
        content = hashlib.sha256()
        for file in sorted(file for file in self.folder.rglob("*") if file.is_file() and not files.is_temporary(file)):
            content.update(repr((str(file.relative_to(self.folder)), file.read_bytes())).encode())
        if self.folder.is_dir() and content.digest() not in self._seen:
            self._seen.add(content.digest())
            copy = self.target / f"{len(self.copies):03d}" / self.folder.name
            shutil.copytree(self.folder, copy)
            torn = copy / f".{10**9}-state.npz"  # a temporary file that the kill cut off
            torn.write_bytes(b"half a st")
            self.copies.append((f"before {name} {path.name}", copy))


@pytest.fixture
def watched(quick, run, tmp_path, monkeypatch):
    """Run once and copy its folder at every moment at which it changed; the setting is that of save_every."""

    def watched(save_every, *overrides):
        snapshots = Snapshots(tmp_path / "watched" / "tiny", tmp_path / "copies")

        def copy(moment, number):
            if moment in ("step", "validation"):
                snapshots(moment, Path(str(number)))

        with monkeypatch.context() as patch:
            patch.setattr(files, "fault", snapshots)
            settings = f"training.save_every={save_every}"
            folder = run(tmp_path / "watched", settings, *overrides, callbacks=[Moments(copy)])
        return folder, snapshots

    return watched


def resumes_at(folder):
    """Return the step of the state in a run folder."""
    stored = checkpoint_file.read(folder / "state.npz")
    return stored.facts["step"] if stored else 0


@pytest.fixture(params=["some", pytest.param("every", marks=pytest.mark.nightly)])
def part(request):
    """Take a few of a list, evenly up to its end, or all of it where the marker `nightly` asks for every moment."""

    def part(found, few):
        if request.param == "every":
            return list(found)
        return [found[index] for index in np.linspace(0, len(found) - 1, few + 1)[1:].round().astype(int)]

    return part


@pytest.mark.parametrize("save_every", ["0", pytest.param("1e9", marks=pytest.mark.nightly)])
def test_killed_at_every_step_validation_batch_and_file_operation(
    whole, watched, operations_of_a_run, run, tmp_path, save_every, part
):
    folder, snapshots = watched(save_every)
    operations_of_a_run[:] = snapshots.operations if save_every == "0" else operations_of_a_run
    assert_equal(folder, whole)  # so saves change nothing
    names = [name for name, _ in snapshots.operations]
    assert names.count("step") == STEPS and names.count("validation") == VAL_BATCHES
    saves = sum((name, path.name) == ("replace", "state.npz") for name, path in snapshots.operations)
    assert saves == (STEPS + 2 if save_every == "0" else 2)
    resumed_at, tried = set(), part(snapshots.copies, 2)
    for moment, copy in tried:
        resumed_at.add(resumes_at(copy))
        try:
            if (copy / "result.json").exists():  # which comes last: the run is finished
                files.remove_temporaries(copy)
                assert_equal(copy, whole)
            else:
                assert_equal(run(copy.parent), whole)
        except Exception as error:
            raise AssertionError(f"killed {moment}: {copy}") from error
        shutil.rmtree(copy.parent)
    states = set(range(STEPS + 1)) if save_every == "0" else {0, 3, 6}
    assert resumed_at == states if tried == snapshots.copies else resumed_at <= states and len(resumed_at) > 1


def bare(left):
    """Return the files of a run without the variables of its state, which then has the whole log too."""
    kept = {key: value for key, value in left.items() if not key.startswith(("model/", "optimizer/", "random/"))}
    return {**kept, "events": left["log"]}


def test_killed_at_every_file_operation_of_its_end_a_run_has_its_state_or_needs_it_no_more(
    whole, watched, run, tmp_path, part
):
    folder, snapshots = watched("1e9", "output.keep_state=false")
    assert left_behind(folder) == bare(whole)
    assert not (folder / "state.previous.npz").exists() and (folder / "state.npz").stat().st_size < 20_000
    snapshots("the end", folder)
    finished = [(moment, copy) for moment, copy in snapshots.copies if (copy / "result.json").exists()]
    states, tried = [], part(finished, 2)
    for moment, copy in finished:
        stored = checkpoint_file.read(copy / "state.npz")
        states.append((stored.is_bare, (copy / "state.npz").exists(), (copy / "state.previous.npz").exists()))
        if not stored.is_bare:
            kept = {key: (value.dtype.str, value.tobytes()) for key, value in stored.arrays.items()}
            assert kept == {key: whole[key] for key in kept} and len(kept) == len(whole) - len(bare(whole)), moment
        if (moment, copy) not in tried:
            continue
        assert run(copy.parent, "output.keep_state=false", resume=True) == copy
        left = left_behind(copy)
        assert (left if stored.is_bare else bare(left)) == bare(whole), moment
        assert not stored.is_bare or not (copy / "state.previous.npz").exists(), moment
    # Whole, with the one before it; renamed to be the one before; bare with that beside it; bare alone.
    assert list(dict.fromkeys(states)) == [
        (False, True, True), (False, False, True), (True, True, True), (True, True, False)
    ]  # fmt: skip
    unfinished = [found for found in snapshots.copies if found not in finished]
    unfinished.sort(key=lambda found: resumes_at(found[1]) == 3)  # the one tried has an epoch behind and one before it
    for moment, copy in part(unfinished, 1):
        assert left_behind(run(copy.parent, "output.keep_state=false")) == bare(whole), moment


def test_a_disk_that_refuses_any_operation_stops_the_run_and_loses_nothing(
    whole, watched, operations_of_a_run, run, tmp_path, monkeypatch, part
):
    if not operations_of_a_run:
        operations_of_a_run.extend(watched("0")[1].operations)
    operations = [(name, path) for name, path in operations_of_a_run if name not in ("step", "validation")]
    # Of each kind of operation on some files one in the middle of the run, where there is one.
    chosen = {"state.npz", "best.weights.h5", "log.jsonl", "metrics.csv", "tensorboard", "tiny", "config.yaml", ".lock"}
    found = {}
    for index, (name, path) in enumerate(operations):
        if path.name in chosen:
            found.setdefault((name, path.name), []).append(index)
    places = {key: indices[len(indices) // 2] for key, indices in found.items()}
    assert len(places) > 20
    for number, ((name, file), index) in enumerate(part(sorted(places.items()), 2)):
        seen = iter(range(len(operations) * 2))
        code = (errno.ENOSPC, errno.EROFS)[number % 2]

        def refuse(name, path, seen=seen, index=index, code=code):
            if next(seen) == index:
                raise OSError(code, os.strerror(code))

        root = tmp_path / f"refused{number}"
        with monkeypatch.context() as patch:
            patch.setattr(files, "fault", refuse)
            with pytest.raises(SegzooError) as caught:
                run(root)
        message = str(caught.value)
        assert re.search(r"No space left on device|Read-only file system", message), (name, file, message)
        assert "\n" not in message
        assert_equal(run(root), whole)
        shutil.rmtree(root)


@pytest.mark.parametrize(
    "signals",
    [
        [(signal.SIGTERM, "start"), (signal.SIGTERM, "step 2"), (signal.SIGINT, "validation 4")],  # one after another
        pytest.param([(signal.SIGINT, "step 3")], marks=pytest.mark.nightly),
        pytest.param([(signal.SIGTERM, "validation 1")], marks=pytest.mark.nightly),
    ],
    ids=lambda signals: ", ".join(at for _, at in signals),
)
def test_a_signal_saves_and_stops_and_the_same_command_goes_on(whole, run, tmp_path, signals_arrive, signals):
    did, resumable = [], False
    for number, at in signals:
        before = signal.getsignal(number)
        sending = at_moment(at, lambda number=number: os.kill(os.getpid(), number))
        with pytest.raises(RunInterruptedError, match=rf"{signal.Signals(number).name}: stopped after step \d of 6"):
            run(tmp_path, "training.save_every=1e9", callbacks=[sending])
        assert signal.getsignal(number) == before
        step = {"start": 0, "step 2": 2, "step 3": 3, "validation 1": 3, "validation 4": 6}[at]
        assert resumes_at(tmp_path / "tiny") == step
        did += ["resume" if resumable else "start", "interrupted"]
        resumable = step > 0
    folder = run(tmp_path)
    assert_equal(folder, whole)
    sessions = [json.loads(line)["event"] for line in (folder / "sessions.jsonl").read_text().splitlines()]
    assert sessions == [*did, "resume" if resumable else "start", "finish"]


def test_a_second_process_is_refused_while_the_first_trains(whole, run, tmp_path):
    refused = []

    def second():
        for options in ({}, {"resume": True}, {"overwrite": True}, {"resume_anyway": True}):
            with pytest.raises(RunError, match=rf"Another process is training in .*process {os.getpid()} on"):
                run(tmp_path, **options)
            refused.append(options)

    assert_equal(run(tmp_path, callbacks=[at_moment("step 2", second)]), whole)
    assert len(refused) == 4


def test_a_damaged_state_costs_steps_but_no_bit(whole, run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "runs", callbacks=[at_moment("step 6 begins", die)])
    state = tmp_path / "runs" / "tiny" / "state.npz"
    assert [checkpoint_file.read(path).facts["step"] for path in (state, checkpoint_file.previous_of(state))] == [5, 4]
    state.write_bytes(state.read_bytes()[:-1000])
    assert_equal(run(tmp_path / "runs"), whole)
    assert "The newest run state is damaged" in (tmp_path / "screen.txt").read_text()


def test_what_changed_is_said_and_what_may_change_is_free(whole, run, tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "before", callbacks=[at_moment("step 2 begins", die)])
    shutil.move(tmp_path / "before", tmp_path / "after")  # a run folder may move
    before = (tmp_path / "after" / "tiny" / "state.npz").read_bytes()
    for change, text in (
        ("seed=1", "seed was 0 and is 1"),
        ("training.epochs=3", "training.epochs was 2 and is 3"),
        ("data.train_count=16", "data.train was .* and is"),
    ):
        with pytest.raises(RunError, match=rf"started with something else: .*{text}.*--resume-anyway"):
            run(tmp_path / "after", change)
    with monkeypatch.context() as patch:
        patch.setattr("keras.__version__", "9.9.9")
        with pytest.raises(RunError, match=r"versions\.keras was '3.*' and is '9\.9\.9'"):
            run(tmp_path / "after")
        assert (tmp_path / "after" / "tiny" / "state.npz").read_bytes() == before
    assert_equal(run(tmp_path / "after", "data.workers=2", "data.cache_mb=0", "training.max_time=1h"), whole)


def test_max_time_ends_the_epoch_early_evaluates_and_finishes(quick, run, tmp_path, monkeypatch):
    monkeypatch.setattr(course.time, "perf_counter", iter(range(10**6)).__next__)  # every look at the clock a second
    folder = run(tmp_path, "training.max_time=4s", "training.save_every=1e9")
    result = json.loads((folder / "result.json").read_text())
    assert result["stopped"] == "max_time" and 0 < result["steps"] < STEPS
    with (folder / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 1 and rows[0]["val_mean_iou"]
    assert "training.max_time is over" in (tmp_path / "screen.txt").read_text()


SCRIPT = """
    import json, os, sys
    import tensorflow as tf
    from conftest import build_small_network
    from quick_runs import lighten
    from segzoo.cli import main
    from segzoo.engine import builders, epochs

    def after_step(self, progress, known=epochs.Epochs.after_step):
        if progress.step == step:
            os.kill(os.getpid(), number)
        return known(self, progress)

    tf.config.run_functions_eagerly(True)
    lighten(setattr)
    builders.build_network = build_small_network
    epochs.Epochs.after_step = after_step
    for step, number, *arguments in json.loads(sys.argv[1]):
        try:
            main(arguments)
        except SystemExit as stop:
            print("ended with", stop.code, file=sys.stderr)
"""


def test_a_process_terminated_and_killed_for_real(whole, recipe, run, tmp_path, forked):
    """One process is terminated in a run, resumes and ends it, starts another and is killed in that."""
    told = []
    for root, step, number in (
        ("stopped", 4, signal.SIGTERM), ("stopped", 0, 0), ("stopped", 0, 0), ("killed", 2, signal.SIGKILL)
    ):  # fmt: skip
        overrides = ("--set", f"output.root={tmp_path / root}", "--set", "training.save_every=0")
        told.append([step, int(number), "train", "--config", str(recipe), *overrides])
    done = forked(textwrap.dedent(SCRIPT), json.dumps(told), path=(Path(__file__).parents[1],), status=-signal.SIGKILL)
    interrupted, rest, again, _ = re.split(r"(?<=ended with) (?:75|0|1)\n", done.stderr)
    assert "SIGTERM: stopped after step 4 of 6" in interrupted and "already holds a finished run" in again
    assert re.findall(r"ended with (\d+)", done.stderr) == ["75", "0", "1"], rest
    assert_equal(tmp_path / "stopped" / "tiny", whole)
    stored = checkpoint_file.read(tmp_path / "killed" / "tiny" / "state.npz")
    assert stored.facts["step"] == 1  # the signal came before the state of the second step
    assert_equal(run(tmp_path / "killed"), whole)

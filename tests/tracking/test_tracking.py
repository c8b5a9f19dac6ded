"""Trackers: what they are told and when, that none ends a run, and the two services' own packages where installed."""

import json
import re
import sys
import time
import types
from typing import ClassVar

import pytest
from PIL import Image

from segzoo import tracking
from segzoo.errors import ConfigError, RunError
from segzoo.extras import install_command
from segzoo.registry import Registry
from segzoo.tracking import TRACKERS, TrackedRun, Tracking, check_packages
from segzoo.tracking.mlflow import flattened

FACTS = {"name": "tiny", "model": {"decoder": "fpn", "options": {}, "mean": [1.5, 2]}, "tracking": None}


class Recorder:
    """A tracker that notes what it is told and can be made to fail."""

    package = "json"
    told: ClassVar[list] = []
    failing: ClassVar[str | None] = None

    def __init__(self, run, *, project="segzoo"):
        self.id, self.where = run.id or "first", f"project {project}"
        self._note("start", run.id, project)

    def _note(self, what, *rest):
        if self.failing == what:
            raise ConnectionError("the server is away\nwith details")
        self.told.append((what, *rest))

    def scalars(self, step, values):
        self._note("scalars", step, dict(values))

    def picture(self, step, tag, path):
        self._note("picture", step, tag, path.name)

    def finish(self, figures, files):
        self._note("finish", dict(figures))

    def close(self, finished):
        self._note("close", finished)


@pytest.fixture
def recorder(monkeypatch):
    """A registry of two trackers, "good" and "other", which note to one list."""
    good = type("Good", (Recorder,), {"told": []})
    other = type("Other", (Recorder,), {"told": []})
    module = types.ModuleType("trackers_of_the_test")
    module.good, module.other = good, other
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(
        tracking, "TRACKERS", Registry("tracker", {n: f"{module.__name__}:{n}" for n in ("good", "other")})
    )
    return good, other


@pytest.fixture
def start(tmp_path):
    """Start the trackers of a run in `tmp_path`; what is said stands in the lists `told` and `warned`."""

    def start(*names, **settings):
        chosen = {name: settings.get(name, {}) for name in names}
        return Tracking(
            chosen, "tiny", FACTS, tmp_path / "trackers.json", tell=start.told.append, warn=start.warned.append
        )

    start.told, start.warned = [], []
    return start


def test_a_tracker_is_told_all_in_order(recorder, start, tmp_path):
    run = start("good", good={"project": "p"})
    run.send(4, {"loss": 1.0}, {"predictions": tmp_path / "sheet.png"})
    run.finish({"best": 0.5}, [])
    run.close(finished=False)  # what a context's end calls: there is nothing left to close
    assert recorder[0].told == [
        ("start", None, "p"),
        ("scalars", 4, {"loss": 1.0}),
        ("picture", 4, "predictions", "sheet.png"),
        ("finish", {"best": 0.5}),
        ("close", True),
    ]
    assert start.told == ["good: project p"] and start.warned == []


def test_the_next_process_continues_the_run_and_sends_no_step_twice(recorder, start):
    run = start("good")
    run.send(4, {"loss": 1.0}, {})
    run.close(finished=False)
    again = start("good")
    again.send(4, {"loss": 1.0}, {})  # the loop writes the last epoch again: a crash may have come before
    again.send(8, {"loss": 0.5}, {})
    assert [entry[:2] for entry in recorder[0].told] == [
        ("start", None), ("scalars", 4), ("close", False), ("start", "first"), ("scalars", 8),
    ]  # fmt: skip


@pytest.mark.parametrize("failing", ["scalars", "picture", "finish", "close"])
def test_a_tracker_that_fails_is_left_out_with_a_warning_and_the_others_go_on(recorder, start, tmp_path, failing):
    good, other = recorder
    run = start("good", "other")
    good.failing = failing
    run.send(4, {"loss": 1.0}, {"predictions": tmp_path / "sheet.png"})
    run.send(8, {"loss": 0.5}, {})
    run.finish({}, [])
    assert len(start.warned) == 1
    assert "good failed (ConnectionError: the server is away) and is told no more" in start.warned[0]
    assert [entry[0] for entry in other.told] == ["start", "scalars", "picture", "scalars", "finish", "close"]
    if failing == "scalars":  # what it missed is not taken for sent
        assert json.loads((tmp_path / "trackers.json").read_text())["good"]["step"] == -1


def test_a_new_run_is_not_begun_with_a_tracker_that_does_not_start_a_resumed_one_goes_on(recorder, start):
    good, other = recorder
    good.failing = "start"
    with pytest.raises(RunError, match=r"good could not be started: .*server is away.*--set tracking\.good=null"):
        start("other", "good")
    assert other.told[-1] == ("close", False)

    good.failing = None
    start("good").close(finished=False)
    good.failing = "start"
    start("good").send(4, {"loss": 1.0}, {})
    assert "good cannot be continued" in start.warned[0]


def test_a_damaged_record_is_told_of_and_begins_anew(recorder, start, tmp_path):
    (tmp_path / "trackers.json").write_text("{")
    start("good")
    assert "trackers.json cannot be read" in start.warned[0] and recorder[0].told == [("start", None, "segzoo")]


@pytest.mark.parametrize("name", list(TRACKERS))
def test_a_missing_package_is_an_error_with_the_command_that_installs_it(name, monkeypatch):
    monkeypatch.setitem(sys.modules, TRACKERS[name].package, None)
    with pytest.raises(ConfigError, match=rf"{re.escape(install_command(name))}.*--set tracking\.{name}=null"):
        check_packages([name])


def test_nested_facts_become_names_with_dots():
    assert dict(flattened(FACTS)) == {
        "name": "tiny", "model.decoder": "fpn", "model.options": "{}", "model.mean": "[1.5, 2]", "tracking": "null",
    }  # fmt: skip


@pytest.fixture
def sheet(tmp_path):
    path = tmp_path / "sheet.png"
    Image.new("RGB", (40, 30), (200, 10, 10)).save(path)
    return path


def test_mlflow_keeps_one_run_over_two_processes(tmp_path, sheet, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # in new versions a folder is deprecated in favour of SQLite
    from mlflow import MlflowClient

    settings = {"tracking_uri": (tmp_path / "store").as_uri(), "experiment": "tests"}
    first = TRACKERS["mlflow"](TrackedRun("tiny", FACTS, tmp_path), **settings)
    first.scalars(4, {"loss": 1.5, "val_iou/a <b>": 0.25})
    first.close(finished=False)
    second = TRACKERS["mlflow"](TrackedRun("tiny", FACTS, tmp_path, first.id), **settings)
    client = MlflowClient(settings["tracking_uri"])
    assert client.get_run(first.id).info.status == "RUNNING"
    second.scalars(8, {"loss": 0.5})
    second.picture(8, "predictions", sheet)
    second.finish({"best/val_mean_iou": 0.75}, [sheet])
    second.close(finished=True)

    (found,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert (found.info.run_id, found.info.status, found.info.run_name) == (second.id, "FINISHED", "tiny")
    assert found.data.params["model.decoder"] == "fpn" and found.data.params["model.mean"] == "[1.5, 2]"
    assert [(m.step, m.value) for m in client.get_metric_history(first.id, "loss")] == [(4, 1.5), (8, 0.5)]
    assert found.data.metrics["val_iou/a _b_"] == 0.25 and found.data.metrics["best/val_mean_iou"] == 0.75
    assert {entry.path for entry in client.list_artifacts(first.id)} == {"images", "sheet.png"}


def test_wandb_keeps_one_run_over_two_processes_in_offline_files(tmp_path, sheet):
    pytest.importorskip("wandb")
    first = TRACKERS["wandb"](TrackedRun("tiny", FACTS, tmp_path), project="tests", mode="offline")
    first.scalars(4, {"loss": 1.5})
    first.close(finished=False)
    time.sleep(1.1)  # the name of a process's folder has no more than seconds
    second = TRACKERS["wandb"](TrackedRun("tiny", FACTS, tmp_path, first.id), project="tests", mode="offline")
    second.scalars(8, {"loss": 0.625})
    second.picture(8, "predictions", sheet)
    second.finish({"best/val_mean_iou": 0.75}, [sheet])
    second.close(finished=True)
    folders = sorted((tmp_path / "wandb").glob(f"offline-run-*-{first.id}"))
    expected = {b"0.625", b"1.5", b"best/val_mean_iou", b"tests", b"decoder"}
    missing, deadline = expected, time.monotonic() + 20
    while missing and time.monotonic() < deadline:  # a process of wandb's writes the files
        written = b"".join(path.read_bytes() for folder in folders for path in folder.glob("*.wandb"))
        missing = {value for value in expected if value not in written}
        time.sleep(0.2)
    assert not missing
    assert any((folder / "files" / "media" / "images").is_dir() for folder in folders)

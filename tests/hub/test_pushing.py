"""Pushing a run: what goes along, what does not, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil

import numpy as np
import pytest
from huggingface_server import Repository
from typer.testing import CliRunner

import segzoo
from segzoo import files
from segzoo.cli import app
from segzoo.config import load_config
from segzoo.engine.start import Start
from segzoo.errors import HubError, RunError, StorageError
from segzoo.hub import manifest

pytestmark = pytest.mark.usefixtures("small_network", "no_trial")
RUN = "hf://user/tiny"


def test_the_card_tells_what_the_run_is(hub, tiny_run, tmp_path, log_in) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(tiny_run, run)
    log_in("read", "write")
    segzoo.push(run, RUN)
    repository = hub.repositories["user/tiny"]
    card = repository.commits[repository.branches["main"]]["README.md"].decode()
    best = json.loads((run / "result.json").read_text())
    assert f"| mean\\_iou | {best['val_mean_iou']:.4f} |" in card and "without intervals" in card
    assert "stated no licence" in card and "\nlicense:" not in card and f'segzoo.load("{RUN}")' in card
    found = segzoo.evaluate(run, "val")
    segzoo.push(run, RUN, license="cc-by-4.0")
    card = repository.commits[repository.branches["main"]]["README.md"].decode()
    low, high = found.intervals.mean_iou
    assert f"| mean IoU | {found.mean_iou:.4f} | {low:.4f} to {high:.4f} |" in card
    assert re.search(r"\| disc \| [0-9.]{6} \| [0-9.]{6} to [0-9.]{6} \|", card)
    assert card.startswith('---\nlicense: "cc-by-4.0"\nlibrary_name: keras\npipeline_tag: image-segmentation\n')
    digest = manifest.sha256_of(run / "best.weights.h5")
    assert digest in card and "background, disc" in card and "adamw, learning rate 0.001" in card
    os.utime(run / "best.weights.h5")  # trained on after the evaluation
    segzoo.push(run, RUN)
    card = repository.commits[repository.branches["main"]]["README.md"].decode()
    assert "without intervals" in card


def test_last_weights_and_pixel_counts_go_along_where_they_are_asked_for_or_needed(tiny_run, tmp_path) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(tiny_run, run)
    (run / "class_pixels.json").write_text("{}")
    done = segzoo.push(run, tmp_path / "out", weights="last")
    assert done.files.keys() == {"config.yaml", "environment.json", "class_pixels.json", "last.weights.h5"}
    assert manifest.sha256_of(run / "last.weights.h5") == done.files["last.weights.h5"]
    expected = segzoo.load_run(run).model("last").weights
    for found, wanted in zip(segzoo.load(tmp_path / "out", "last").model.weights, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    with pytest.raises(RunError, match=r"was pushed with its last weights alone: take these"):
        segzoo.load(tmp_path / "out")
    config = load_config(tiny_run / "config.yaml", [f"training.init_from={tmp_path / 'out'}"])
    assert Start.of(config).origin == f"{tmp_path / 'out'}/last.weights.h5"


def test_nothing_of_this_machine_is_pushed(tiny_run, tmp_path) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(tiny_run, run)
    environment = json.loads((run / "environment.json").read_text())
    environment["weights"] = f"weights {tmp_path}/my others/best.weights.h5: 3 tensors loaded"
    (run / "environment.json").write_text(json.dumps(environment))
    config = (
        (run / "config.yaml").read_text().replace("init_from: null", f"init_from: {tmp_path}/others/best.weights.h5")
    )
    config = config.replace("disk_cache: null", f"disk_cache: {{folder: {tmp_path / 'cache'}}}")
    (run / "config.yaml").write_text(
        config.replace("tracking: {}", "tracking: {mlflow: {tracking_uri: http://u:p@host}}")
    )
    segzoo.push(run, tmp_path / "out")
    for path in (tmp_path / "out").glob("*"):
        text = path.read_bytes()
        assert str(tmp_path).encode() not in text and b"u:p@host" not in text, path
        assert os.uname().nodename.encode() not in text or len(os.uname().nodename) < 4
    found = segzoo.load_run(tmp_path / "out").config
    assert found.training.init_from == "best.weights.h5" and found.output.root == "runs"
    kept = json.loads((tmp_path / "out" / "environment.json").read_text())
    assert kept["weights"] == "weights best.weights.h5: 3 tensors loaded" and "command" not in kept


@pytest.mark.parametrize("operation", ["write", "keep", "replace"])
def test_a_push_to_a_folder_that_fails_leaves_the_old_one(tiny_run, tmp_path, monkeypatch, operation) -> None:
    place = tmp_path / "out"
    segzoo.push(tiny_run, place, license="old")
    before = {path.name: path.read_bytes() for path in place.iterdir()}

    def fault(name, path):
        if (name, path) == (operation, place):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "fault", fault)
    with pytest.raises(StorageError, match=r"No space left"):
        segzoo.push(tiny_run, place, license="new", overwrite=True)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    monkeypatch.setattr(files, "fault", None)
    segzoo.push(tiny_run, place, license="new", overwrite=True)
    assert "new." in (place / "README.md").read_text() and [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("operation", ["write", "replace"])
def test_a_push_that_fails_leaves_no_empty_folders_above(tiny_run, tmp_path, monkeypatch, operation) -> None:
    place = tmp_path / "kept" / "a" / "b" / "out"
    (tmp_path / "kept").mkdir()

    def fault(name, path):
        if (name, path) == (operation, place):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "fault", fault)
    with pytest.raises(StorageError, match=r"No space left"):
        segzoo.push(tiny_run, place, license="mit")
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]
    monkeypatch.setattr(files, "fault", None)
    segzoo.push(tiny_run, place, license="mit")
    assert (place / "README.md").is_file()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"private": True}, HubError, r"A folder is neither private nor has it branches"),
        ({"revision": "x"}, HubError, r"A folder is neither private"),
        ({"weights": "first"}, segzoo.SegzooError, r"Unknown weights of a run"),
        ({"address": "hf://user/name/file.weights.h5"}, HubError, r"is a file, and a run is due here"),
        ({"address": "hf://user/name@a", "revision": "b"}, HubError, r"The branch was given twice"),
        ({"address": ""}, HubError, r"The address to push to is empty"),
        ({"address": "hf://name"}, HubError, r"not of the form hf://USER/NAME"),
        ({"run": "."}, RunError, r"is not a run folder"),
    ],
)
def test_a_push_that_cannot_be_meant_is_refused_first(tiny_run, tmp_path, options, error, words) -> None:
    given = {"run": tiny_run, "address": tmp_path / "out", **options}
    with pytest.raises(error, match=words) as caught:
        segzoo.push(**given)
    assert not (tmp_path / "out").exists() and "\n" not in str(caught.value)


def test_folders_that_hold_something_are_left_alone(tiny_run, tmp_path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(HubError, match=r"is not empty and holds no pushed run"):
        segzoo.push(tiny_run, tmp_path / "full", overwrite=True)
    segzoo.push(tiny_run, tmp_path / "out")
    with pytest.raises(HubError, match=r"holds a pushed run already; replace it with --overwrite"):
        segzoo.push(tiny_run, tmp_path / "out")
    report = tmp_path / "out" / "evaluation_val_best" / "report.json"
    report.parent.mkdir()
    report.write_text("{}")
    with pytest.raises(HubError, match=r"beside it evaluation_val_best, which --overwrite would remove"):
        segzoo.push(tiny_run, tmp_path / "out", overwrite=True)
    assert report.is_file()


def test_the_commands_of_the_card_name_a_folder_with_spaces(tiny_run, tmp_path) -> None:
    segzoo.push(tiny_run, tmp_path / "my größter run")
    card = (tmp_path / "my größter run" / "README.md").read_text(encoding="utf-8")
    assert "segzoo predict 'my größter run' photos" in card and 'segzoo.load("my größter run")' in card


def test_a_pushed_folder_that_was_changed_is_refused(tiny_run, tmp_path) -> None:
    segzoo.push(tiny_run, tmp_path / "out")
    config = tmp_path / "out" / "config.yaml"
    config.write_text(config.read_text() + "# changed\n")
    with pytest.raises(HubError, match=r"config.yaml is not the file that was pushed: .*Copy or push it again"):
        segzoo.load(tmp_path / "out")
    config.unlink()
    with pytest.raises(HubError, match=r"lacks config.yaml"):
        segzoo.load(tmp_path / "out")


def test_a_run_of_a_given_model_is_not_pushed(tiny_run, tmp_path) -> None:
    run = tmp_path / "tiny"
    shutil.copytree(tiny_run, run)
    environment = json.loads((run / "environment.json").read_text())
    (run / "environment.json").write_text(json.dumps({**environment, "given": {"model": "mine"}}))
    with pytest.raises(RunError, match=r"a model that was given to segzoo.train"):
        segzoo.push(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_prints_where_the_run_lies(hub, log_in, tiny_run) -> None:
    token = log_in("read", "write")
    arguments = [
        "push",
        str(tiny_run),
        RUN,
        "--license",
        "mit",
        "--private",
        "--message",
        "First",
        "--revision",
        "trial",
    ]
    found = CliRunner().invoke(app, arguments)
    repository = hub.repositories["user/tiny"]
    assert found.exit_code == 0 and repository.private and repository.messages[-1] == "First"
    assert f"{RUN}@{repository.branches['trial']}" in found.output.replace("\n", "") and token not in found.output
    hub.tokens.clear()
    hub.repositories["user/tiny"] = Repository()
    found = CliRunner().invoke(app, arguments)
    assert isinstance(found.exception, HubError)

"""Places that the commands are told to write to or read from: one paragraph before any work where they cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segzoo.cli import main
from segzoo.config import dump_config, load_config

RECIPE = """
model: {decoder: fpn, backbone: resnet18, weights: none}
data: {source: generated, size: [32, 32], train_count: 8, val_count: 5, batch_size: 4, eval_batch_size: 4}
training: {epochs: 2, schedule: {name: poly, warmup_steps: 1}}
"""
# Commands that write a file, with its ending, or into a folder
FILES = {
    "find-lr tiny.yaml --out {}": ".png",
    "preview tiny.yaml --out {}": ".png",
    "init images masks --out {}": ".yaml",
    "weights convert checkpoint --out {}": ".weights.h5",
    "backbones --markdown {}": "",
    "schema --out {}": "",
}
FOLDERS = (
    "train --config tiny.yaml --set output.root={}",
    "find-lr tiny.yaml --set output.root={}",
    "predict runs/tiny images --out {}",
    "export runs/tiny --format saved_model --out {}",
    "check-data tiny.yaml --report {}",
    "check-data tiny.yaml --fix {}",
    "check-data tiny.yaml --set output.root={}",
)
NOWHERE = ("a_file/x", "dangling/x", "/proc/nowhere/x", "x" * 300, "x" * 5000, "a/" * 2500 + "x")


class Worked(BaseException):
    """The command began its work."""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A working directory with a recipe, a run, data, a file and a link to nothing; no command gets to its work."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(RECIPE)
    Path("a_file").write_text("x")
    Path("a_folder").mkdir()
    Path("dangling").symlink_to("gone/there")
    Path("runs/tiny").mkdir(parents=True)
    dump_config(load_config("tiny.yaml"), "runs/tiny/config.yaml")
    for folder in ("images", "masks"):
        Path(folder).mkdir()
        Image.fromarray(np.zeros((16, 16), np.uint8)).save(f"{folder}/one.png")

    def work(*given, **options):
        raise Worked

    monkeypatch.setattr("segzoo.backend.start_backend", work)
    monkeypatch.setattr("segzoo.data.generated.GeneratedShapes.__init__", work)  # what starts no backend reads data
    monkeypatch.setattr("segzoo.autoconfig.look_at_names", work)
    monkeypatch.setattr("segzoo.backbones.listing.page", work)
    monkeypatch.setattr("segzoo.config.json_schema", work)
    monkeypatch.setattr("segzoo.config.editor.json_schema", work)
    return tmp_path


def refusal(capsys, command: str, place: str) -> str:
    """Give a command and return the paragraph on why it does nothing; nothing was written either."""
    before = {path: path.lstat().st_mtime_ns for path in Path().rglob("*")}
    with pytest.raises(SystemExit) as stop:
        main([word.format(place) for word in command.split()])
    assert stop.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith("Error: ") and message.count("\n") == 1 and "Traceback" not in message
    assert {path: path.lstat().st_mtime_ns for path in Path().rglob("*")} == before
    return message


@pytest.mark.parametrize("command", FILES)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(capsys, command):
    ending = FILES[command]
    Path(f"taken{ending}").mkdir()
    assert "it is a folder" in refusal(capsys, command, f"taken{ending}")
    for place in NOWHERE:
        assert len(refusal(capsys, command, place + ending)) < 6000
    with pytest.raises(Worked):
        main([word.format(f"new/er/x{ending}") for word in command.split()])


@pytest.mark.parametrize("command", FOLDERS)
def test_a_folder_that_cannot_be_made_is_refused_before_the_work(capsys, command):
    for place in ("a_file", *NOWHERE):
        assert len(refusal(capsys, command, place)) < 6000
    with pytest.raises(Worked):
        main([word.format("new/er") for word in command.split()])


def test_a_report_of_an_evaluation_needs_its_folder(capsys):
    Path("runs/tiny/evaluation_val_best").write_text("x")
    assert "it is a file, and a folder" in refusal(capsys, "evaluate runs/tiny", "")
    with pytest.raises(Worked):
        main(["evaluate", "runs/tiny", "--weights", "last"])
    Path("runs/tiny/export").write_text("x")
    assert "it is a file, and a folder" in refusal(capsys, "export runs/tiny --format saved_model", "")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such folder")
def test_a_folder_that_takes_no_files_is_told_by_trying(capsys):
    """Rights alone do not say it: root has them all, and a network drive may have others than it shows."""
    assert "no file can be made in /proc" in refusal(capsys, "backbones --markdown {}", "/proc/page.md")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux alone has such a device")
def test_a_device_is_written_to_and_not_replaced(capsys, monkeypatch):
    monkeypatch.setattr("segzoo.config.editor.json_schema", dict)
    assert "No space left on device" in refusal(capsys, "schema --out {}", "/dev/full")
    assert Path("/dev/full").is_char_device()
    assert "it is a device, pipe or socket, where a file is due" in refusal(capsys, "train --config {}", "/dev/zero")


def test_homes_of_nobody_are_refused(capsys):
    assert "there is no user 'nobody_here'" in refusal(capsys, "train --config {}", "~nobody_here/x.yaml")

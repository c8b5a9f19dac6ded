"""The commands themselves, in processes of their own: `check-data` and `train` end with the same exit code."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

RECIPE = """
model: {decoder: fpn, backbone: resnet18, weights: none}
data: {source: folder, root: set, classes: [ground, thing], batch_size: 2, workers: 0}
training: {epochs: 1}
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a recipe and a sound data set, in which a name is no UTF-8."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "set" / split / kind).mkdir(parents=True)
        for number in (b"0\xe9", b"1"):
            name = f"{split}{os.fsdecode(number)}.png"
            Image.fromarray(rng.integers(0, 256, (40, 56, 3), np.uint8)).save(
                tmp_path / "set" / split / "images" / name
            )
            Image.fromarray(np.eye(40, 56, dtype=np.uint8)).save(tmp_path / "set" / split / "masks" / name)
    (tmp_path / "mine.yaml").write_text(RECIPE)
    return tmp_path


def exit_code(home: Path, *arguments: str) -> tuple[int, str]:
    """Run `segzoo` with these arguments; returns its exit code and all that it printed."""
    command = [sys.executable, "-c", "from segzoo.cli import main; main()", *arguments]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, errors="replace")
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.augment=[{RandomCrop: {height: 96, width: 96}}]", ("train", "PadIfNeeded or Resize")),
        ("data.val_transforms=[{RandomCrop: {height: 96, width: 96}}]", ("val0", "data.val_transforms failed")),
        ("data.split={train: missing.txt, val: missing.txt}", ("missing.txt", "cannot be read")),
    ],
)
def test_both_commands_refuse_what_training_cannot_read(override: str, words: tuple[str, ...], home: Path) -> None:
    checked, found = exit_code(home, "check-data", "mine.yaml", "--set", override)
    trained, said = exit_code(home, "train", "--config", "mine.yaml", "--set", override)
    assert checked == trained == 1, (found, said)
    assert "Traceback" not in found + said
    for word in words:
        assert word in found and word in said, (word, found, said)

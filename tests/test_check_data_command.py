"""The commands themselves, in a process of their own: `check-data` and `train` end with the same exit code."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

RECIPE = """
model: {decoder: fpn, backbone: resnet18, weights: none}
data: {source: folder, root: set, classes: [ground, thing], batch_size: 2, workers: 0}
training: {epochs: 1}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a recipe and a sound data set, in which a name is no UTF-8."""
    tmp_path = tmp_path_factory.mktemp("home")
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


CASES = [
    ("data.augment=[{RandomCrop: {height: 96, width: 96}}]", ("train", "PadIfNeeded or Resize")),
    ("data.val_transforms=[{RandomCrop: {height: 96, width: 96}}]", ("val0", "data.val_transforms failed")),
    ("data.split={train: missing.txt, val: missing.txt}", ("missing.txt", "cannot be read")),
]
SCRIPT = """
import os, sys
os.dup2(1, 2)  # both in their order
import tensorflow as tf
from conftest import build_small_network
from segzoo.cli import main
from segzoo.engine import builders

tf.config.run_functions_eagerly(True)
builders.build_network = build_small_network
for override in sys.argv[1:]:
    for command in (["check-data", "mine.yaml"], ["train", "--config", "mine.yaml"]):
        try:
            main([*command, "--set", override])
        except SystemExit as stop:
            print("ended with", stop.code, flush=True)
"""


@pytest.fixture(scope="module")
def printed(home: Path, forked) -> list[tuple[str, str]]:
    """Output and outcome of each command for each case, in one process."""
    done = forked(SCRIPT, *(override for override, _ in CASES), folder=home, path=(Path(__file__).parent,))
    *parts, rest = re.split(r"(?<=ended with \d)\n", done.stdout)
    assert len(parts) == 2 * len(CASES) and not rest, done.stdout
    return list(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("case", range(len(CASES)))
def test_both_commands_refuse_what_training_cannot_read(case: int, printed: list[tuple[str, str]]) -> None:
    found, said = printed[case]
    assert found.endswith("ended with 1") and said.endswith("ended with 1"), (found, said)
    assert "Traceback" not in found + said
    for word in CASES[case][1]:
        assert word in found and word in said, (word, found, said)

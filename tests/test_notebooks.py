"""Every notebook runs from top to bottom."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


# Steps and epochs that show nothing new; the networks are five convolutions.
REDUCED = {
    "quickstart": {
        "data.train_count=48": "data.train_count=4",
        "data.val_count=8": "data.val_count=2",
        "training.epochs=2": "training.epochs=1",
    },
    "custom_masks": {
        '("train", 24), ("val", 6)': '("train", 4), ("val", 2)',
        "training: {{epochs: 2,": "training: {{epochs: 1,",
        '"name=finer",': '"name=finer", "training.epochs=2", "output.pictures=0",',
    },
    "decoders_in_your_pipeline": {
        '"efficientnet_b0"': '"mobilenetv3_small"',
        "(128, 64, 32, 16, 16)": "(16, 8, 8, 8, 8)",
        "(channels=32)": "(channels=4)",
        "count=4": "count=2",
        "range(4)": "range(2)",
        "epochs=2": "epochs=1",
    },
}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch, five_convolutions):
    monkeypatch.chdir(tmp_path)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert code.count("\n") > 10
    for found, reduced in REDUCED[path.stem].items():
        assert found in code
        code = code.replace(found, reduced)
    exec(compile(code, path.name, "exec"), {"__name__": "__main__"})


def test_there_are_the_notebooks_that_the_readme_names():
    assert {path.stem for path in NOTEBOOKS} == {"quickstart", "custom_masks", "decoders_in_your_pipeline"}

"""Every notebook runs from top to bottom."""

import json
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    assert code.count("\n") > 10
    exec(compile(code, path.name, "exec"), {"__name__": "__main__"})


def test_there_are_the_notebooks_that_the_readme_names():
    assert {path.stem for path in NOTEBOOKS} == {"quickstart", "custom_masks", "decoders_in_your_pipeline"}

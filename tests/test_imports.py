"""The package has no import circles, and its layers import downwards alone."""

from __future__ import annotations

import graphlib
import subprocess
import sys
from pathlib import Path

import grimp

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports within functions and those for types alone count too: a reader follows them all."""
    graph = grimp.build_graph("segzoo", cache_dir=None)
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imported) > 200
    for module in imported:
        imported[module] -= {"segzoo"}  # its names are those of all others
    graphlib.TopologicalSorter(imported).prepare()  # CycleError names the circle


def test_layers_of_pyproject_are_kept() -> None:
    call = f"lint_imports({str(PYPROJECT)!r}, no_cache=True)"
    code = f"import sys; from importlinter.cli import lint_imports; sys.exit({call})"
    run = subprocess.run([sys.executable, "-c", code], cwd=PYPROJECT.parent, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr

"""The package has no import circles, and its layers import downwards alone."""

from __future__ import annotations

import graphlib
from pathlib import Path

import grimp
from importlinter.cli import lint_imports

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports within functions and those for types alone count too: a reader follows them all."""
    graph = grimp.build_graph("segzoo", cache_dir=None)
    imported = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    assert len(imported) > 200
    for module in imported:
        imported[module] -= {"segzoo"}  # its names are those of all others
    graphlib.TopologicalSorter(imported).prepare()  # CycleError names the circle


def test_layers_of_pyproject_are_kept(capsys) -> None:
    assert lint_imports(config_filename=str(PYPROJECT), no_cache=True) == 0, capsys.readouterr().out

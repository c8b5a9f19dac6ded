"""Docstrings: every public module, class and function has one, and it opens with a verb or a noun phrase."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OPENING = re.compile(r"(What|Whether|How|Where|Which|From|Of|That|Those)\b")

Documented = ast.Module | ast.ClassDef | ast.FunctionDef


def definitions(node: ast.AST, name: str, public: bool = True) -> Iterator[tuple[str, Documented, bool]]:
    """Yield a module, class or function and all below it: name, node, and True if it is public.

    Public are names without a leading underscore in modules and public classes; what a function defines is its own.
    """
    if isinstance(node, Documented):
        yield name, node, public
    inside = public and not isinstance(node, ast.FunctionDef)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            yield from definitions(child, f"{name} {child.name}", inside and not child.name.startswith("_"))
        else:
            yield from definitions(child, name, inside)


def repeats_another(node: Documented) -> bool:
    """Return True for an overload or the setter of a property, whose docstring is at its other definition."""
    decorators = [ast.unparse(decorator) for decorator in getattr(node, "decorator_list", [])]
    return any(name == "overload" or name.endswith(".setter") for name in decorators)


def found(*places: str) -> list[tuple[str, Documented, bool]]:
    files = [path for place in places for path in sorted((ROOT / place).rglob("*.py"))]
    assert files
    names = [str(path.relative_to(ROOT)) for path in files]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in files]
    return [entry for tree, name in zip(trees, names, strict=True) for entry in definitions(tree, name)]


def test_every_public_name_has_a_docstring() -> None:
    public = [(name, node) for name, node, public in found("segzoo") if public and not repeats_another(node)]
    assert not [name for name, node in public if not ast.get_docstring(node)]


@pytest.mark.parametrize("place", ["segzoo", "benchmarks", "tests"])
def test_docstrings_open_with_a_verb_or_a_noun_phrase(place: str) -> None:
    entries = [(name, ast.get_docstring(node) or "") for name, node, _ in found(place)]
    assert not [f"{name}: {text.splitlines()[0]}" for name, text in entries if OPENING.match(text)]


def test_definitions_are_found() -> None:
    """The check itself sees methods, and what stands in blocks and in functions."""
    source = "class A:\n  def f(): pass\n  def _g(): pass\nif 1:\n  def h():\n    def inner(): pass"
    seen = {name: public for name, _, public in definitions(ast.parse(source), "m")}
    assert seen == {"m": True, "m A": True, "m A f": True, "m A _g": False, "m h": True, "m h inner": False}

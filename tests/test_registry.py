"""The registry, and that names can be listed without any framework."""

from __future__ import annotations

import subprocess
import sys

import pytest

from segzoo.errors import SegzooError, UnknownNameError, unknown_name
from segzoo.registry import Registry

TABLE = {"one": 1, "two": 2}


@pytest.fixture
def registry() -> Registry:
    return Registry(
        "thing",
        {"first": "fractions:Fraction", "second": f"{__name__}:TABLE[two]", "broken": "no_such_module:x"},
        absent={"third": "there are two."},
    )


def test_entries_are_imported_when_asked_for(registry: Registry) -> None:
    import fractions

    assert registry["first"] is fractions.Fraction
    assert registry["second"] == 2
    assert list(registry) == ["first", "second", "broken"]
    assert len(registry) == 3
    assert "first" in registry
    assert "third" not in registry
    with pytest.raises(ModuleNotFoundError):  # listed, and imported only now
        registry["broken"]


def test_unknown_and_absent_names(registry: Registry) -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown thing 'secnd'. Did you mean second\? Known: broken, first, s"):
        registry["secnd"]
    with pytest.raises(UnknownNameError, match="There is no thing 'third': there are two"):
        registry.check("third")
    assert issubclass(UnknownNameError, SegzooError)
    assert issubclass(UnknownNameError, ValueError)


def test_no_hint_where_nothing_is_near() -> None:
    assert str(unknown_name("level", "xyz", ["P2", "P1"])) == "Unknown level 'xyz'. Known: P1, P2."


@pytest.mark.parametrize(
    "statement",
    [
        "segzoo.__version__",
        "assert 'efficientnet_b3' in segzoo.backbones.names()",
        "assert 'unet' in segzoo.decoders.names()",
        "assert segzoo.backbones.taps('efficientnet_b3')[-1].channels == 1536",
        "assert issubclass(segzoo.SegzooError, Exception); dir(segzoo)",
        "import segzoo.cli; segzoo.evaluate, segzoo.predict, segzoo.load, segzoo.check_data, segzoo.init",
    ],
)
def test_names_need_no_framework(statement: str) -> None:
    """A command line that lists names or prints help must not wait seconds for TensorFlow."""
    code = f"""
import sys, segzoo
{statement}
loaded = {{"tensorflow", "keras", "torch", "jax", "numpy", "cv2"}} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_public_name_exists() -> None:
    """An entry of the lazy table that points nowhere is found by users otherwise."""
    import segzoo

    for name in ("build_model", "SegzooError", "backbones", "decoders", "layers"):
        assert getattr(segzoo, name) is not None
    with pytest.raises(AttributeError, match="no_such"):
        segzoo.no_such  # noqa: B018
    with pytest.raises(AttributeError, match="no_such"):
        segzoo.decoders.no_such  # noqa: B018
    for package in (segzoo.backbones, segzoo.decoders):
        for name in package.__all__:
            assert getattr(package, name) is not None


def test_every_registered_name_resolves() -> None:
    from segzoo.backbones import BACKBONES
    from segzoo.decoders import DECODERS

    for name in BACKBONES:
        assert BACKBONES[name].name == name
    classes = [DECODERS[name] for name in DECODERS]
    assert len(set(classes)) == len(classes)


def test_no_public_function_shares_its_name_with_a_module() -> None:
    """Else `segzoo.NAME` would be the function or the module by the order of imports."""
    import importlib.util
    import types

    import segzoo

    own = [name for name in dir(segzoo) if not isinstance(getattr(segzoo, name), types.ModuleType)]
    assert {"train", "evaluate", "predict", "export_model", "check_data", "init", "find_learning_rate", "load"} <= {
        *own
    }
    assert [name for name in own if importlib.util.find_spec(f"segzoo.{name}") is not None] == []


@pytest.mark.parametrize(
    "package", ["losses", "metrics", "decoders", "data", "inference", "export", "backbones", "workflows"]
)
def test_a_package_lists_what_it_has(package: str) -> None:
    """Editors and `dir` see the names that are imported on first use, under the types that mypy sees."""
    import ast
    import importlib
    from pathlib import Path

    module = importlib.import_module(f"segzoo.{package}")
    assert dir(module) == sorted(module.__all__)
    tree = ast.parse(Path(module.__file__).read_text())
    typed = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assigned = {target.id for node in tree.body if isinstance(node, ast.Assign) for target in node.targets}
    assert set(module.__all__) <= typed | defined | assigned

"""The registry, and that names can be listed without any framework."""

from __future__ import annotations

import compileall
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from segzoo.errors import RegistrationError, SegzooError, UnknownNameError, unknown_name
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
    assert str(unknown_name("level", "xyz", [])) == "Unknown level 'xyz'. There are none."


def test_of_many_names_those_alike_are_told_and_the_place_of_all() -> None:
    names = [f"network{number}" for number in range(30)]
    many = unknown_name("network", "netwrk12", names, "by a command", ["nets"])
    assert re.fullmatch(
        r"Unknown network 'netwrk12'\. Did you mean network12(, network\d+){3} or network\d+\? All 30 are listed by a "
        r"command\.",
        str(many),
    )
    far = unknown_name("network", "zzz", names, "by a command", ["nets", "works"])
    assert str(far) == "Unknown network 'zzz'. Families: nets, works. All 30 are listed by a command."
    assert str(unknown_name("network", "zzz", names)).count("network") == 1 + len(names)  # no other place has them
    assert "Known: network0" in str(unknown_name("network", "netwrk12", names[:20], "by a command"))


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
    assigned = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    assert set(module.__all__) <= typed | defined | assigned


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make a package of modules, each a name and its text, and return a registry of what they register."""

    def package(order: tuple[str, ...] = (), sourceless: bool = False, **modules: str) -> Registry:
        folder = tmp_path / "things_of_test"
        folder.mkdir()
        table = "from segzoo.registry import Registry\n"
        table += f"THINGS = Registry('thing', package='things_of_test', order={order!r})\n"
        (folder / "__init__.py").write_text("")
        (folder / "table.py").write_text(table)
        for name, text in modules.items():
            (folder / f"{name}.py").write_text(f"from things_of_test.table import THINGS\n{text}\n")
        if sourceless:
            compileall.compile_dir(folder, quiet=1, legacy=True)
            for path in folder.glob("*.py"):
                path.unlink()
        monkeypatch.syspath_prepend(tmp_path)
        return importlib.import_module("things_of_test.table").THINGS

    yield package
    for name in [name for name in sys.modules if name.partition(".")[0] == "things_of_test"]:
        del sys.modules[name]


def loaded() -> set[str]:
    return {name.partition(".")[2] for name in sys.modules if name.startswith("things_of_test.")} - {"table"}


LITERAL = '''
"""A module that registers three.

    >>> @THINGS.register("shown_in_a_docstring")
"""
@THINGS.register("four")
@THINGS.register("five")
class Four(int): pass
# THINGS.register("in_a_comment", 1)
SIX = THINGS.register(
    "six", Four(6)
)
'''


def test_modules_of_a_package_register_themselves_and_are_imported_when_used(package) -> None:
    things = package(
        order=("b",), a="THINGS.register('single_quotes', 7)", b=LITERAL, c="", d="THINGS.register_all({'computed': 8})"
    )
    assert list(things) == ["four", "five", "six", "single_quotes", "computed"] and len(things) == 5
    assert "six" in things and things.is_built_in("six") and "seven" not in things
    assert loaded() == {"a", "d"}  # whose names their sources do not say in the way that is read
    assert things["six"] == 6 and things["four"] is things["five"] and things["computed"] == 8
    assert list(things) == ["four", "five", "six", "single_quotes", "computed"]
    for text in ("six", "computed"):
        with pytest.raises(RegistrationError, match=f"segzoo has a thing '{text}' itself"):
            things.register(text, 1)
        with pytest.raises(RegistrationError, match=f"no registered thing '{text}' to remove"):
            things.unregister(text)
    things.register("own", 9)
    assert list(things)[-1] == "own" and not things.is_built_in("own")


def test_what_was_imported_by_hand_is_built_in_as_well(package) -> None:
    things = package(b=LITERAL, a='THINGS.register("one", 1)')
    importlib.import_module("things_of_test.b")
    assert list(things) == ["one", "four", "five", "six"] and things.is_built_in("four")


def test_a_package_without_sources_is_imported(package) -> None:
    things = package(sourceless=True, b=LITERAL, c='THINGS.register("one", 1)')
    assert sorted(things) == ["five", "four", "one", "six"] and things["one"] == 1


@pytest.mark.parametrize("second", ['THINGS.register("six", 1)', 'THINGS.register_all({"six": 1})'])
def test_two_modules_may_not_register_one_name(package, second: str) -> None:
    things = package(b=LITERAL, c=second)
    with pytest.raises(RegistrationError, match=r"'six' is registered by things_of_test\.b and by things_of_test\.c"):
        list(things)


def test_a_registration_that_does_not_happen_is_an_error(package) -> None:
    things = package(b='if False:\n    THINGS.register("one", 1)')
    assert list(things) == ["one"]
    with pytest.raises(RegistrationError, match=r"things_of_test\.b does not register the thing 'one'"):
        things["one"]


def test_sources_and_registrations_agree() -> None:
    """The names that are read from sources are those that exist when everything is imported."""
    import segzoo.tracking
    from segzoo import backbones, data, decoders, export, losses
    from segzoo.discovery import sources

    for registry in (
        backbones.BACKBONES,
        data.BATCH_TRANSFORMS,
        data.MASK_FORMATS,
        decoders.DECODERS,
        export.FORMATS,
        losses.LOSSES,
        segzoo.tracking.TRACKERS,
    ):
        listed = list(registry._built_in().items())
        assert listed
        for module in dict(sources(registry._package)):
            importlib.import_module(module)
        assert sorted(listed) == sorted(registry._homes.items())
        assert all(registry.is_built_in(name) for name in registry._entries)

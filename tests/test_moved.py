"""Modules under the names that they had in segzoo 0.1.0."""

from __future__ import annotations

import pytest

from segzoo.moved import MOVED, new_name

# Each in a process that has imported nothing else would be a minute; one process has them all, in their order.
SCRIPT = """
import importlib, sys, warnings
from segzoo.moved import MOVED, new_name
more = ["segzoo.training.distribution", "segzoo.training.callbacks", "segzoo.training.callbacks.stages"]
more += ["segzoo.propose.write"]
for name in [*MOVED, *more]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = importlib.import_module(name)
    now = new_name(name)
    assert module is sys.modules[now] and module.__name__ == module.__spec__.name == now, (name, module)
    told = [str(each.message) for each in caught if each.category is DeprecationWarning]
    assert f"{name} is {now} now" in " ".join(told), (name, told)
import segzoo
assert segzoo.training is segzoo.engine
from segzoo.model import build_model
from segzoo.training import train
assert build_model is segzoo.build_model and train is segzoo.train
"""


def test_every_old_name_gives_the_module_and_warns(forked) -> None:
    forked(SCRIPT)


def test_names_below_a_package_move_with_it() -> None:
    assert new_name("segzoo.training.memory") == "segzoo.engine.memory"
    assert new_name("segzoo.training.run") == "segzoo.engine.checkpoint.run"
    assert new_name("segzoo.engine") is None and new_name("segzoo") is None
    assert not set(MOVED) & set(MOVED.values())


def test_a_module_that_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"segzoo\.training\.nothing"):
        import segzoo.training.nothing  # noqa: F401

"""Options of decoders read from their sources: the same as those of the imported classes, and no framework."""

from __future__ import annotations

import subprocess
import sys

import pytest

from segzoo.declared import UndeclaredError, declared
from segzoo.decoders import DECODERS


@pytest.mark.parametrize("name", list(DECODERS))
def test_a_source_says_what_the_class_says(name: str) -> None:
    found = declared(DECODERS, name, "Decoder")
    assert found.doc == DECODERS[name].__doc__
    assert list(found.defaults.items()) == list(DECODERS[name].options().items())


def test_what_is_registered_from_outside_has_to_be_imported() -> None:
    DECODERS.register("outside", DECODERS["fpn"])
    try:
        with pytest.raises(UndeclaredError):
            declared(DECODERS, "outside", "Decoder")
    finally:
        DECODERS.unregister("outside")


def test_decoders_are_listed_without_a_framework() -> None:
    code = (
        "import sys; from segzoo.cli import main; sys.argv = ['segzoo', 'decoders']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([name for name in ('tensorflow', 'keras', 'jax', 'torch', 'numpy') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "deeplabv3plus" in shown and shown.splitlines()[-1] == "[]"

"""The YAML loader gives what JSON holds, each key with its line; an override changes what it names and nothing else."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from segzoo.config.overrides import apply_overrides
from segzoo.document import parse

TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z"), include_characters=" "), max_size=12)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
KEYS = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, min_size=1, max_size=5)
EXAMPLES = settings(max_examples=100, deadline=None, derandomize=True)  # the same ones every time


def as_yaml(value: Any) -> str:
    """Write JSON, which YAML 1.2 contains; its words for infinity, which it does not, are left out of the values."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def same(found: Any, expected: Any) -> bool:
    """Equal, and of the same types: 1, 1.0 and True are three values."""
    if type(found) is not type(expected):
        return False
    if isinstance(expected, dict):
        return list(found) == list(expected) and all(same(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return bool(found == expected) and (
        not isinstance(expected, float) or math.copysign(1, found) == math.copysign(1, expected)
    )


def key_paths(value: Any, path: tuple = ()) -> list[tuple]:
    """Paths of all keys of mappings."""
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in ((*path, key), *key_paths(inner, (*path, key)))]
    if isinstance(value, list):
        return [found for place, inner in enumerate(value) for found in key_paths(inner, (*path, place))]
    return []


@EXAMPLES
@given(DOCUMENTS)
def test_documents_are_read_as_they_are_written_with_the_line_of_every_key(data: dict[str, Any]) -> None:
    text = as_yaml(data)
    found, lines = parse(text, lambda line: f"line {line}")
    assert same(found, data), found
    written = text.split("\n")
    for path in key_paths(data):
        assert written[lines[path] - 1].strip().startswith(f"{json.dumps(path[-1])}:"), (path, lines[path])


@EXAMPLES
@given(DOCUMENTS, st.lists(KEYS, min_size=1, max_size=4), VALUES)
def test_an_override_sets_its_key_and_nothing_else(data: dict[str, Any], names: list[str], value: Any) -> None:
    expected: Any = copy.deepcopy(data)
    here = expected
    for name in names[:-1]:
        if here.get(name) is None:
            here[name] = {}
        here = here[name]
        if not isinstance(here, dict):
            return  # the way leads through a value that is no section, which is refused elsewhere
    here[names[-1]] = value
    if names[0] not in data and names[0] in ("loss",):
        return  # a section that is absent has its default
    origins = apply_overrides(data, [f"{'.'.join(names)}={as_yaml(value)}"])
    assert data == expected and same(data, {key: expected[key] for key in data})
    assert list(origins) == [tuple(names)]

"""Configurations as others write them, or damage them: `load_config` gives a Config or a ConfigError, and at once."""

from __future__ import annotations

import copy
import functools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel

from segzoo.config import Config, dump_config, load_config
from segzoo.config.messages import _all_paths
from segzoo.document import parse
from segzoo.errors import ConfigError, SegzooError

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = {path.name: path.read_text(encoding="utf-8") for path in sorted(CONFIGS.glob("*.yaml"))}
MINIMAL = (Path(__file__).parents[1] / "config" / "minimal.yaml").read_text(encoding="utf-8")
FOLDER = """\
model: {decoder: unet, backbone: efficientnet_b0}
data: {source: folder, root: x, classes: [a, b, c], split: {fraction: 0.2}, masks: index}
training: {epochs: 3}
"""
SECONDS = 5.0  # a limit for a loaded machine; by far most cases take a hundredth
# Arguments of losses and optimizers are checked against their signatures, which only a framework knows: no case names
# one. The test of the last line holds this file to it.
FRAMEWORKS = ("keras", "tensorflow", "jax")  # albumentations imports torch itself, where it is installed

PATHS = sorted({".".join(path) for path in _all_paths(Config)})
WORDS = (
    "null", "true", "no", "~", "1e400", "-1e-400", ".nan", "-.inf", "0x", "0xFFFFFFFFFFFFFFFFFFFF", "1_000", "-_",
    "0b2", "!!bool x", "!!int 1.5", "!!float .", "!!null 3", "!!str 12", "!!binary aGk=", "!!timestamp x",
    "!!set {a}",
    "!!omap [a: 1]", "!!map [1]", "!!seq {a: 1}", "!x y", "!<tag:yaml.org,2002:bool> q", "&a [*a]", "*a", "<<", "=",
    "{<<: 3}", "{<<: [{a: 1}, 2]}", "&b {<<: *b}", "? [a]\n: 1", "{? {a: b} : c}", "[", "]", "{", "}", "|\n  a", ">-",
    "%YAML 1.1", "---", "...", "\t", "\0", "\x7f", "\x85", "\u2028", "\ufeff", "\ud800", "\"\\ud800\"", '"\\0"', "'",
    '"', "#", "a: b: c", "1" * 5000, "9" * 400 + "d", "~nobody/x", "/" * 300, "a/" * 2000, "x" * 300, "[/b]",
    "2026-13-45", "[1, 2, 3]", "[64, 64]", "{a: 1}", "[[]]", "0", "-1", "3", "1000000000000", "0.5", "index",
    "{format: index}",
    "{format: index, values: {a: [0, 300], b: 1, c: 70000}}", "{format: rgb, colors: [[0, 0, 0]]}", "{format: [1]}",
    "{format: binary, threshold: -1}", "{format: rgb, colors: \"a\\0b\"}", "{format: instances, gap: 1e9}",
    "[{Affine: {scale: -1}}]", "[{RandomCrop: {height: 1e9, width: -3}}]", "[{Nope: 1}]", "[{OneOf: {transforms: []}}]",
    "(" * 900, "a{99999999999}", "(?P<a>", "*" * 50,
)  # fmt: skip
TEXTS = st.one_of(st.sampled_from(WORDS), st.text(max_size=30))
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory):
    """An empty working directory, and proof that no framework was loaded by any case."""
    loaded = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("fuzz"))
        load_config(CONFIGS / "unet_b3.yaml")  # imports albumentations, which takes seconds
        yield
    assert not {name for name in FRAMEWORKS if name in sys.modules and name not in loaded}


def load(content: str | bytes, overrides: tuple[str, ...] = ()) -> Config | None:
    """Load a configuration; None where it is refused, as it should be: in time, and with a message of some length."""
    path = Path("run.yaml")
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    start = time.perf_counter()
    try:
        config = load_config(path, overrides)
    except SegzooError as error:
        assert isinstance(error, ConfigError)
        assert 0 < len(str(error)) < 50_000
        str(error).encode()
        return None
    finally:
        assert time.perf_counter() - start < SECONDS
    return config


def reads_back(config: Config | None) -> None:
    """Check that what was accepted is written and read back equal."""
    if config is not None:
        dump_config(config, "resolved.yaml")
        assert load_config("resolved.yaml") == config


def without_signatures(data: Any) -> Any:
    """Take out what is checked against a signature or a mode of a loss, for which a framework would be loaded."""
    if isinstance(data, dict):
        data.pop("loss", None)
        data.pop("mode", None)
        for section in ("model", "training"):
            if isinstance(data.get(section), dict):
                data[section].pop("options", None)
                optimizer = data[section].get("optimizer")
                if isinstance(optimizer, dict):
                    optimizer.pop("options", None)
    return data


@functools.cache
def documents() -> tuple[dict[str, Any], ...]:
    """The recipes and two small files, as plain values."""
    return tuple(without_signatures(parse(text, str)[0]) for text in (*RECIPES.values(), MINIMAL, FOLDER))


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values below `value`."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = []
    for key, below in entries:
        found += [(*above, key), *places(below, (*above, key))]
    return found


@given(st.data())
def test_values_in_the_place_of_others(data):
    """A recipe of which one to three values are others, of any shape and depth."""
    content = copy.deepcopy(data.draw(st.sampled_from(documents())))
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.sampled_from(places(content)))
        here = content
        for key in where[:-1]:
            here = here[key]
        here[where[-1]] = data.draw(VALUES)
        if not isinstance(content.get("data"), dict):
            break
    text = json.dumps(without_signatures(content), default=str, ensure_ascii=data.draw(st.booleans()))
    reads_back(load(text))


@given(st.sampled_from(sorted(RECIPES)), st.data())
def test_damaged_texts(name, data):
    """The text of a recipe, cut, doubled, or with a word of trouble somewhere."""
    text = "\n".join(line for line in RECIPES[name].splitlines() if not line.lstrip().startswith(("#", "mode")))
    text = text.split("\nloss:")[0] + "\ntraining: {epochs: 2}\n" if "\nloss:" in text else text
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        to = min(len(text), at + data.draw(st.integers(0, 30)))
        text = text[:at] + data.draw(st.one_of(st.just(""), TEXTS, st.just(text[at:to] * 2))) + text[to:]
    if "options" not in text and "loss" not in text and "mode" not in text:
        load(text)


@given(st.binary(max_size=200), st.sampled_from(["", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"]))
@example(b"\xff\xfe", "")
@example(b"a: \xed\xa0\x80", "")
def test_bytes(raw, encoding):
    load(raw + MINIMAL.encode(encoding) if encoding else raw)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(PATHS), st.sampled_from(["=", "=", "==", " = "]), TEXTS),
            st.tuples(st.sampled_from(PATHS), st.just("="), VALUES.map(lambda value: json.dumps(value, default=str))),
            st.tuples(TEXTS, st.sampled_from(["=", ""]), TEXTS),
            st.tuples(st.sampled_from(["data.augment.", "data.classes.", "data."]), TEXTS, st.just("=1")),
        ).map("".join),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([MINIMAL, FOLDER]),
)
@example(["." * 5000 + "=1"], MINIMAL)
@example(["a." * 5000 + "b=1"], MINIMAL)
@example(["data.augment." + "9" * 5000 + "=1"], MINIMAL.replace("generated", "generated\n  augment: [HorizontalFlip]"))
@example(["data.classes=[" + ", ".join(f"c{n}" for n in range(2000)) + "]"], FOLDER)
@example(["data.masks.colors=" + "x" * 5000, "data.masks.format=rgb"], FOLDER)
@example(["data.root=" + "y" * 300], FOLDER)
@example(["data.split.group=" + "(" * 900], FOLDER)
@example(["training.max_time=" + "9" * 400 + "d"], MINIMAL)
def test_overrides(overrides, content):
    if not any(text.lstrip().startswith(("loss", "mode")) or "options" in text for text in overrides):
        reads_back(load(content, tuple(overrides)))


@given(st.one_of(TEXTS, st.sampled_from(["~nobody/x.yaml", "~", "~/", "\0", "x" * 300, "x" * 5000, "a/" * 3000, ""])))
@example("~" + "u" * 5000)
def test_names_of_configurations(name):
    try:
        load_config(name)
    except ConfigError as error:
        assert 0 < len(str(error)) < 50_000
        str(error).encode()


def test_every_key_takes_every_word_or_refuses_it():
    """Without chance: each key of the schema with each word of trouble; in CI with each twelfth, others a key."""
    share = 1 if "SEGZOO_FUZZ_CASES" in os.environ else 12
    models = [field.annotation for field in Config.model_fields.values()]
    assert any(isinstance(model, type) and issubclass(model, BaseModel) for model in models)
    for number, path in enumerate(PATHS):
        if not path.startswith(("loss", "mode")) and "options" not in path:
            for word in WORDS[number % share :: share]:
                load(FOLDER if path.startswith("data") else MINIMAL, (f"{path}={word}",))

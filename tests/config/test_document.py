"""Files are read as YAML 1.2, and what cannot be read says where and why."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from segzoo.config import load_config
from segzoo.document import MAX_BYTES, parse
from segzoo.errors import ConfigError

MINIMAL = (Path(__file__).parent / "minimal.yaml").read_text()  # seven lines, so what is added starts in line 8


def value(text: str):
    return parse(text, lambda line: f"text:{line}")[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # PyYAML reads these as "1e-3", False, 10, 90, and a date.
        ("1e-3", 1e-3),
        ("no", "no"),
        ("on", "on"),
        ("012", 12),
        ("1:30", "1:30"),
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31 10:20:30", "2026-01-31 10:20:30"),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.e2", 100.0),
        ("~", None),
        ("True", True),
        ("-.inf", float("-inf")),
        ("'3'", "3"),
        ("&a true", True),
        ("{a: [1, {b: no}]}", {"a": [1, {"b": "no"}]}),
        ("{a: &x {b: 1}, c: {<<: *x, d: 2}}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("{a: &x {b: 1, d: 3}, c: {<<: *x, d: 2}}", {"a": {"b": 1, "d": 3}, "c": {"b": 1, "d": 2}}),
        ("[&x {a: 1}, &y {a: 2, b: 2}, {<<: [*x, *y], c: 3}]", [{"a": 1}, {"a": 2, "b": 2}, {"a": 1, "b": 2, "c": 3}]),
        ("!!str 12", "12"),
        ("!!bool true", True),
        ("!!int '12'", 12),
        ("=", "="),
        ("1_000", 1000),
    ],
)
def test_yaml_1_2_values(text, expected):
    result = value(text)
    assert result == expected
    assert type(result) is type(expected)  # plain types, none of the reader's own


def test_an_override_and_a_file_read_the_same_value(write):
    path = write(MINIMAL)
    write(MINIMAL + "  optimizer: {learning_rate: 3e-4}\n", "other.yaml")
    rate = load_config("other.yaml").training.optimizer.learning_rate
    assert load_config(path, ["training.optimizer.learning_rate=3e-4"]).training.optimizer.learning_rate == rate == 3e-4


@pytest.mark.parametrize(
    ("content", "place", "words"),
    [
        ("", "run.yaml", ["empty", "model, data and training"]),
        ("# only a comment\n", "run.yaml", ["empty"]),
        ("- model\n- data\n", "run.yaml:1", ["a list"]),
        ("just text\n", "run.yaml:1", ["'just text'"]),
        (MINIMAL + "seed: 1\nseed: 2\n", "run.yaml:9", ["duplicate key", "'seed: 2'"]),
        (MINIMAL + "  epochs: 4\n", "run.yaml:8", ["duplicate key", "'epochs: 4'"]),
        (MINIMAL + "loss: {dice: 1.0\n", "run.yaml:9", ["not YAML 1.2", "flow mapping"]),
        (MINIMAL + "loss:\n\tdice: 1.0\n", "run.yaml:9", ["tab", "spaces", "'dice: 1.0'"]),
        (MINIMAL + "  loss: 1\n seed: 3\n", "run.yaml:9", ["not YAML 1.2", "'seed: 3'"]),
        (MINIMAL + "name: *run\n", "run.yaml:8", ["undefined alias"]),
        (MINIMAL + "---\nseed: 1\n", "run.yaml:8", ["document"]),
        (MINIMAL + "1: 2\n", "run.yaml:8", ["the key 1", "quotes"]),
        (MINIMAL + "output:\n  true: 2\n", "run.yaml:9", ["the key True", "quotes"]),
        (MINIMAL + "name: !text x\n", "run.yaml:8", ["the tag !text"]),
        (MINIMAL + "name: !!python/name:os.system x\n", "run.yaml:8", ["the tag"]),
        (MINIMAL + "name: a\x01b\n", "run.yaml:8", ["'\\x01'"]),
        (MINIMAL + "name: !!bool x\n", "run.yaml:8", ["'x' is no bool", "without the tag"]),
        (MINIMAL + "seed: !!int 1.5\n", "run.yaml:8", ["'1.5' is no int"]),
        (MINIMAL + "output: !mine {root: x}\n", "run.yaml:8", ["the tag !mine"]),
        (MINIMAL + "output: !!omap [root: x]\n", "run.yaml:8", ["omap is not supported"]),
        (MINIMAL + "output: {<<: 3}\n", "run.yaml:8", ["<< takes an alias"]),
        (MINIMAL + "output: &x {<<: *x}\n", "run.yaml:8", ["inside the value that it repeats"]),
        (MINIMAL + "seed: 0x" + "F" * 20000 + "\n", "run.yaml:8", ["0xFFF", "too large"]),
        (MINIMAL + "seed: 1e400\n", "run.yaml:8", ["'1e400'", "too large"]),
        (MINIMAL + "loss: {dice: 1" + "0" * 400 + "}\n", "run.yaml:8", ["too large"]),
        (MINIMAL + 'name: "\\ud800"\n', "run.yaml:8", ["half a character"]),
        (MINIMAL + "output:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 60)), "run.yaml:49", ["more than 40"]),
        ("a: " + "[" * 300000, "run.yaml:1", ["too deeply"]),
        ("%YAML 1.1\n---\n" + MINIMAL, "run.yaml:1", ["YAML 1.2", "'%YAML 1.1'"]),
        (b"seed: 1\nname: caf\xe9\n", "run.yaml:2", ["0xe9", "UTF-8"]),
        (MINIMAL.encode("utf-16"), "run.yaml:1", ["UTF-16", "UTF-8"]),
        (MINIMAL + "seed: " + "9" * 5000 + "\n", "run.yaml:8", ["cannot be read"]),
        ("a: " + "[" * 1000, "run.yaml:1", ["too deeply"]),
        ("a: &x [1, *x]\n", "run.yaml:1", ["inside the value that it repeats"]),
        ("a:\n  b: &x {c: *x}\n", "run.yaml:2", ["inside the value that it repeats"]),
        ("&x [1, *x]\n", "run.yaml:1", ["inside the value that it repeats"]),
        ("# " + "x" * MAX_BYTES, "run.yaml", ["too large"]),
    ],
)
def test_unreadable_files(problems, content, place, words):
    message = " ".join(problems(content))
    assert message.startswith(f"{place}: ")
    for word in words:
        assert word in message


def test_aliases_that_multiply_are_refused_before_they_fill_the_memory(problems):
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for n in range(1, 9):
        bomb += f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n"
    assert "aliases" in " ".join(problems(bomb))


def test_a_byte_order_mark_is_accepted(write):
    assert load_config(write(b"\xef\xbb\xbf" + MINIMAL.encode())).training.epochs == 3


def test_a_missing_file_and_a_folder(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_config(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="this is a folder"):
        load_config(tmp_path)
    (tmp_path / "config.yaml").write_text(MINIMAL)
    with pytest.raises(ConfigError, match=r"Did you mean .*config\.yaml"):
        load_config(tmp_path)


def test_a_simple_configuration_loads_no_framework(write):
    path = write(MINIMAL).resolve()
    code = (
        "import sys, segzoo.config as config\n"
        f"config.load_config({str(path)!r}); config.json_schema()\n"
        "assert not {'keras', 'tensorflow', 'torch', 'jax', 'albumentations'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2], timeout=60)


def test_thousands_of_mistakes_take_seconds_and_few_lines(problems):
    start = time.process_time()
    lines = problems(MINIMAL + "".join(f"k{n}: 1\n" for n in range(5_000)))
    assert time.process_time() - start < 20  # five minutes, with a search for the nearest key for each
    assert len(lines) == 21 and lines[-1] == "run.yaml: and 4,980 more problems."


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("~nobody_at_all/x.yaml", "no user 'nobody_at_all'"),
        ("x" * 300, "300 bytes"),
        ("x/" * 3000, "2|long"),
        ("a\0b", "position 1"),
    ],
)
def test_names_that_no_file_has(name, words):
    with pytest.raises(ConfigError, match=words) as told:
        load_config(name)
    assert len(str(told.value)) < 400

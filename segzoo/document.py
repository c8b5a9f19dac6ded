"""Reading YAML 1.2 into plain Python values, with the line of every key."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.resolver import VersionedResolver

from segzoo.errors import ConfigError, shortened
from segzoo.files import read_at_most

KeyPath = tuple[str | int, ...]
# What messages call a line of the text: "file:line" in a file, the whole text of an override.
Place = Callable[[int], str]

# A configuration has some hundred lines; a larger file is something else, given by mistake.
MAX_BYTES = 1_000_000
# Aliases of aliases make a few lines expand to billions of values; the limit is on what they expand to.
MAX_VALUES = 100_000
# Lists and sections inside each other: the schema has six, transforms inside transforms some more.
MAX_DEPTH = 40
# Brackets that are open at once, those in quotes and comments included: ruamel's time grows with their square.
_MAX_BRACKETS = 200

_TAG = "tag:yaml.org,2002:"
_SCALARS = ("str", "null", "bool", "int", "float", "timestamp", "merge", "value")  # the last three are text here
_BASES = {"0b": 2, "0o": 8, "0x": 16}


def _whole(text: str) -> int:
    """Read a whole number of at most 64 bits; ValueError."""
    digits = text.replace("_", "").lower()
    if len(digits) > 70:  # 64 binary digits, a sign and a base: Python's own limit is none for some bases
        raise ValueError(digits)
    sign, digits = (-1 if digits[0] == "-" else 1), digits.lstrip("+-")
    value = sign * int(digits[2:] if digits[:2] in _BASES else digits, _BASES.get(digits[:2], 10))
    if not -(2**63) <= value < 2**64:
        raise ValueError(digits)
    return value


def _real(text: str) -> float:
    """Read a number with a point or an exponent, or .inf and .nan; ValueError."""
    digits = text.replace("_", "").lower()
    if digits.endswith((".inf", ".nan")):
        return float(digits.replace(".", ""))
    if math.isinf(value := float(digits)):
        raise ValueError(digits)
    return value


class Document:
    """Parsed YAML file: its plain value, and the line of each key.

    Args:
        label: name of the file in messages.
        data: the top-level mapping, in plain dicts, lists and scalars.
        lines: key path to line number, from 1.
    """

    def __init__(self, label: str, data: dict[str, Any], lines: dict[KeyPath, int]):
        self.label = label
        self.data = data
        self._lines = lines

    def line(self, path: KeyPath) -> int:
        """Return the line of the key at `path`, or of the nearest enclosing key; 0 where there is none."""
        return next((self._lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in self._lines), 0)

    def __contains__(self, path: KeyPath) -> bool:
        return path in self._lines

    def place(self, path: KeyPath) -> str:
        """Return "file:line" of the key at `path`, or of the nearest enclosing key that the file has."""
        line = self.line(path)
        return f"{self.label}:{line}" if line else self.label


def read_document(path: Path) -> Document:
    """Read a configuration file.

    Raises:
        ConfigError: the file is missing, a folder, not UTF-8, not YAML 1.2, has a repeated key, or is not a mapping.
    """
    label = str(path)
    text = _read_text(path, label)
    value, lines = parse(text, lambda line: f"{label}:{line}")
    if value is None:
        raise ConfigError(f"{label}: the file is empty; a configuration needs at least model, data and training.")
    if not isinstance(value, dict):
        raise ConfigError(
            f"{label}:1: expected keys and values such as `model:`, got {_kind(value)}; is it the right file?"
        )
    return Document(label, value, lines)


def parse(text: str, place: Place) -> tuple[Any, dict[KeyPath, int]]:
    """Return the plain value of YAML text, and the line of every key.

    Args:
        text: one YAML document.
        place: name of a line of the file in messages.

    Raises:
        ConfigError: the text is not YAML 1.2, has a repeated key, or uses features that configurations do not support.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("%YAML") and line.split()[1:2] != ["1.2"]:
            # An older version would turn `no` into false and `012` into 10.
            raise ConfigError(f"{place(number)}: configurations are YAML 1.2; remove the line {line.strip()!r}.")
    if _most_open_brackets(text) > _MAX_BRACKETS:
        raise ConfigError(f"{place(1)}: values are nested too deeply to be read.")
    yaml = YAML(typ="safe", pure=True)
    try:
        tree = yaml.compose(text)
    except YAMLError as error:
        raise ConfigError(_syntax_message(error, text, place)) from None
    except RecursionError:
        raise ConfigError(f"{place(1)}: values are nested too deeply to be read.") from None
    except Exception as error:  # on damaged text ruamel raises what it likes
        raise ConfigError(f"{place(1)}: not YAML 1.2 ({type(error).__name__}: {str(error)[:200]}).") from None
    reader = _PlainReader(text, place)
    return None if tree is None else reader.plain(tree, (), ()), reader.lines


class _PlainReader:
    """Construct plain values of YAML 1.2's core schema, which has no dates, from ruamel's nodes, and record lines.

    Args:
        text: the document.
        place: name of a line of the file in messages.

    Attributes:
        lines: key path to line number, from 1.
    """

    def __init__(self, text: str, place: Place):
        self._text = text
        self._place = place
        self._resolver = VersionedResolver(version=(1, 2))
        self.lines: dict[KeyPath, int] = {}
        self._count = 0

    def plain(self, node: Node, path: KeyPath, parents: tuple[int, ...]) -> Any:
        """Return the plain value of `node`, which stands inside the nodes with the identities `parents`."""
        self._counted(node)
        if id(node) in parents:
            self._fail(node, "an alias (*name) stands inside the value that it repeats")
        if len(parents) > MAX_DEPTH:
            self._fail(node, f"values are nested too deeply: more than {MAX_DEPTH} inside each other")
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        inside = (*parents, id(node))
        if isinstance(node, MappingNode) and node.tag == f"{_TAG}map":
            return self._mapping(node, path, inside)
        if isinstance(node, SequenceNode) and node.tag == f"{_TAG}seq":
            found = []
            for index, entry in enumerate(node.value):
                self.lines[*path, index] = _line(entry)
                found.append(self.plain(entry, (*path, index), inside))
            return found
        return self._fail(node, f"the tag {node.tag} is not supported; write the value without it")

    def _mapping(self, node: MappingNode, path: KeyPath, inside: tuple[int, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node, merged in self._pairs(node, inside):
            if not isinstance(key_node, ScalarNode):
                self._fail(key_node, "a list or section stands where a key is due; write text, in quotes where needed")
            key = self._scalar(key_node)
            if not isinstance(key, str):
                self._fail(key_node, f"the key {str(key)[:60]} is no text; write it in quotes")
            if key in found and not merged:
                shown = _source_line(self._text, _line(key_node))
                message = f"duplicate key: {shown!r} stands in its section twice; remove one of the two"
                self._fail(key_node, message)
            if key not in found:
                self.lines[*path, key] = _line(key_node)
                found[key] = self.plain(value_node, (*path, key), inside)
        return found

    def _pairs(self, node: MappingNode, inside: tuple[int, ...]) -> Iterator[tuple[Node, Node, bool]]:
        """Yield the keys and values of a mapping, and those that it merges (`<<: *name`) after its own."""
        merged: list[Node] = []
        for key, value in node.value:
            if key.tag == f"{_TAG}merge":
                merged += value.value if isinstance(value, SequenceNode) else [value]
            else:
                yield key, value, False
        for other in merged:
            self._counted(other)
            if not isinstance(other, MappingNode):
                self._fail(other, "<< takes an alias of a section (*name), or a list of them")
            if id(other) in inside or len(inside) > MAX_DEPTH:
                self._fail(other, "an alias (*name) stands inside the value that it repeats")
            for key, value, _ in self._pairs(other, (*inside, id(other))):
                yield key, value, True

    def _scalar(self, node: ScalarNode) -> Any:
        text, kind = str(node.value), str(node.tag).removeprefix(_TAG)
        if kind not in _SCALARS:
            self._fail(node, f"the tag {node.tag} is not supported; write the value without it")
        implied = str(self._resolver.resolve(ScalarNode, text, (True, False))) if kind != "str" else node.tag
        if node.tag != implied:  # so the tag was written: `!!bool maybe` is no boolean, whatever it claims
            self._fail(node, f"{shortened(text)} is no {kind}, which its tag says; write the value without the tag")
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        if kind in ("int", "float"):
            try:
                return _whole(text) if kind == "int" else _real(text)
            except ValueError:
                self._fail(node, f"the number {shortened(text)} cannot be read: it is too large, or no number at all")
        if any("\ud800" <= character <= "\udfff" for character in text):
            self._fail(node, f"{shortened(text)} holds half a character (a lone surrogate), which no file can")
        return text

    def _counted(self, node: Node) -> None:
        self._count += 1
        if self._count > MAX_VALUES:
            self._fail(node, f"more than {MAX_VALUES} values; aliases (*name) probably repeat each other")

    def _fail(self, node: Node, message: str) -> NoReturn:
        raise ConfigError(f"{self._place(_line(node))}: {message}.")


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _read_text(path: Path, label: str) -> str:
    try:
        if path.is_dir():
            inside = path / "config.yaml"
            hint = f" Did you mean {inside}?" if inside.is_file() else ""
            raise ConfigError(f"{label}: this is a folder, not a configuration file.{hint}")
        raw = read_at_most(path, MAX_BYTES)
    except FileNotFoundError:
        raise ConfigError(f"{label}: there is no such file.") from None
    except OSError as error:
        raise ConfigError(f"{label}: cannot be read: {error.strerror}.") from None
    except ValueError as error:  # too large, or a NUL byte in the path
        place = shortened(label) if "\0" in label else label
        raise ConfigError(f"{place}: cannot be read as a configuration: {error}.") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ConfigError(f"{label}:1: the file is UTF-16; save it as UTF-8.") from None
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{label}:{line}: byte {raw[error.start]:#04x} is not UTF-8; save the file as UTF-8."
        ) from None


def _syntax_message(error: YAMLError, text: str, place: Place) -> str:
    if isinstance(error, ReaderError):
        line = text.count("\n", 0, error.position) + 1
        return f"{place(line)}: the character {chr(error.character)!r} is not allowed in YAML."
    if not isinstance(error, MarkedYAMLError):
        return f"{place(1)}: not YAML: {error}."
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark is not None else 1
    problem = str(error.problem or error).rstrip(".")
    if "'\\t'" in problem:
        problem = "a tab cannot indent YAML; use spaces"
    elif error.context:
        problem = f"{problem} ({error.context})"
    shown = _source_line(text, line)
    return f"{place(line)}: not YAML 1.2: {problem}" + (f". The line is {shown!r}." if shown else ".")


def _source_line(text: str, line: int) -> str:
    lines = text.splitlines()
    return lines[line - 1].strip()[:80] if 0 < line <= len(lines) else ""


def _most_open_brackets(text: str) -> int:
    """Return the largest nesting depth of brackets."""
    steps = {"[": 1, "{": 1, "]": -1, "}": -1}
    return max(itertools.accumulate(steps.get(character, 0) for character in text), default=0)


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"one value, {str(value)[:40]!r}"

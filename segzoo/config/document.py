"""Reading YAML 1.2 into plain Python values, with the line of every key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq, TaggedScalar
from ruamel.yaml.constructor import ConstructorError, DuplicateKeyError, RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from segzoo.errors import ConfigError

KeyPath = tuple[str | int, ...]
# What messages call a line of the text: "file:line" in a file, the whole text of an override.
Place = Callable[[int], str]

# A configuration has some hundred lines; a larger file is something else, given by mistake.
MAX_BYTES = 1_000_000
# Aliases of aliases make a few lines expand to billions of values; the limit is on what they expand to.
MAX_VALUES = 100_000


class _Constructor(RoundTripConstructor):
    """Builds the core schema of YAML 1.2, which has no dates: `name: 2026-01-31` is text."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Build a node; an alias inside the value that it repeats, which ruamel would read as null, is refused."""
        if node in self.recursive_objects:
            problem = "an alias (*name) stands inside the value that it repeats"
            raise ConstructorError(None, None, problem, node.start_mark)
        return super().construct_object(node, deep=deep)


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", lambda self, node: node.value)


class Document:
    """A YAML file: its plain value and where each key stands.

    Args:
        label: what messages call the file.
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
        ConfigError: the file is missing, a folder, not UTF-8, not YAML 1.2, repeats a key, or is no mapping.
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
        place: what messages call a line of it.

    Raises:
        ConfigError: the text is not YAML 1.2, repeats a key, or uses what a configuration has no need of.
    """
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("%YAML") and line.split()[1:2] != ["1.2"]:
            # An older version would turn `no` into false and `012` into 10.
            raise ConfigError(f"{place(number)}: configurations are YAML 1.2; remove the line {line.strip()!r}.")
    yaml = YAML(typ="rt", pure=True)
    yaml.Constructor = _Constructor
    try:
        tree = yaml.load(text)
    except YAMLError as error:
        raise ConfigError(_syntax_message(error, text, place)) from None
    except RecursionError:
        raise ConfigError(f"{place(1)}: values are nested too deeply to be read.") from None
    except ValueError as error:  # a number that Python cannot hold
        raise ConfigError(f"{place(1)}: a value cannot be read: {str(error).partition(';')[0]}.") from None
    reader = _PlainReader(place)
    plain = reader.plain(tree, (), 1, ())
    return plain, reader.lines


class _PlainReader:
    """Turns ruamel's round-trip tree into plain values and remembers lines."""

    def __init__(self, place: Place):
        self._place = place
        self.lines: dict[KeyPath, int] = {}
        self._count = 0

    def plain(self, node: Any, path: KeyPath, line: int, parents: tuple[int, ...]) -> Any:
        """Return the plain value of `node`, which stands at `line` inside the containers `parents`."""
        self._count += 1
        if self._count > MAX_VALUES:
            self._fail(line, f"more than {MAX_VALUES} values; aliases (*name) probably repeat each other")
        if id(node) in parents:
            self._fail(line, "an alias (*name) stands inside the value that it repeats")
        inside = (*parents, id(node))
        if isinstance(node, CommentedMap):
            return {key: self._child(node, key, path, line, inside) for key in node}
        if isinstance(node, CommentedSeq):
            return [self._child(node, index, path, line, inside) for index in range(len(node))]
        return self._scalar(node, line)

    def _child(self, node: Any, key: Any, path: KeyPath, line: int, parents: tuple[int, ...]) -> Any:
        mapping = isinstance(node, CommentedMap)
        # Keys that came in through a merge (<<) have no position of their own; the parent's line stands in.
        position = (node.lc.data or {}).get(key)
        at = position[0] + 1 if position else line
        if mapping and not isinstance(key, str):
            self._fail(at, f"the key {key!r} is no text; write it in quotes")
        child = (*path, str(key) if mapping else key)
        if position:
            self.lines[child] = at
        return self.plain(node[key], child, at, parents)

    def _scalar(self, node: Any, line: int) -> Any:
        if isinstance(node, TaggedScalar):
            self._fail(line, f"the tag {node.tag.value} is not supported; write the value without it")
        if node is None or isinstance(node, bool):
            return node
        # ruamel's own number and text classes remember how they were written; its boolean is an int.
        if type(node).__name__ == "ScalarBoolean":
            return bool(node)
        for kind in (int, float, str):
            if isinstance(node, kind):
                return kind(node)
        return self._fail(line, f"a value of the kind {type(node).__name__} is not supported")

    def _fail(self, line: int, message: str) -> NoReturn:
        raise ConfigError(f"{self._place(line)}: {message}.")


def _read_text(path: Path, label: str) -> str:
    try:
        if path.is_dir():
            inside = path / "config.yaml"
            hint = f" Did you mean {inside}?" if inside.is_file() else ""
            raise ConfigError(f"{label}: this is a folder, not a configuration file.{hint}")
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{label}: over {MAX_BYTES} bytes, far too large for a configuration.")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(f"{label}: there is no such file.") from None
    except OSError as error:
        raise ConfigError(f"{label}: cannot be read: {error.strerror}.") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
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
    if isinstance(error, DuplicateKeyError):
        shown = _source_line(text, line)
        return f"{place(line)}: duplicate key: {shown!r} stands in its section twice; remove one of the two."
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


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"one value, {str(value)[:40]!r}"

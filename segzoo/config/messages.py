"""Translation of pydantic's validation errors into messages with file, line, key and allowed values."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from segzoo.config.problems import ProblemAt, given
from segzoo.config.schema import Config
from segzoo.document import Document, KeyPath
from segzoo.errors import ConfigError, nearest, shortened

# Above this many, the valid keys of a section are not listed, only the nearest.
MAX_LISTED_KEYS = 12
# Of more mistakes than these, one sentence says how many there are.
_MAX_PROBLEMS = 20

_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a section of keys and values",
    "model_type": "a section of keys and values",
    "model_attributes_type": "a section of keys and values",
}
_BOUNDS = {
    "greater_than": ("above", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("below", "lt"),
    "less_than_equal": ("at most", "le"),
}


def config_error(error: ValidationError, document: Document, origins: Mapping[KeyPath, str]) -> ConfigError:
    """Return one error with a line per problem: location, key, the invalid value, the valid values.

    Args:
        error: error raised by validation.
        document: the file, for line numbers.
        origins: key path to the text of the override that set it.
    """
    found = [(_path(details), details) for details in error.errors(include_url=False)]
    # In the order of the file; `sort` keeps pydantic's order within a line.
    found.sort(key=lambda problem: document.line(problem[0]))
    lines = []
    for path, details in found[:_MAX_PROBLEMS]:
        key = ".".join(map(_step, path)) or "the file"
        message = _message(details, path, document.data).rstrip(". ")
        lines.append(f"{_place(path, document, origins)}: {key}: {message}.")
    if len(found) > _MAX_PROBLEMS:
        lines.append(f"{document.label}: and {len(found) - _MAX_PROBLEMS:,} more problems.")
    return ConfigError("\n".join(lines))


def _step(key: str | int) -> str:
    """Return a key as shown in messages: shortened if long, with unprintable characters escaped."""
    text = str(key)
    return text if len(text) <= 60 and text.isprintable() else shortened(text)


def _place(path: KeyPath, document: Document, origins: Mapping[KeyPath, str]) -> str:
    for length in range(len(path), 0, -1):
        if path[:length] in origins:
            return f"override {shortened(origins[path[:length]])}"
    if path not in document:
        # An override may also have created the section that contains its key.
        for changed, text in origins.items():
            if changed[: len(path)] == path:
                return f"override {shortened(text)}"
    return document.place(path)


def _path(details: Any) -> KeyPath:
    """Return the key path of a problem, without pydantic's own steps (the tag of a union, "[key]")."""
    location = list(details["loc"])
    if len(location) > 1 and location[0] == "data" and location[1] in sources():
        del location[1]
    if location and location[-1] == "[key]":
        del location[-1]
    if details["type"].startswith("union_tag"):
        location.append("source")
    if details["type"] == "missing" and isinstance(location[-1], int):
        del location[-1]  # an absent entry of a list: the list is at fault
    problem = details.get("ctx", {}).get("error")
    return (*location, *problem.at) if isinstance(problem, ProblemAt) else tuple(location)


def _message(details: Any, path: KeyPath, data: dict[str, Any]) -> str:
    kind, context, value = details["type"], details.get("ctx", {}), details["input"]
    about = _description(path, data)
    if kind == "missing" and isinstance(details["loc"][-1], int):
        return f"{given(value)} has too few entries. {about}"
    if kind == "missing":
        return f"this key is missing. {about}"
    if kind == "extra_forbidden":
        return _unknown_key(path, data)
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        return _not_one_of(value, str(context["expected"]), about)
    if kind == "union_tag_invalid":
        return _not_one_of(context["tag"], str(context["expected_tags"]), "")
    if kind == "union_tag_not_found":
        return f"this key is missing; it is one of {', '.join(sources())}."
    if kind in _WANTED:
        return f"expected {_WANTED[kind]}, got {given(value)}{_trap(kind, value)}. {about}".rstrip()
    if kind in _BOUNDS:
        word, key = _BOUNDS[kind]
        return f"must be {word} {context[key]}, got {given(value)}. {about}"
    if kind in ("too_short", "too_long"):
        bound = f"at least {context['min_length']}" if kind == "too_short" else f"at most {context['max_length']}"
        return f"must have {bound} entries, got {context['actual_length']}. {about}"
    if kind == "string_too_long":
        return f"{given(value)} has {len(value):,} characters, and at most {context['max_length']:,} are taken. {about}"
    if kind in ("string_too_short", "string_pattern_mismatch"):
        return f"{given(value)} cannot be used here. {about}"
    return f"{details['msg']}, got {given(value)}. {about}"


def _trap(kind: str, value: object) -> str:
    """Return a hint for values that YAML 1.2 parses differently than many users expect."""
    if isinstance(value, str):
        if kind.startswith("bool") and value.lower() in ("yes", "no", "on", "off"):
            return " (YAML 1.2 knows only true and false)"
        if kind.startswith(("int", "float")):
            try:
                float(value)
            except ValueError:
                return ""
            return " (remove the quotes)"
    elif kind == "string_type" and isinstance(value, int | float):
        return " (put it in quotes)"
    return ""


def _not_one_of(value: object, expected: str, about: str) -> str:
    known = [word.strip(" '") for word in expected.replace(" or ", ", ").split(",")]
    near = nearest(value, known, cutoff=0.5) if isinstance(value, str) else []
    hint = f"; did you mean {near[0]}?" if near else "."
    allowed = f"one of {', '.join(known)}" if len(known) > 1 else known[0]
    return f"{given(value)} is not allowed{hint} It must be {allowed}. {about}".rstrip()


def _unknown_key(path: KeyPath, data: dict[str, Any]) -> str:
    *section, key = path
    model = _section_at(tuple(section), data)
    names = list(model.model_fields) if model else []
    near = nearest(str(key), names)
    everywhere = _paths_of_the_schema()
    closest = nearest(str(key), [found[-1] for found in everywhere], cutoff=0.8)
    elsewhere = [".".join(found) for found in everywhere if found[-1] in closest and found != path]
    if path in everywhere:
        hint = "; it belongs to another source of data."
    elif near:
        hint = f"; did you mean {near[0]}?"
    elif elsewhere:
        hint = f"; did you mean {' or '.join(elsewhere[:3])}?"
    else:
        hint = "."
    listed = f" Keys here: {', '.join(names)}." if len(names) <= MAX_LISTED_KEYS or not near else ""
    return f"unknown key{hint}{listed}"


def _description(path: KeyPath, data: dict[str, Any]) -> str:
    """Return the description of the key at `path`, or of the nearest described key around it."""
    for length in range(len(path), 0, -1):
        model = _section_at(path[: length - 1], data)
        field = model.model_fields.get(str(path[length - 1])) if model else None
        if field is not None:
            return field.description or ""
    return ""


def _section_at(path: KeyPath, data: dict[str, Any]) -> type[BaseModel] | None:
    """Return the model of the section at `path`; None if it has no schema, as for options."""
    model: type[BaseModel] = Config
    for key in path:
        if isinstance(key, int):  # an entry of a list of sections
            continue
        field = model.model_fields.get(str(key))
        candidates = list(_models_of(field)) if field else []
        if len(candidates) > 1:
            chosen = data.get("data")
            source = chosen.get("source") if isinstance(chosen, dict) else None
            candidates = [m for m in candidates if m.model_fields["source"].default == source]
        if not candidates:
            return None
        model = candidates[0]
    return model


@functools.cache
def _paths_of_the_schema() -> list[tuple[str, ...]]:
    return list(dict.fromkeys(_all_paths(Config)))


def _all_paths(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*above, name)
        if get_origin(field.annotation) is list:
            continue  # an entry of a list is a poor guess for the section of a misplaced key
        below = [path for section in _models_of(field) for path in _all_paths(section, (*above, name))]
        yield from dict.fromkeys(below)


def _models_of(field: FieldInfo) -> Iterator[type[BaseModel]]:
    waiting: list[Any] = [field.annotation]
    while waiting:
        annotation = waiting.pop(0)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        elif get_origin(annotation) in (Union, types.UnionType, Annotated, list):
            waiting.extend(get_args(annotation))


def sources() -> list[str]:
    """Return the valid values of `data.source`."""
    return [str(model.model_fields["source"].default) for model in _models_of(Config.model_fields["data"])]

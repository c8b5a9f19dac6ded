"""Overrides from the command line: `a.b.c=value`, the value read as YAML 1.2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from segzoo.config.problems import given
from segzoo.config.schema import Config
from segzoo.document import MAX_DEPTH, KeyPath, Place, parse
from segzoo.errors import ConfigError, shortened


def apply_overrides(data: dict[str, Any], overrides: Sequence[str]) -> dict[KeyPath, str]:
    """Change `data` in place.

    Args:
        data: the plain content of a configuration file.
        overrides: texts such as "training.epochs=3" or "data.augment.0={HorizontalFlip: {p: 0.5}}".

    Returns:
        Key path to the override that set it, for messages.

    Raises:
        ConfigError: an override has no `=`, no key, a value that is not YAML, or a path through a value that is
            not a section. Unknown keys are reported when the configuration is validated.
    """
    origins: dict[KeyPath, str] = {}
    for text in overrides:
        key, equals, value_text = text.partition("=")
        names = [name.strip() for name in key.split(".")]
        if not equals or not all(names):
            raise ConfigError(f"override {shortened(text)}: expected key=value, for example training.epochs=3.")
        if len(names) > MAX_DEPTH:
            raise ConfigError(f"override {shortened(text)}: the key has {len(names)} parts, over {MAX_DEPTH}.")
        value, _ = parse(value_text, _named(text))
        origins[_assign(data, names, value, text)] = text
    return origins


def _named(text: str) -> Place:
    return lambda line: f"override {shortened(text)}"


def _assign(data: dict[str, Any], names: list[str], value: Any, text: str) -> KeyPath:
    here: Any = data
    path: KeyPath = ()
    for depth, name in enumerate(names):
        step = _step(here, name, path, text)
        path = (*path, step)
        if depth == len(names) - 1:
            here[step] = value
        elif isinstance(here, dict) and here.get(name) is None:
            here[name] = _absent_section(path)
        here = here[step]
    return path


def _step(here: Any, name: str, path: KeyPath, text: str) -> str | int:
    section = ".".join(map(str, path))
    if isinstance(here, dict):
        return name
    if not isinstance(here, list):
        raise ConfigError(f"override {shortened(text)}: {section} is {given(here)} and has no keys below it.")
    if not (name.isascii() and name.isdecimal()) or len(name) > 9 or int(name) >= len(here):
        count = f"an index from 0 to {len(here) - 1}" if here else "nothing, for it is empty"
        raise ConfigError(
            f"override {shortened(text)}: {section} is a list, and {shortened(name)} is not in it; it has {count}."
        )
    return int(name)


def _absent_section(path: KeyPath) -> dict[str, Any]:
    # `loss.dice=0.5` on a file without losses changes one of the default losses and keeps the others.
    field = Config.model_fields.get(str(path[0])) if len(path) == 1 else None
    default = field.get_default(call_default_factory=True) if field is not None else None
    return dict(default) if isinstance(default, dict) else {}

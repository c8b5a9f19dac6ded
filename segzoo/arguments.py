"""Inspection of signatures: names, defaults and types of the arguments of a class or function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any, get_type_hints

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def arguments_of(kind: Callable[..., Any], leave_out: Collection[str] = (), *, keyword_only: bool = False) -> list[str]:
    """Return the names of the arguments of a class's constructor or of a function, in order.

    Args:
        kind: the class or function. Of a class `__init__` is read: Keras layers have a `__new__` that hides it.
        leave_out: names that are not wanted; `self`, `*args` and `**kwargs` never are.
        keyword_only: leave out what can also be given by place.
    """
    kinds = (inspect.Parameter.KEYWORD_ONLY,) if keyword_only else _BY_NAME
    return [name for name, parameter in _parameters(kind).items() if parameter.kind in kinds and name not in leave_out]


def defaults_of(kind: Callable[..., Any], leave_out: Collection[str] = ()) -> dict[str, Any]:
    """Return the arguments with a default, and the defaults."""
    found = {name: parameter.default for name, parameter in _parameters(kind).items()}
    return {
        name: default
        for name, default in found.items()
        if default is not inspect.Parameter.empty and name not in leave_out
    }


def takes_any_name(kind: Callable[..., Any]) -> bool:
    """Return True if there is a `**kwargs`."""
    found = inspect.signature(_function(kind)).parameters.values()
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in found)


def types_of(kind: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotated types of the arguments."""
    return get_type_hints(_function(kind))


def _parameters(kind: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    found = inspect.signature(_function(kind)).parameters
    return {name: parameter for name, parameter in found.items() if parameter.kind in _BY_NAME and name != "self"}


def _function(kind: Callable[..., Any]) -> Callable[..., Any]:
    return kind.__init__ if isinstance(kind, type) else kind  # type: ignore[misc]


def given_arguments(thing: Any, root: type) -> dict[str, Any]:
    """Return what an object was constructed with, for a `get_config` of Keras: arguments by name, those of bases first.

    Each class below `root` keeps every argument that its constructor names in an attribute of that name; a class with a
    `get_config` of its own may keep some elsewhere and add them there. An argument of a base that the object's class
    neither names nor lets through by `**kwargs` is left out, and so is what goes on to `root`.

    Args:
        thing: the object.
        root: the base class whose own arguments are kept by itself, such as `keras.layers.Layer`.

    Returns:
        Values as restored from JSON: tuples become lists.

    Raises:
        AttributeError: an argument is not stored as an attribute.
    """
    kinds = type(thing).__mro__
    constructors = [kind for kind in kinds[: kinds.index(root)] if "__init__" in vars(kind)]
    taken: set[str] = set()
    for kind in constructors:
        taken.update(arguments_of(kind))
        if not takes_any_name(kind):
            break
    given: dict[str, Any] = {}
    for kind in reversed(constructors):
        for name in arguments_of(kind):
            if name in taken and (hasattr(thing, name) or "get_config" not in vars(kind)):
                value = getattr(thing, name)
                given[name] = list(value) if isinstance(value, tuple) else value
    return given

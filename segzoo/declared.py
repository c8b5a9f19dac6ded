"""Classes as their sources declare them: docstrings and default arguments, read without importing anything.

A decoder is a Keras layer, so importing one to list its options starts the whole framework.
"""

from __future__ import annotations

import ast
import contextlib
import functools
from dataclasses import dataclass
from typing import Any

from segzoo.discovery import source
from segzoo.registry import Registry


class UndeclaredError(Exception):
    """The source does not say it: there is none to read, or a default is computed."""


@dataclass(frozen=True)
class Declared:
    """A class of segzoo's own.

    Attributes:
        doc: its docstring, as `__doc__` has it.
        defaults: names and default values of the constructor's arguments, those of a base class before its own.
        attributes: names and values of what the class or a base says in its body and is written out there.
        methods: names of the functions that the class or a base below the root defines.
    """

    doc: str
    defaults: dict[str, Any]
    attributes: dict[str, Any]
    methods: frozenset[str]


def declared(registry: Registry, name: str, root: str) -> Declared:
    """Read the class that a module of segzoo registers as `name`.

    Args:
        registry: where it is registered.
        name: registered name.
        root: name of the base class whose own bases are no longer read.

    Raises:
        UndeclaredError: it is registered from outside, or its source does not say all; import it instead.
    """
    home = registry.home(name)
    if home is None:
        raise UndeclaredError(name)
    module = _module(home)
    kind = next((node for node in module.classes.values() if _registered(node) == name), None)
    if kind is None:
        raise UndeclaredError(name)
    family = _family(module, kind, root)
    attributes: dict[str, Any] = {}
    for place, of in reversed(family):
        attributes |= _attributes(place, of)
    below = [node for _, of in family if of.name != root for node in of.body]
    methods = {node.name for node in below if isinstance(node, ast.FunctionDef)}
    defaults = _defaults(module, kind, root)
    return Declared(ast.get_docstring(kind, clean=False) or "", defaults, attributes, frozenset(methods))


def constructor(module: str, name: str) -> dict[str, Any]:
    """Read the arguments with a default that a class's own constructor takes by name.

    Args:
        module: module that defines the class or imports it from where it is defined.
        name: name of the class.

    Raises:
        UndeclaredError: the source does not say it; import the class instead.
    """
    home = _module(module)
    if name not in home.classes:
        home = _module(home.imported.get(name, ""))
    if name not in home.classes:
        raise UndeclaredError(name)
    found = _own_constructor(home.classes[name])
    if found is None:
        raise UndeclaredError(name)
    return _arguments(home, found.args)


@dataclass(frozen=True)
class _Module:
    """Classes and constants at the top level of a module, and the modules that other names there come from."""

    classes: dict[str, ast.ClassDef]
    constants: dict[str, ast.expr]
    imported: dict[str, str]


@functools.cache
def _module(name: str) -> _Module:
    text = source(name) if name else None
    if text is None:
        raise UndeclaredError(name)
    classes: dict[str, ast.ClassDef] = {}
    constants: dict[str, ast.expr] = {}
    imported: dict[str, str] = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            classes[node.name] = node
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            constants[node.targets[0].id] = node.value
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {alias.asname or alias.name: node.module for alias in node.names}
    return _Module(classes, constants, imported)


def _registered(kind: ast.ClassDef) -> str | None:
    """Return the name of a decorator `@TABLE.register("name")`."""
    for decorator in kind.decorator_list:
        match decorator:
            case ast.Call(func=ast.Attribute(attr="register"), args=[ast.Constant(value=str(name)), *_]):
                return name
    return None


def _family(module: _Module, kind: ast.ClassDef, root: str) -> list[tuple[_Module, ast.ClassDef]]:
    """Return a class and its bases down to the root, with the modules that they are in."""
    found = [(module, kind)]
    if kind.name == root:
        return found
    for base in kind.bases:
        if not isinstance(base, ast.Name):
            raise UndeclaredError(kind.name)
        home = module if base.id in module.classes else _module(module.imported.get(base.id, ""))
        if base.id not in home.classes:
            raise UndeclaredError(base.id)
        found += _family(home, home.classes[base.id], root)
    return found


def _defaults(module: _Module, kind: ast.ClassDef, root: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for home, of in _family(module, kind, root):
        own = _own_constructor(of)
        found = {**({} if own is None else _arguments(home, own.args)), **found}
    return found


def _own_constructor(kind: ast.ClassDef) -> ast.FunctionDef | None:
    return next((node for node in kind.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"), None)


def _attributes(module: _Module, kind: ast.ClassDef) -> dict[str, Any]:
    """Return the attributes in a class's body whose values are written out; computed ones are left out."""
    found = {}
    for node in kind.body:
        if isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name):
                with contextlib.suppress(UndeclaredError):
                    found[target.id] = _value(module, node.value)
    return found


def _arguments(module: _Module, arguments: ast.arguments) -> dict[str, Any]:
    """Return the arguments that have a default and can be given by name."""
    placed = arguments.args[len(arguments.args) - len(arguments.defaults) :]
    pairs = [
        *zip(placed, arguments.defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    return {argument.arg: _value(module, default) for argument, default in pairs if default is not None}


def _value(module: _Module, expression: ast.expr) -> Any:
    if isinstance(expression, ast.Name) and expression.id in module.constants:
        expression = module.constants[expression.id]
    elif isinstance(expression, ast.Name) and expression.id in module.imported:
        home = _module(module.imported[expression.id])
        if expression.id in home.constants:
            expression = home.constants[expression.id]
    try:
        return ast.literal_eval(expression)
    except ValueError as error:
        raise UndeclaredError(ast.unparse(expression)) from error

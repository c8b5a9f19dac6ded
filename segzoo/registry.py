"""Registry of public names with lazily imported objects, so that listing names imports no framework.

A decoder, a loss or a format of segzoo's own is one module, which registers it as one from outside is registered. The
names are read from the modules' sources, and a module is imported when one of its names is used.

What segzoo looks up by name can be added from outside: by `register`, or by an installed package's entry point in the
group "segzoo.plugins", whose name is the kind and the name, such as "decoder.hourglass".
"""

from __future__ import annotations

import functools
import importlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, overload

from segzoo.discovery import sources
from segzoo.errors import ConfigError, RegistrationError, UnknownNameError, check_is_name, unknown_name

ENTRY_POINTS = "segzoo.plugins"
Thing = TypeVar("Thing")
# A registration as a statement of its own, and the name where it stands there as a string.
_REGISTRATION = re.compile(r'^[ \t]*(?:@|\w+ = )?[A-Z_]+\.register(?:_all)?\(\s*(?:"(\w+)")?', re.MULTILINE)


def find(where: str) -> Any:
    """Import the object at "module:attribute" or "module:table[key]"."""
    module, _, place = where.partition(":")
    attribute, _, key = place.rstrip("]").partition("[")
    found = getattr(importlib.import_module(module), attribute)
    return found[key] if key else found


def name_and_options(entry: Any, kind: str, example: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of a name or {name: options}; ConfigError for anything else.

    Args:
        entry: entry as written in a configuration; null options are treated as none.
        kind: kind of entry that the message names, such as "metric".
        example: valid example, which ends the message.
    """
    name, options = entry, None
    if isinstance(entry, Mapping) and len(entry) == 1:
        name, options = next(iter(entry.items()))
    options = {} if options is None else options
    if not isinstance(name, str) or not isinstance(options, Mapping):
        raise ConfigError(f"{entry!r} is no {kind}. {example}")
    return name, dict(options)


@functools.cache
def _installed() -> dict[str, EntryPoint]:
    """Return the entry points of installed packages by their names; loads none of them."""
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


class Registry:
    """Registry of one kind of object (backbones, decoders, losses), each imported on first access.

    Args:
        kind: kind of the entries, in the singular, for error messages ("decoder").
        entries: public name to "module:attribute", or "module:table[key]".
        absent: names that people ask for though nothing has them, with the reason.
        base: "module:class" that a registered class has to extend, or a registered object has to be an instance of.
        package: whose modules register segzoo's own things, each in this registry alone. A module whose registrations
            do not name them by strings is imported to list them, so it must import no framework.
        order: modules of the package, relative to it, in the order of listings; the others follow by their names.
        listing: place that lists all names, with its preposition ("by segzoo backbones"), for messages on an unknown
            one where they are many; empty: the message lists them itself.

    Example:
        >>> @DECODERS.register("hourglass")
        ... class Hourglass(Decoder): ...
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, str] | None = None,
        absent: Mapping[str, str] | None = None,
        base: str | None = None,
        package: str | None = None,
        order: Sequence[str] = (),
        listing: str = "",
    ):
        self.kind = kind
        self._entries: dict[str, Any] = dict(entries or {})
        self._given = tuple(self._entries)
        self._absent = dict(absent or {})
        self._base = base
        self._package = package
        self._listing = listing
        self._order = tuple(f"{package}.{module}" for module in order)
        self._homes: dict[str, str] = {}  # names that modules of the package have registered, to these
        self._listed: dict[str, str] | None = None

    @overload
    def register(self, name: str, *, replace: bool = ...) -> Callable[[Thing], Thing]: ...

    @overload
    def register(self, name: str, thing: Thing, *, replace: bool = ...) -> Thing: ...

    def register(self, name: str, thing: Any = None, *, replace: bool = False) -> Any:
        """Register an object under a name: `register(name, thing)`, or as the decorator `@register(name)`.

        From then on it is like a built-in one. A Keras class that is not registered for serialization becomes so, under
        the name of its top-level package: saved models load where that package has been imported.

        Args:
            name: letters, digits and underscores, as they stand in a configuration.
            thing: the class or object; None for use as a decorator.
            replace: whether to take the place of an earlier registration; a built-in name is never replaced.

        Returns:
            The registered object.

        Raises:
            RegistrationError: the name is invalid or taken, or the object is not of this kind.
        """
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if thing is None:
            return functools.partial(self._register, name, replace=replace, caller=caller)
        return self._register(name, thing, replace=replace, caller=caller)

    def register_all(self, things: Mapping[str, Any], *, replace: bool = False) -> None:
        """Add several things by their names, as `register` does."""
        caller = sys._getframe(1).f_globals.get("__name__", "")
        for name, thing in things.items():
            self._register(name, thing, replace=replace, caller=caller)

    def _register(self, name: str, thing: Any, *, replace: bool = False, caller: str = "") -> Any:
        """Add a thing that the module `caller` registers."""
        if not isinstance(name, str) or not name.isidentifier():
            raise RegistrationError(f"A {self.kind} is named by letters, digits and underscores, not {name!r}.")
        if self._package is not None and caller.startswith(f"{self._package}."):
            self._claim(name, caller)
        elif self.is_built_in(name):
            raise RegistrationError(f"segzoo has a {self.kind} {name!r} itself; choose another name.")
        else:
            known = self._entries.get(name)
            if known is not None and not replace and not _is_reloaded(known, thing):
                raise RegistrationError(
                    f"There is a registered {self.kind} {name!r} already ({known!r}); choose another name, or replace "
                    "it by register(..., replace=True)."
                )
        self._check(name, thing)
        _register_with_keras(thing)
        self._entries[name] = thing
        return thing

    def _claim(self, name: str, module: str) -> None:
        """Record that a name belongs to a module of the package; RegistrationError if it belongs to another one."""
        home = self._homes.setdefault(name, module)
        if home != module:
            raise RegistrationError(f"The {self.kind} {name!r} is registered by {home} and by {module}.")

    def _built_in(self) -> dict[str, str]:
        """Return the names that modules of the package register, in the order of listings, to these modules."""
        if self._package is None:
            return {}
        if self._listed is None:
            found = dict(sources(self._package))
            modules = [*(module for module in self._order if module in found), *found]
            self._listed = {name: module for module in dict.fromkeys(modules) for name in self._names(module, found)}
        return self._listed

    def _names(self, module: str, found: Mapping[str, str | None]) -> list[str]:
        """Return the names that a module registers: by its source, or where that does not say them by importing it."""
        source = found[module]
        names = [None] if source is None else [match[1] for match in _REGISTRATION.finditer(source)]
        if None in names:
            importlib.import_module(module)
            return [name for name, home in self._homes.items() if home == module]
        for name in names:
            self._claim(str(name), module)
        return [str(name) for name in names]

    def _families(self) -> list[str]:
        """Return the modules that names come from: "resnet", and "hub_resnet" where the folder begins its names."""
        found = []
        for name, home in self._built_in().items():
            *_, folder, module = home.split(".")
            found.append(f"{folder}_{module}" if name.startswith(f"{folder}_") else module)
        return list(dict.fromkeys(found))

    def unregister(self, name: str) -> None:
        """Remove a registered name; RegistrationError for a built-in one."""
        if self.is_built_in(name) or name not in self._entries:
            raise RegistrationError(f"There is no registered {self.kind} {name!r} to remove.")
        del self._entries[name]

    def home(self, name: str) -> str | None:
        """Return the module of segzoo that registers a name, without importing it; None for what is from outside."""
        return self._built_in().get(name)

    def is_built_in(self, name: str) -> bool:
        """Return whether a name is one of segzoo's own."""
        return name in self._given or name in self._built_in()

    def _check(self, name: str, thing: Any) -> None:
        if self._base is None:
            return
        base = find(self._base)
        if not (issubclass(thing, base) if isinstance(thing, type) else isinstance(thing, base)):
            raise RegistrationError(
                f"The {self.kind} {name!r} must be a {base.__module__}.{base.__qualname__} or a class that extends it, "
                f"not {thing!r}."
            )

    def _points(self) -> dict[str, EntryPoint]:
        """Return the entry points of this kind that nothing registered shadows."""
        prefix = self.kind.replace(" ", "_") + "."
        found = {name.removeprefix(prefix): point for name, point in _installed().items() if name.startswith(prefix)}
        known = {*self._entries, *self._built_in()}
        return {name: point for name, point in found.items() if name not in known}

    def _all(self) -> dict[str, None]:
        """Return all names, in the order of listings."""
        return dict.fromkeys([*self._given, *self._built_in(), *self._entries, *self._points()])

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):  # it may not even be hashable
            return False
        return name in self._entries or name in self._built_in() or name in self._points()

    def check(self, name: str) -> str:
        """Return `name` if it is registered; UnknownNameError names the known or the nearest; imports nothing."""
        check_is_name(self.kind, name, next(iter(self), "name"))
        if name in self._absent and name not in self:
            raise UnknownNameError(f"There is no {self.kind} {name!r}: {self._absent[name]}")
        if name not in self:
            raise unknown_name(self.kind, name, self, self._listing, self._families())
        return name

    def __getitem__(self, name: str) -> Any:
        """Import and return the object registered as `name`; UnknownNameError names the known or the nearest.

        The entry point of an installed package is loaded here, when its name is used, and never before.
        """
        self.check(name)
        if name not in self._entries:
            home = self._built_in().get(name)
            if home is None:
                self._load(name, self._points()[name])
            else:
                importlib.import_module(home)
            if name not in self._entries:
                raise RegistrationError(
                    f"{home} does not register the {self.kind} {name!r}, though its source reads so."
                )
        entry = self._entries[name]
        return find(entry) if isinstance(entry, str) else entry

    def _load(self, name: str, point: EntryPoint) -> None:
        package = point.dist.name if point.dist else point.value
        try:
            thing = point.load()
        except Exception as error:
            raise RegistrationError(
                f"The {self.kind} {name!r} of the installed package {package} cannot be imported ({point.value}): "
                f"{type(error).__name__}: {error}."
            ) from error
        if name not in self._entries:  # its module may have registered it by itself
            self._register(name, thing)


def _is_reloaded(known: Any, thing: Any) -> bool:
    """Return True if an object is a re-import of the same definition, as in a notebook cell that is run again."""
    places = [(getattr(one, "__module__", None), getattr(one, "__qualname__", None)) for one in (known, thing)]
    return known is thing or (places[0] == places[1] and None not in places[0])


def _register_with_keras(thing: Any) -> None:
    """Make a Keras class serializable under its package's name, unless it is already."""
    keras = sys.modules.get("keras")
    if keras is None or not isinstance(thing, type) or not hasattr(thing, "get_config"):
        return
    registered = keras.saving.get_registered_name(thing)
    if keras.saving.get_registered_object(registered) is not thing:
        keras.saving.register_keras_serializable(thing.__module__.partition(".")[0])(thing)

"""The states of callbacks as arrays of the run state: whatever `get_state` returns, without pickling anything."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from segzoo.errors import RunError

#: What the names of a callback's arrays begin with in a run state.
PREFIX = "callbacks/"
_ARRAY, _TUPLE = "__array__", "__tuple__"  # keys of the JSON objects that stand for an array, a tuple


def is_stateful(callback: keras.callbacks.Callback) -> bool:
    """Return whether a callback has `get_state()` and `set_state(state)`, and so is part of the checkpoint."""
    return all(callable(getattr(callback, name, None)) for name in ("get_state", "set_state"))


def kinds_of(callbacks: Sequence[keras.callbacks.Callback]) -> list[str]:
    """Return the classes of the stateful ones, in order: those that a run must be resumed with."""
    return [_kind(callback) for callback in callbacks if is_stateful(callback)]


def states_of(callbacks: Sequence[keras.callbacks.Callback]) -> dict[str, np.ndarray]:
    """Return the states of the stateful callbacks as arrays, bit for bit.

    A state is made of None, booleans, numbers, text, NumPy arrays, Keras variables, and lists, tuples and dicts of
    these with text for keys.

    Raises:
        RunError: a callback's state contains another type; the message names the callback and the entry.
    """
    found: dict[str, np.ndarray] = {}
    for number, callback in enumerate(filter(is_stateful, callbacks)):
        arrays: list[np.ndarray] = []
        text = json.dumps(_packed(callback.get_state(), arrays, f"{_kind(callback)}.get_state()"))
        found[f"{PREFIX}{number:03d}/state"] = np.array(text)
        found |= {f"{PREFIX}{number:03d}/{place:05d}": array for place, array in enumerate(arrays)}
    return found


def set_states(callbacks: Sequence[keras.callbacks.Callback], stored: Mapping[str, np.ndarray]) -> None:
    """Give the stateful callbacks what `states_of` returned for the same ones.

    Raises:
        RunError: the state of a callback is missing or unreadable.
    """
    for number, callback in enumerate(filter(is_stateful, callbacks)):
        start = f"{PREFIX}{number:03d}/"
        arrays = {name.removeprefix(start): array for name, array in stored.items() if name.startswith(start)}
        try:
            state = _unpacked(json.loads(str(arrays["state"])), arrays)
        except (LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise RunError(
                f"The run state holds no state of the callback {_kind(callback)} that can be read, so the run cannot "
                "go on with the bits that it would have had. Train anew with --overwrite."
            ) from error
        callback.set_state(state)


def _kind(callback: keras.callbacks.Callback) -> str:
    return f"{type(callback).__module__}.{type(callback).__qualname__}"


def _packed(value: Any, arrays: list[np.ndarray], place: str) -> Any:
    """Return the JSON-serialisable form of a value; its arrays are appended to `arrays`."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.ndarray | np.generic | keras.Variable) or keras.ops.is_tensor(value):
        array = keras.ops.convert_to_numpy(value) if not isinstance(value, np.ndarray | np.generic) else value
        if array.dtype.kind in "biufcSU":
            arrays.append(np.array(array))
            return {_ARRAY: len(arrays) - 1, "scalar": isinstance(value, np.generic)}
    if isinstance(value, list | tuple):
        items = [_packed(item, arrays, f"{place}[{index}]") for index, item in enumerate(value)]
        return items if type(value) is list else {_TUPLE: items}
    if isinstance(value, dict) and all(type(key) is str for key in value) and not value.keys() & {_ARRAY, _TUPLE}:
        return {key: _packed(item, arrays, f"{place}[{key!r}]") for key, item in value.items()}
    raise RunError(
        f"{place} is a {type(value).__qualname__}, which a run state cannot hold. A callback's state is made of None, "
        "booleans, numbers, text, NumPy arrays, Keras variables, and lists, tuples and dicts of these with text for "
        "keys."
    )


def _unpacked(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if _ARRAY in value:
        array = arrays[f"{value[_ARRAY]:05d}"]
        return array[()] if value["scalar"] else array
    if _TUPLE in value:
        return tuple(_unpacked(item, arrays) for item in value[_TUPLE])
    return {key: _unpacked(item, arrays) for key, item in value.items()}

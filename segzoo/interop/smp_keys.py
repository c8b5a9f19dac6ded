"""Keys of segmentation_models.pytorch's configurations: readers of their values, and what tensors show of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from segzoo.errors import WeightsError
from segzoo.interop.checkpoint import Tensors

Options = dict[str, Any]


class Refused(ValueError):
    """Value without a counterpart; the message names those that have one."""


@dataclass(frozen=True)
class Key:
    """Key of an SMP configuration.

    Attributes:
        default: their default.
        read: from the value to options of ours; raises `Refused`.
        derive: from tensors to the value, where they show it; None where they do not.
        check: raises `Refused` for a value that does not go with the tensors.
    """

    default: Any
    read: Callable[[Any], Options]
    derive: Callable[[Tensors], Any] | None = None
    check: Callable[[Any, Tensors], None] = lambda value, tensors: None


def shape_of(tensors: Tensors, name: str, rank: int = 4) -> tuple[int, ...]:
    """Return the shape of a tensor; WeightsError if it is missing or has another number of axes."""
    if name not in tensors:
        raise WeightsError(f"The checkpoint lacks the tensor {name}.")
    shape = tuple(int(size) for size in tensors[name].shape)
    if len(shape) != rank:
        raise WeightsError(f"The checkpoint's tensor {name} has shape {shape}, but must have {rank} axes.")
    return shape


def numbered(tensors: Tensors, pattern: str) -> Iterator[str]:
    """Yield the names of tensors that match a pattern, numbered from 0."""
    number = 0
    while pattern.format(number) in tensors:
        yield pattern.format(number)
        number += 1


def whole(option: str, least: int = 1) -> Callable[[Any], Options]:
    """Return a reader of whole numbers from `least` up."""

    def read(value: Any) -> Options:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise Refused(f"must be a whole number of {least} or more")
        return {option: value}

    return read


def whole_numbers(option: str, count: int | None = None, different: bool = False) -> Callable[[Any], Options]:
    """Return a reader of lists of whole numbers from 1 up: of `count`, or any; `different` refuses repeated ones."""

    def read(value: Any) -> Options:
        if not isinstance(value, list | tuple) or (count is not None and len(value) != count):
            raise Refused(f"must be a list of {count or 'whole'} numbers")
        for number in value:
            whole(option)(number)
        if different and len(set(value)) < len(value):
            raise Refused("must be different numbers, which branches are named by here")
        return {option: list(value)}

    return read


def fraction(option: str) -> Callable[[Any], Options]:
    """Return a reader of numbers from 0 to below 1."""

    def read(value: Any) -> Options:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise Refused("must be a number from 0 to below 1")
        return {option: float(value)}

    return read


def choice(option: str, values: Mapping[Any, Any]) -> Callable[[Any], Options]:
    """Return a reader of the keys of `values`, which are mapped to the values of the option."""

    def read(value: Any) -> Options:
        if not isinstance(value, str | bool | None) or value not in values:
            raise Refused(f"has no counterpart here; these have: {', '.join(map(as_json, values))}")
        return {option: values[value]}

    return read


def as_json(value: Any) -> str:
    """Return a string, truth value or None as JSON has it, without quotes."""
    return {None: "null", True: "true", False: "false"}.get(value, str(value))


def normalization(value: Any) -> Options:
    """Read `decoder_use_norm`; a batch normalisation's momentum has no bearing on a network that is not trained."""
    settings = value if isinstance(value, dict) else {"type": {True: "batchnorm", False: "identity"}.get(value, value)}
    if settings == {"type": "identity"}:
        return {"normalization": "none"}
    unknown = set(settings) - {"type", "eps", "momentum"}
    if settings.get("type") != "batchnorm" or unknown:
        raise Refused(
            'has no counterpart here; these have: true and "batchnorm", also as {"type": "batchnorm", "eps": 0.001}, '
            'and false and "identity"'
        )
    epsilon = settings.get("eps", 1e-5)
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < math.inf:
        raise Refused("has an eps that is no number above 0")
    return {} if epsilon == 1e-5 else {"epsilon": float(epsilon)}


def plain_normalization(value: Any) -> Options:
    """Read `decoder_use_norm` where batch normalisation with epsilon 1e-5 is the only one that has a counterpart."""
    if normalization(value):
        raise Refused(
            "has no counterpart here but batchnorm of eps 1e-5, which its last pooling convolution always has"
        )
    return {}


def norm_key(convolution: str) -> Key:
    """Return the key of the decoder's normalisation; without one, convolutions have a bias."""
    return Key("batchnorm", normalization, lambda tensors: has_bias(tensors, convolution))


def has_bias(tensors: Tensors, convolution: str) -> str | None:
    """Return "identity" if a convolution has a bias; None if batch normalisation, of any epsilon, follows it."""
    return "identity" if f"{convolution}.bias" in tensors else None


def widths(tensors: Tensors, pattern: str) -> list[int]:
    """Return the output channels of numbered convolutions."""
    return [shape_of(tensors, name)[0] for name in numbered(tensors, pattern)]

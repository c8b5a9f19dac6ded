"""Optimizers' own arguments: names and defaults from Keras's sources, and ranges of values; no framework starts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from segzoo.declared import UndeclaredError, constructor
from segzoo.optim import CLASSES

# What `segzoo.optim.optimizers.create` and the rest of the configuration fill in.
FILLED_IN = frozenset(
    {
        "self", "name", "learning_rate", "weight_decay", "clipnorm", "clipvalue", "global_clipnorm", "use_ema",
        "ema_momentum", "ema_overwrite_frequency", "loss_scale_factor", "gradient_accumulation_steps",
    }
)  # fmt: skip

# Keras takes any number for most of them, and the loss becomes NaN later.
_ANY = (lambda value: True), ""
_FRACTION = (lambda value: 0 <= value < 1), "must be in 0..1 (1 excluded)"
_ABOVE_0 = (lambda value: value > 0), "must be above 0"
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    **dict.fromkeys(("beta_1", "beta_2", "rho", "momentum"), _FRACTION),
    **dict.fromkeys(("epsilon", "epsilon_1", "epsilon_2", "clip_threshold"), _ABOVE_0),
    "initial_accumulator_value": ((lambda value: value >= 0), "must be 0 or more"),
    "beta_2_decay": ((lambda value: value < 0), "must be below 0"),
}
_RANGES_OF = {("lion", "beta_1"): ((lambda value: 0 < value < 1), "must be between 0 and 1, both excluded")}


def defaults(name: str) -> dict[str, Any] | None:
    """Return names and defaults of the own arguments of a built-in optimizer; None for one that has to be imported."""
    if name not in CLASSES:
        return None
    try:
        found = constructor("keras.optimizers", CLASSES[name])
    except UndeclaredError:
        return None
    return {argument: default for argument, default in found.items() if argument not in FILLED_IN}


def expected(name: str, option: str, default: Any, value: Any) -> str | None:
    """Return what a value should be, in words; None if it is that, or if only the constructor tells.

    Args:
        name: registered name of the optimizer.
        option: name of one of its own arguments.
        default: its default value.
        value: value as given in a configuration.
    """
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "expected true or false"
    if not isinstance(default, int | float):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "expected a number"
    holds, words = _RANGES_OF.get((name, option)) or _RANGES.get(option, _ANY)
    return None if holds(value) else words

"""Ranges of the losses' arguments, which constructors and configurations check; no framework starts for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limit:
    """Range of one argument, or of several together.

    Attributes:
        arguments: their names.
        holds: function of their values.
        wanted: the range in words, for messages.
    """

    arguments: tuple[str, ...]
    holds: Callable[..., bool]
    wanted: str

    def check(self, values: Mapping[str, Any]) -> None:
        """Raise ValueError for values out of range, TypeError for what is no number."""
        given = [values[name] for name in self.arguments]
        if not self.holds(*given):
            names, values_given = " and ".join(self.arguments), " and ".join(map(repr, given))
            raise ValueError(f"{names} must be {self.wanted}, not {values_given}.")


def check(limits: Sequence[Limit], **values: Any) -> None:
    """Check arguments of a loss; raise ValueError or TypeError, as `Limit.check`, for the first out of range."""
    for limit in limits:
        if any(name in values for name in limit.arguments):
            limit.check(values)


def checked_class_weights(weights: Sequence[float] | None) -> list[float] | None:
    """Return class weights as floats, None as it is; ValueError unless they are finite, not negative and not all 0."""
    if weights is None:
        return None
    if isinstance(weights, str):
        raise ValueError(
            f"class_weights must be a list of numbers, not {weights!r}; segzoo.losses.class_weights makes one from "
            "pixel counts, and train.py from the training split."
        )
    weights = [float(weight) for weight in weights]
    if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
        raise ValueError(f"class_weights must be finite, not negative and not all 0: {weights}.")
    return weights


def as_list(weight: float | Sequence[float] | None) -> list[float] | None:
    """Return one weight or several as a list of floats, None as it is."""
    given = [weight] if isinstance(weight, int | float) else weight
    return None if given is None else [float(one) for one in given]


def _are_positive(weight: float | Sequence[float] | None) -> bool:
    return all(0 < one < math.inf for one in as_list(weight) or ())


def _not_negative(value: float) -> bool:
    return 0 <= value < math.inf


def _positive(value: float) -> bool:
    return 0 < value < math.inf


CLASS_WEIGHTS = Limit(("class_weights",), lambda weights: (checked_class_weights(weights), True)[1], "numbers")
FOCAL = (Limit(("gamma",), _not_negative, "finite and not negative"),)
SIGMOID_FOCAL = (*FOCAL, Limit(("alpha",), lambda alpha: alpha is None or 0 < alpha < 1, "between 0 and 1 or None"))
OVERLAP = (Limit(("smooth",), _not_negative, "finite and not negative"),)
TVERSKY = (
    *OVERLAP,
    Limit(
        ("alpha", "beta"),
        lambda alpha, beta: _not_negative(alpha) and _not_negative(beta) and alpha + beta > 0,
        "finite, not negative and not both 0",
    ),
    Limit(("gamma",), _positive, "positive and finite"),
)
CROSS_ENTROPY = (
    Limit(("ohem_fraction",), lambda share: share is None or 0 < share <= 1, "above 0 and at most 1"),
    Limit(("label_smoothing",), lambda share: 0 <= share < 1, "at least 0 and below 1"),
)
BINARY_CROSS_ENTROPY = (Limit(("pos_weight",), _are_positive, "positive and finite"),)
CLDICE = (
    Limit(("iterations",), lambda count: 1 <= count < math.inf, "1 or more"),
    Limit(("smooth",), _positive, "positive and finite"),
)
_BY_LOSS = {
    "cross_entropy": CROSS_ENTROPY,
    "binary_cross_entropy": BINARY_CROSS_ENTROPY,
    "dice": OVERLAP,
    "jaccard": OVERLAP,
    "tversky": TVERSKY,
    "focal_tversky": TVERSKY,
    "softmax_focal": FOCAL,
    "sigmoid_focal": SIGMOID_FOCAL,
    "cldice": CLDICE,
}


def of_loss(name: str) -> tuple[Limit, ...]:
    """Return the limits of a built-in loss's arguments; those that it leaves out take true and false."""
    return (CLASS_WEIGHTS, *_BY_LOSS.get(name, ()))

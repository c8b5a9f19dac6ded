"""Validators of single numbers beyond types: `auto`, time spans and whole numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from segzoo.config.fields import MOST
from segzoo.config.problems import given


def auto_or_number(below: float = math.inf, or_null: bool = False) -> Callable[[object], object]:
    """Return a check of "auto", a number above 0 and less than `below`, or with `or_null` null."""
    wanted = "a number above 0" if below == math.inf else f"a number between 0 and {below:g}"
    wanted = f"auto, {wanted} or null" if or_null else f"auto or {wanted}"

    def check(value: object) -> object:
        if value == "auto" or (or_null and value is None):
            return value
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0.0 < value < below:  # type: ignore[operator]
            raise ValueError(f"expected {wanted}, got {given(value)}")
        return value

    return check


def auto_or_count(value: object) -> object:
    """Check "auto" or a whole number from 1 on."""
    number = isinstance(value, int) and not isinstance(value, bool)
    if value != "auto" and not (number and 1 <= value <= MOST):  # type: ignore[operator]
        raise ValueError(f"expected auto or a whole number from 1 to {MOST:,}, got {given(value)}")
    return value


def seconds(value: object) -> float:
    """Read a time span: a number of seconds, or numbers with units as in 2h, 1h30m, 45s, 1d."""
    if isinstance(value, str):
        digits = r"([0-9]{1,12})"
        parts = re.fullmatch(rf"(?:{digits}d)?(?:{digits}h)?(?:{digits}m)?(?:{digits}s)?", value.strip().lower())
        if not value.strip() or parts is None:
            wanted = "expected a time span such as 90m, 1h30m or 2d, or a number of seconds"
            raise ValueError(f"{wanted}, got {given(value)}")
        value = float(sum(int(n or 0) * unit for n, unit in zip(parts.groups(), (86400, 3600, 60, 1), strict=True)))
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"expected a time span above 0 such as 90m, or a number of seconds, got {given(value)}")
    return float(value)


def no_fraction(value: object) -> object:
    """Refuse 8.0 for 8: a Literal compares with ==, and would accept it."""
    if isinstance(value, float):
        raise ValueError(f"expected a whole number, got {value}")
    return value

"""Deprecated names of the losses' options, which work for one release."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

# Name of the loss to {name of the option in segzoo 0.1.0: its present name}.
RENAMED = {"cross_entropy": {"hardest": "ohem_fraction"}}


def with_present_names(loss: str, options: Mapping[str, Any], stacklevel: int | None = 3) -> dict[str, Any]:
    """Return the options of a loss with deprecated names replaced by the present ones, with a DeprecationWarning.

    Args:
        loss: name of the loss.
        options: mapping of names to values; options that were not renamed are returned unchanged.
        stacklevel: stack level, 2 for the caller of this function; None: no warning, for what a file of an older
            version holds.

    Raises:
        ValueError: an option is given under both names, with different values.
    """
    found = dict(options)
    for old, new in RENAMED.get(loss, {}).items():
        if old not in found:
            continue
        value = found.pop(old)
        if stacklevel is not None:
            warnings.warn(
                f"{old} is deprecated and will be removed; call this option of the loss {loss} {new}.",
                DeprecationWarning,
                stacklevel=stacklevel,
            )
        if found.setdefault(new, value) != value:
            raise ValueError(f"{new} is {found[new]!r}, its deprecated alias {old} {value!r}; give {new} alone.")
    return found

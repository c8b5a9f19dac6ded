"""Choice of samples for pictures."""

from __future__ import annotations

import numpy as np


def evenly_spaced(ids: list[str], count: int) -> frozenset[str]:
    """Return `count` ids spread evenly over the list, as neighbours in a data set look alike."""
    if count <= 0:
        return frozenset()
    positions = np.linspace(0, len(ids) - 1, min(count, len(ids))).round().astype(int)
    return frozenset(ids[position] for position in positions)

"""Memory that a converter has freed, given back to the system."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# A collection in a process of many objects takes a second: too long for copies of a few megabytes.
_WORTH_IT = 2**25


def release(weights: int) -> None:
    """Collect cycles, which graphs are full of, and return the memory of what is gone.

    glibc keeps freed blocks of up to 32 MB once there were such, which most weights are, and puts other sizes beside
    them rather than into them.

    Args:
        weights: size of the network's weights, in bytes; for small ones nothing is done.
    """
    if weights < _WORTH_IT:
        return
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


@contextmanager
def quick_collections() -> Iterator[None]:
    """Leave all objects that exist by now out of collections in the block: millions, of which each would walk."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()

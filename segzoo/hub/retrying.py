"""Retries of downloads whose connection broke."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

ATTEMPTS = 4
_SECONDS = 0.5  # before the second attempt; twice as long before each further one


def patiently(fetch: Callable[[], T], is_broken: Callable[[Exception], bool]) -> T:
    """Call `fetch` up to four times.

    Args:
        fetch: the download.
        is_broken: tells the exceptions after which another attempt may succeed; others are raised at once.

    Raises:
        Exception: what the last attempt raised.
    """
    for attempt in range(ATTEMPTS):
        try:
            return fetch()
        except Exception as error:
            if attempt == ATTEMPTS - 1 or not is_broken(error):
                raise
            time.sleep(_SECONDS * 2**attempt)
    raise AssertionError("unreachable")

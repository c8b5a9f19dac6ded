"""Reading of the first training batches while the network is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class ReadAhead(Generic[Batch]):
    """Endless batches, the first of which are read in another thread from now on.

    Args:
        batches: function of a step that returns a generator of the endless batches from there on.
    """

    def __init__(self, batches: Callable[[int], Iterator[Batch]]):
        self._batches = batches
        self._reader = batches(0)
        self._is_taken = False
        pool = ThreadPoolExecutor(1, "first-batch")
        self._first = pool.submit(next, self._reader)
        pool.shutdown(wait=False)

    def batches(self, step: int) -> Iterator[Batch]:
        """Return the batches from `step` on; asked for step 0 first, those that are read already.

        What reading the first batch raised is raised when it is taken.
        """
        if step or self._is_taken:
            return self._batches(step)
        self._is_taken = True
        return self._begun()

    def _begun(self) -> Iterator[Batch]:
        try:
            yield self._first.result()
            yield from self._reader
        finally:
            self.close()

    def close(self) -> None:
        """Stop reading once the first batch is there."""
        self._first.exception()  # waits: a generator that runs cannot be closed
        self._reader.close()  # type: ignore[attr-defined]  # a generator

"""The first batches are read while the network is built, and are those that would have been read later."""

import itertools
import threading

import pytest

from segzoo.engine.read_ahead import ReadAhead
from segzoo.errors import DataError


class Batches:
    """Endless batches `start, start + 1, ...` which note in which thread each was read, and what was closed."""

    def __init__(self, fails: bool = False):
        self.threads, self.closed, self.fails, self.was_read = {}, [], fails, threading.Event()

    def __call__(self, start):
        try:
            for step in itertools.count(start):
                self.threads[step] = threading.current_thread().name
                self.was_read.set()
                if self.fails:
                    raise DataError("no such file")
                yield step
        finally:
            self.closed.append(start)


def test_the_first_batch_is_read_in_another_thread_before_it_is_asked_for():
    batches = Batches()
    ahead = ReadAhead(batches)
    assert batches.was_read.wait(10)
    found = ahead.batches(0)
    assert list(itertools.islice(found, 3)) == [0, 1, 2]
    assert batches.threads[0] != batches.threads[1] == threading.current_thread().name
    found.close()
    assert batches.closed == [0]
    ahead.close()


def test_batches_of_another_step_and_those_asked_for_again_are_read_anew():
    ahead = ReadAhead(Batches())
    assert next(ahead.batches(7)) == 7
    assert next(ahead.batches(0)) == 0
    assert next(ahead.batches(0)) == 0
    ahead.close()


def test_batches_that_nobody_takes_are_closed():
    batches = Batches()
    ahead = ReadAhead(batches)
    ahead.close()
    assert batches.closed == [0]
    never_begun = ReadAhead(batches)
    never_begun.batches(0)
    never_begun.close()
    assert batches.closed == [0, 0]


def test_an_error_of_reading_is_raised_where_the_batch_is_taken():
    batches = Batches(fails=True)
    ahead = ReadAhead(batches)
    assert batches.was_read.wait(10)
    with pytest.raises(DataError, match="no such file"):
        next(ahead.batches(0))
    ahead.close()

"""Batches for `fit` do not depend on how often they are inspected."""

import gc
import itertools
import weakref
from contextlib import closing

import keras
import numpy as np
import pytest

from segzoo.engine.fit_dataset import FitDataset


def numbered(step):
    for number in itertools.count(step):
        yield np.full((2, 4, 4, 3), number, "uint8"), np.zeros((2, 4, 4), "int32")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a tf.data.Dataset")
def test_a_second_iteration_begins_where_the_first_did():
    with closing(FitDataset(numbered)) as feed:
        batches = feed.from_step(5)
        for _ in range(3):
            assert [int(images[0, 0, 0, 0]) for images, _ in batches.take(4)] == [5, 6, 7, 8]
        assert next(iter(feed.from_step(9)))[0][0, 0, 0, 0] == 9


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a tf.data.Dataset")
def test_the_end_of_an_epoch_waits_for_no_tuning():
    """Deleting an iterator that was tuned takes up to a minute after some minutes of use, 5 s after 15 s."""
    with closing(FitDataset(numbered)) as feed:
        assert feed.from_step(0).options().autotune.enabled is False


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a tf.data.Dataset")
def test_the_data_are_free_when_training_has_ended():
    """TensorFlow keeps the function that reads batches for as long as the process lives."""

    class Data:
        def batches(self, step):
            yield from numbered(step)

    data = Data()
    alive = weakref.ref(data)
    with closing(FitDataset(data.batches)) as feed:
        assert len(list(feed.from_step(0).take(2))) == 2
    del data, feed
    gc.collect()
    assert alive() is None


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="a tf.data.Dataset")
@pytest.mark.parametrize("step, readers", [(0, 1), (4, 2)])
def test_a_run_makes_its_first_batches_once(step, readers):
    """Shapes are those of the first two batches of all; a run that goes on begins elsewhere."""
    made, closed = [], []

    def counted(begin):
        try:
            for number, batch in enumerate(numbered(begin), begin):
                made.append(number)
                # The second batch needs floats: then the first is one of floats, too.
                yield (batch[0].astype("float32") + 0.5 if number else batch[0]), batch[1]
        finally:
            closed.append(begin)

    with closing(FitDataset(counted)) as feed:
        batches = list(feed.from_step(step).take(3))
        assert {images.dtype.name for images, _ in batches} == {"float32"}
        expected = [number + 0.5 if number else 0.0 for number in range(step, step + 3)]
        assert [float(images[0, 0, 0, 0]) for images, _ in batches] == expected
    assert len(closed) == readers and made[:2] == [0, 1]
    assert made.count(step) == 1 and made.count(step + 1) == 1

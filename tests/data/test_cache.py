import itertools

import numpy as np
import pytest

from segzoo.data import Augmentation, CachedSource, GeneratedShapes, Sample, TrainBatches
from segzoo.errors import DataError


class Counting:
    """Samples of 400 bytes that count how often they were read; sample 3 cannot be."""

    def __init__(self):
        self.ids, self.classes, self.ignore_index, self.reads = list("abcd"), ["x"], 255, [0, 0, 0, 0]

    def __len__(self):
        return 4

    def __getitem__(self, index):
        self.reads[index] += 1
        if index == 3:
            raise DataError("d.png: broken")
        return Sample(np.zeros((10, 10, 3), np.uint8), np.full((10, 10), index, np.uint8), self.ids[index])

    def fingerprint(self):
        return "print"


def test_samples_are_read_once_as_far_as_memory_goes():
    source = Counting()
    cached = CachedSource(source, max_bytes=999)
    for _ in range(3):
        assert [cached[n].mask[0, 0] for n in range(3)] == [0, 1, 2]
    assert source.reads[:3] == [1, 1, 3] and cached.kept == 2
    assert len(cached) == 4 and cached.fingerprint() == "print" and cached.ids == source.ids


def test_errors_are_not_remembered_as_samples():
    cached = CachedSource(Counting(), max_bytes=9999)
    for _ in range(2):
        with pytest.raises(DataError, match="broken"):
            cached[3]


def test_remembered_arrays_cannot_be_changed():
    cached = CachedSource(Counting(), max_bytes=9999)
    with pytest.raises(ValueError, match="read-only"):
        cached[0].image[0] = 1


@pytest.mark.parametrize("workers", [0, 3])
def test_batches_are_the_same_with_and_without_memory(workers):
    source = GeneratedShapes("train", 6, (64, 64))
    chain = Augmentation(
        [{"Rotate": {"p": 1.0}}, "HorizontalFlip", "ColorJitter", "GaussNoise", {"CoarseDropout": {"p": 1.0}}], 255
    )
    plain = TrainBatches(source, 3, 0, chain, workers=0).batches()
    cached = TrainBatches(CachedSource(source, 10**8), 3, 0, chain, workers).batches()
    for (images, masks), (images_2, masks_2) in itertools.islice(zip(plain, cached, strict=True), 8):
        np.testing.assert_array_equal(images, images_2)
        np.testing.assert_array_equal(masks, masks_2)

"""Windows, repeats and oversampling: what an epoch shows, as a function of (seed, epoch, sample)."""

import itertools
from collections import Counter

import numpy as np
import pytest

from segzoo.data import Crop, Sample, TrainBatches, class_presence, repeat_factors
from segzoo.data.sampling import copies, drawn
from segzoo.errors import DataError


class Dots:
    """100 x 80 samples whose pixels say where they are, with one pixel of class 2 at (row, column) of `places`."""

    def __init__(self, places):
        self.places = places
        self.ids = [f"s{n}" for n in range(len(places))]
        self.classes, self.ignore_index = ["ground", "dull", "rare"], 255

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        rows, columns = np.mgrid[:100, :80].astype(np.uint8)
        mask = np.zeros((100, 80), np.uint8)
        mask[:10] = 255
        if self.places[index] is not None:
            mask[self.places[index]] = 2
        return Sample(np.stack([rows, columns, np.full_like(rows, index)], -1), mask, self.ids[index])

    def fingerprint(self):
        return f"dots {self.places}"


@pytest.mark.parametrize("place", [(50, 40), (10, 0), (99, 79)])
def test_foreground_windows_hold_the_rare_pixel_in_their_middle(place):
    sample = Dots([place])[0]
    crop = Crop((32, 32), 255, "foreground", 1.0)
    for seed in range(20):
        image, mask = crop(sample.image, sample.mask, seed)
        assert image.shape == (32, 32, 3) and (mask == 2).sum() == 1
        expected = [min(max(0, at - 16), side - 32) for at, side in zip(place, (100, 80), strict=True)]
        assert image[0, 0, :2].tolist() == expected
        np.testing.assert_array_equal(image[mask == 2][0, :2], place)


def test_the_share_of_foreground_windows_is_the_fraction():
    sample = Dots([(50, 40)])[0]
    by_chance = np.mean([(Crop((32, 32), 255)(*sample[:2], seed)[1] == 2).any() for seed in range(600)])
    crop = Crop((32, 32), 255, "foreground", 0.33)
    found = np.mean([(crop(*sample[:2], seed)[1] == 2).any() for seed in range(600)])
    assert abs(found - (0.33 + 0.67 * by_chance)) < 0.05


def test_classes_attract_windows_by_class_and_then_by_pixel():
    """Two classes of 1 and 400 pixels get half of the windows each; ignored pixels none."""
    mask = np.zeros((100, 100), np.uint8)
    mask[10, 10], mask[60:80, 60:80], mask[:, 95:] = 1, 2, 255
    crop = Crop((16, 16), 255, "foreground", 1.0)
    seen = [np.unique(crop(np.zeros((100, 100, 3), np.uint8), mask, seed)[1]) for seed in range(400)]
    assert 0.42 < np.mean([1 in labels for labels in seen]) < 0.58
    only = Crop((16, 16), 255, "foreground", 1.0, [2])
    assert all(2 in only(np.zeros((100, 100, 3), np.uint8), mask, seed)[1] for seed in range(50))
    layers = np.stack([mask == 1, mask == 2], -1).astype(np.uint8)
    many = [crop(np.zeros((100, 100, 3), np.uint8), layers, seed)[1] for seed in range(100)]
    assert all(layer.shape == (16, 16, 2) and layer.any() for layer in many)


def test_small_samples_are_padded_with_ignored_pixels():
    image, mask = Crop((10, 9), 300)(np.full((4, 5, 3), 7, np.uint8), np.ones((4, 5), np.uint8), 0)
    assert image.shape == (10, 9, 3) and mask.shape == (10, 9)
    assert (mask == 1).sum() == 20 and (mask == 300).sum() == 70 and (image[mask == 1] == 7).all()
    with pytest.raises(DataError, match="fraction of 0 to 1"):
        Crop((8, 8), 255, "foreground", 1.5)


def batches(workers=0, start=0, count=12, seed=3, **changes):
    source = Dots([(50, 40), None, None, None, None, (20, 20), None])
    crop = Crop((32, 32), 255, "foreground", 0.5)
    made = TrainBatches(source, 4, seed, workers=workers, crop=crop, repeats=3, **changes)
    assert made.steps_per_epoch == 5
    return list(itertools.islice(made.batches(start), count))


@pytest.mark.parametrize("workers", [1, 3])
def test_windows_depend_on_neither_workers_nor_start(workers):
    weights = np.array([3.0, 1, 1, 1, 1, 2, 1])
    truth = batches(weights=weights)
    for start in (0, 4, 7):
        for (images, masks), (others, more) in zip(
            batches(workers, start, 12 - start, weights=weights), truth[start:], strict=True
        ):
            np.testing.assert_array_equal(images, others)
            np.testing.assert_array_equal(masks, more)


def test_repeats_show_each_sample_as_often_in_other_windows():
    found = batches(count=5)
    seen = Counter(int(n) for images, _ in found for n in images[:, 0, 0, 2])
    assert sum(seen.values()) == 20 and set(seen) == set(range(7)) and max(seen.values()) == 3
    windows = {tuple(image[0, 0].tolist()) for images, _ in found for image in images}
    assert len(windows) > 15


def test_repeat_factors_are_those_of_the_paper():
    """Shares 1, 1/4 and 1/16 against a threshold of 1/4: factors 1, 1 and 2."""
    presence = np.zeros((16, 3), bool)
    presence[:, 0], presence[:4, 1], presence[0, 2] = True, True, True
    assert repeat_factors(presence, 0.25).tolist() == [2.0] + [1.0] * 15
    assert repeat_factors(presence, 1.0)[:5].tolist() == [4.0, 2.0, 2.0, 2.0, 1.0]


def test_draws_follow_the_weights_to_less_than_one():
    weights = np.array([1.0, 2.0, 0.5, 4.0])
    for seed in range(20):
        found = np.bincount(drawn(weights, 30, np.random.default_rng(seed)), minlength=4)
        assert found.sum() == 30 and (np.abs(found - weights / 7.5 * 30) < 1).all()
    assert copies(np.array([3, 1, 3, 3, 1, 0])).tolist() == [0, 0, 1, 2, 1, 0]


def test_presence_is_read_from_the_masks():
    found = class_presence(Dots([(50, 40), None]))
    assert found.tolist() == [[True, False, True], [True, False, False]]

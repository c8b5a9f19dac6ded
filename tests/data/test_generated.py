import time

import numpy as np
import pytest

from segzoo.data import GeneratedShapes, Source, create_source
from segzoo.errors import DataError


def test_a_sample_depends_on_seed_split_and_index_only():
    first = create_source("generated", split="train", count=4, seed=3)
    again = GeneratedShapes("train", 9, seed=3)
    assert isinstance(first, Source)
    for index in (3, 0, 2):
        a, b = first[index], again[index]
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.mask, b.mask)
        assert a.id == b.id
    others = [GeneratedShapes("val", 4, seed=3), GeneratedShapes("train", 4, seed=4)]
    assert all((first[0].image != other[0].image).any() for other in others)
    assert (first[0].image != first[1].image).any()


@pytest.mark.parametrize("size", [(32, 32), (33, 70), (128, 128), (256, 96)])
def test_labels_are_classes_or_ignored_and_objects_are_there(size):
    source = GeneratedShapes("train", 20, size=size)
    seen = np.zeros(256, int)
    for n in range(20):
        image, mask, _ = source[n]
        assert image.shape == (*size, 3) and image.dtype == np.uint8 and mask.shape == size and mask.dtype == np.uint8
        seen += np.bincount(mask.ravel(), minlength=256)
        assert (mask == 0).any() and ((mask > 0) & (mask < 6)).sum() >= 60
    assert (seen[:6] > 0).all() and seen[255] > 0 and seen[6:255].sum() == 0


def test_classes_are_balanced_enough_to_learn():
    masks = np.stack([GeneratedShapes("train", 100)[n].mask for n in range(100)])
    share = np.bincount(masks.ravel(), minlength=256)[:6] / masks.size
    assert 0.4 < share[0] < 0.8 and (share[1:] > 0.02).all()
    assert (masks == 255).mean() < 0.08


def test_an_ignore_index_outside_a_byte_is_kept():
    mask = GeneratedShapes("train", 1, ignore_index=-1)[0].mask
    assert mask.dtype == np.int32 and (mask == -1).any() and mask.max() <= 5


@pytest.mark.parametrize("change", [{"count": 0}, {"size": (31, 64)}, {"ignore_index": 3}, {"seed": -1}])
def test_arguments_out_of_range_are_refused(change):
    with pytest.raises(DataError, match="generated data"):
        GeneratedShapes(**{"split": "train", "count": 1, **change})


def test_the_fingerprint_follows_every_argument():
    made = [
        GeneratedShapes("train", 5), GeneratedShapes("val", 5), GeneratedShapes("train", 6),
        GeneratedShapes("train", 5, seed=1), GeneratedShapes("train", 5, size=(64, 64)),
        GeneratedShapes("train", 5, ignore_index=254),
    ]  # fmt: skip
    assert len({source.fingerprint() for source in made}) == len(made)
    assert made[0].fingerprint() == GeneratedShapes("train", 5).fingerprint()


def test_colour_alone_does_not_tell_the_classes_apart():
    """A nearest-neighbour classifier on RGB, trained on other samples, is at chance: one in six."""
    rng = np.random.default_rng(0)

    def pixels(split: str, per_class: int) -> tuple[np.ndarray, np.ndarray]:
        source = GeneratedShapes(split, 60)
        samples = [source[n] for n in range(60)]
        colours = np.concatenate([s.image.reshape(-1, 3) for s in samples]).astype(np.float32)
        labels = np.concatenate([s.mask.ravel() for s in samples])
        chosen = np.concatenate([rng.choice(np.flatnonzero(labels == c), per_class, replace=False) for c in range(6)])
        return colours[chosen], labels[chosen]

    train_x, train_y = pixels("train", 2000)
    test_x, test_y = pixels("val", 200)
    distance = (test_x**2).sum(1)[:, None] - 2 * test_x @ train_x.T + (train_x**2).sum(1)
    nearest = np.argpartition(distance, 15, axis=1)[:, :15]
    votes = np.stack([(train_y[nearest] == c).sum(1) for c in range(6)], axis=1)
    accuracy = (votes.argmax(1) == test_y).mean()
    assert accuracy < 1 / 6 + 0.08


def test_drawing_takes_milliseconds():
    source = GeneratedShapes("train", 40)
    source[0]
    times = []
    for n in range(40):
        start = time.process_time()
        source[n]
        times.append(time.process_time() - start)
    assert np.median(times) < 0.015

"""Paired bootstrap: known differences, exact zeros, and intervals narrower than unpaired ones."""

import numpy as np
import pytest

from segzoo.metrics import ConfusionMatrix, ImageCounts, bootstrap, paired_bootstrap


def counts(wrong: np.ndarray, seed: int = 4) -> list[ImageCounts]:
    """Counts of 40 images of 3 classes, the last of which never occurs.

    In image i, `wrong[i]` of the 100 pixels of class 0 are predicted as class 1; the sizes of class 1 are drawn.
    """
    sizes = np.random.default_rng(seed).integers(20, 200, len(wrong))
    return [
        ImageCounts(str(i), np.array([100 - w, size, 0]), np.array([100, size, 0]), np.array([100 - w, size + w, 0]))
        for i, (w, size) in enumerate(zip(wrong.tolist(), sizes.tolist(), strict=True))
    ]


@pytest.fixture
def hardness() -> np.ndarray:
    """Wrong pixels in each image, very different ones."""
    return np.random.default_rng(1).integers(10, 80, 40)


def test_a_model_differs_from_itself_by_exactly_0(hardness):
    found = paired_bootstrap(counts(hardness), counts(hardness))
    for difference in (found.iou[0], found.iou[1], found.mean_iou):
        assert (difference.value, difference.interval, difference.p) == (0.0, (0.0, 0.0), 1.0)
    absent = found.iou[2]
    assert np.isnan([absent.value, *absent.interval, absent.p]).all()


def test_a_known_difference_is_found_with_its_sign(hardness):
    """Five pixels of 100 fewer are wrong in every image, so IoU of class 0 is 0.05 higher in every resample."""
    found = paired_bootstrap(counts(hardness - 5), counts(hardness))
    assert found.iou[0].value == pytest.approx(0.05)
    assert found.iou[0].interval == pytest.approx((0.05, 0.05))
    assert found.iou[0].p == pytest.approx(2 / 1001)
    back = paired_bootstrap(counts(hardness), counts(hardness - 5))
    assert back.mean_iou.value == pytest.approx(-found.mean_iou.value)
    assert back.mean_iou.interval == pytest.approx(tuple(-end for end in reversed(found.mean_iou.interval)))


def test_the_interval_is_that_of_resampled_data_sets(hardness):
    one, other = counts(hardness - 3 * (np.arange(40) % 4)), counts(hardness)
    found = paired_bootstrap(one, other, resamples=300, confidence=0.9, seed=6)
    rng, differences = np.random.default_rng(6), []
    for draw in rng.multinomial(40, np.full(40, 1 / 40), 300):
        means = []
        for images in (one, other):
            matrix = ConfusionMatrix(3)
            for times, image in zip(draw, images, strict=True):
                lost = int(image.actual[0] - image.hits[0])
                matrix.counts += times * np.array([[image.hits[0], lost, 0], [0, image.hits[1], 0], [0, 0, 0]])
            means.append(matrix.mean_iou())
        differences.append(means[0] - means[1])
    assert found.mean_iou.interval == pytest.approx(tuple(np.percentile(differences, [5, 95])))
    assert found.mean_iou.interval[0] < found.mean_iou.value < found.mean_iou.interval[1]


def test_pairing_beats_the_unpaired_interval(hardness):
    rng = np.random.default_rng(3)
    one, other = counts(hardness - rng.integers(0, 6, 40)), counts(hardness)
    paired = paired_bootstrap(one, other).mean_iou.interval
    (a, b), (c, d) = bootstrap(one).mean_iou, bootstrap(other).mean_iou
    unpaired = np.hypot(b - a, d - c)  # of independent figures, whose variances add up
    assert paired[1] - paired[0] < unpaired / 4
    assert paired[0] > 0 and a < d  # the difference is clear although the models' own intervals overlap


def test_noise_alone_has_a_large_p():
    rng = np.random.default_rng(0)
    base = np.full(40, 40)
    found = paired_bootstrap(counts(base + rng.permutation(np.repeat([-3, 3], 20))), counts(base)).mean_iou
    assert found.interval[0] < 0 < found.interval[1] and found.p > 0.3


def test_other_images_or_targets_are_refused_with_the_first_difference(hardness):
    images = counts(hardness)
    with pytest.raises(ValueError, match="image 39 is missing, and '39' in the reference"):
        paired_bootstrap(images[:-1], images)
    with pytest.raises(ValueError, match="image 0 is '1', and '0' in the reference"):
        paired_bootstrap([images[1], images[0]], images[:2])
    with pytest.raises(ValueError, match="target of image '0' has other pixels"):
        paired_bootstrap(counts(hardness, seed=5), images)
    with pytest.raises(ValueError, match="needs images"):
        paired_bootstrap([], [])

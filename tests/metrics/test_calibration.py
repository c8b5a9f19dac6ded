"""Expected calibration error beside a count pixel by pixel."""

import numpy as np
import pytest

from segzoo.metrics import Calibration

IGNORE = 255


@pytest.fixture
def predictions():
    """Labels (4, 6, 7) of 3 classes with ignored pixels, and probabilities that are too sure."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (4, 6, 7, 3))
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels = np.where(rng.uniform(size=(4, 6, 7)) < 0.5, logits.argmax(-1), rng.integers(0, 3, (4, 6, 7)))
    labels[:, :1] = IGNORE
    return labels, probabilities


def test_ece_is_that_of_the_definition(predictions):
    labels, probabilities = predictions
    metric = Calibration(bins=10, ignore_index=IGNORE)
    metric.update(labels, probabilities)
    bins = [[] for _ in range(10)]
    for index in np.argwhere(labels != IGNORE):
        row = probabilities[tuple(index)]
        place = next(i for i in range(10) if row.max() <= (i + 1) / 10)
        bins[place].append((row.max(), row.argmax() == labels[tuple(index)]))
    pixels = (labels != IGNORE).sum()
    expected = sum(len(b) / pixels * abs(np.mean([r for _, r in b]) - np.mean([c for c, _ in b])) for b in bins if b)
    assert metric.ece() == pytest.approx(expected, rel=1e-12)
    assert metric.ece() > 0.1
    confidence, accuracy = metric.curve()
    assert metric.counts.sum() == pixels
    for i, b in enumerate(bins):
        assert len(b) == metric.counts[i]
        if b:
            assert (confidence[i], accuracy[i]) == pytest.approx(tuple(np.mean(b, axis=0)))
        else:
            assert np.isnan([confidence[i], accuracy[i]]).all()


def test_sure_and_right_is_0_and_sure_and_wrong_is_1():
    for label, expected in ((0, 0.0), (1, 1.0)):
        metric = Calibration()
        metric.update(np.full((5,), label), np.tile([1.0, 0.0], (5, 1)))
        assert metric.ece() == expected


def test_batches_and_merged_parts_are_the_whole(predictions):
    labels, probabilities = predictions
    whole, apart, merged = (Calibration(ignore_index=IGNORE) for _ in range(3))
    whole.update(labels, probabilities)
    for image in range(4):
        apart.update(labels[image], probabilities[image])
        part = Calibration(ignore_index=IGNORE)
        part.update(labels[image], probabilities[image])
        merged.merge(part)
    assert whole.ece() == pytest.approx(apart.ece(), rel=1e-12) == pytest.approx(merged.ece(), rel=1e-12)
    np.testing.assert_array_equal(whole.counts, merged.counts)
    with pytest.raises(ValueError, match=r"mode .15, 255, 'multiclass'. into .3, None"):
        Calibration(3).merge(whole)


def test_half_precision_probabilities_are_summed_in_float64():
    metric = Calibration()
    metric.update(np.zeros(100_000, int), np.tile(np.array([0.75, 0.25], "float16"), (100_000, 1)))
    assert metric.confidences.sum() == 75_000
    assert metric.ece() == pytest.approx(0.25)


def test_nothing_counted_is_nan():
    metric = Calibration(ignore_index=IGNORE)
    metric.update(np.full((2, 2), IGNORE), np.full((2, 2, 3), 1 / 3))
    assert np.isnan(metric.ece())


def test_logits_and_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"0\.\.1; these reach from -3 to 5"):
        Calibration().update(np.zeros(1, int), np.array([[5.0, -3.0]]))
    with pytest.raises(ValueError, match=r"need probabilities \(2, 'C'\)"):
        Calibration().update(np.zeros(2, int), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="at least 1 bin"):
        Calibration(0)

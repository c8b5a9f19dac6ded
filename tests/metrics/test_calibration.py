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


def by_definition(targets, probabilities, bins):
    """Calibration error of one class: targets 0 and 1, probabilities, both (N,)."""
    error = 0.0
    for i in range(bins):
        within = (probabilities > i / bins) & (probabilities <= (i + 1) / bins)
        if i == 0:
            within |= probabilities == 0
        if within.any():
            error += within.mean() * abs(probabilities[within].mean() - targets[within].mean())
    return error


def test_errors_of_classes_are_those_of_the_definition(predictions):
    labels, probabilities = predictions
    counted = labels != IGNORE
    metric = Calibration(10, IGNORE, classes=3)
    for image in range(2):
        metric.update(labels[image], probabilities[image])
    part = Calibration(10, IGNORE, classes=3)
    part.update(labels[2:], probabilities[2:])
    metric.merge(part)
    expected = [by_definition(labels[counted] == k, probabilities[counted][:, k], 10) for k in range(3)]
    np.testing.assert_allclose(metric.class_ece(), expected, rtol=1e-9)
    assert min(expected) > 0.1
    with pytest.raises(ValueError, match="errors of 0 classes into those of 3"):
        metric.merge(Calibration(10, IGNORE))
    with pytest.raises(ValueError, match="not of 2 classes"):
        Calibration(classes=2).update(labels[2:, 1:], probabilities[2:, 1:])


def test_errors_of_overlapping_classes_leave_out_what_is_ignored_for_each():
    rng = np.random.default_rng(8)
    probabilities = rng.uniform(size=(500, 2))
    targets = (rng.uniform(size=(500, 2)) < probabilities**2).astype(int)
    targets[:100, 0] = IGNORE
    metric = Calibration(15, IGNORE, "multilabel", classes=2)
    metric.update(targets, probabilities)
    expected = [by_definition(targets[100:, 0], probabilities[100:, 0], 15)]
    expected.append(by_definition(targets[:, 1], probabilities[:, 1], 15))
    np.testing.assert_allclose(metric.class_ece(), expected, rtol=1e-9)
    assert metric.class_pixels.tolist() == [400, 500]


def test_a_class_that_is_as_frequent_as_its_probability_has_no_error():
    metric = Calibration(classes=2)
    metric.update(np.array([0, 1, 1, 1]), np.tile([0.25, 0.75], (4, 1)))
    assert metric.class_ece().tolist() == [0, 0]
    assert np.isnan(Calibration(classes=2).class_ece()).all() and Calibration().class_ece().shape == (0,)

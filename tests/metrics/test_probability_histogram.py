"""Histogram of probabilities beside scikit-learn's curves and a search over all thresholds."""

import numpy as np
import pytest
from sklearn import metrics as reference

from segzoo.errors import SegzooError
from segzoo.metrics import ProbabilityHistogram
from segzoo.metrics.probability_histogram import criterion_of

IGNORE = 255


@pytest.fixture
def places():
    """Targets and probabilities (5000, 3) in steps of a thousandth; the third class is rare and hard."""
    rng = np.random.default_rng(0)
    target = (rng.random((5000, 3)) < [0.5, 0.2, 0.02]).astype(np.uint8)
    noise = rng.normal(0, [0.2, 0.25, 0.25], (5000, 3))
    probabilities = np.clip(0.3 + 0.3 * target + noise, 0.001, 1)
    return target, np.round(probabilities * 1000) / 1000


def filled(target, probabilities, **options) -> ProbabilityHistogram:
    histogram = ProbabilityHistogram(target.shape[-1], **options)
    histogram.update(target, probabilities)
    return histogram


def test_curves_and_average_precision_are_those_of_scikit_learn(places):
    target, probabilities = places
    histogram = filled(target, probabilities)
    for label in range(3):
        precision, recall, cuts = reference.precision_recall_curve(target[:, label], probabilities[:, label])
        # There p >= cut is positive, here p > threshold, which is the cut below.
        index = np.rint(cuts * 1000).astype(int) - 2
        known = index >= 0
        np.testing.assert_allclose(histogram.precision()[label][index[known]], precision[:-1][known])
        np.testing.assert_allclose(histogram.recall()[label][index[known]], recall[:-1][known])
        expected = reference.average_precision_score(target[:, label], probabilities[:, label])
        assert histogram.average_precision()[label] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("criterion", "score"),
    [
        ("f1", reference.f1_score),
        ("f2", lambda *arrays: reference.fbeta_score(*arrays, beta=2)),
        ("f0.5", lambda *arrays: reference.fbeta_score(*arrays, beta=0.5)),
        ("iou", reference.jaccard_score),
    ],
)
def test_the_best_threshold_is_that_of_a_search(places, criterion, score):
    target, probabilities = places
    found = filled(target, probabilities).tuned(criterion)
    for label in range(3):
        cuts = np.arange(10, 1000, 10) / 1000
        scores = [score(target[:, label], probabilities[:, label] > cut) for cut in cuts]
        at_best = score(target[:, label], probabilities[:, label] > found.values[label])
        assert at_best == pytest.approx(found.scores[label]) and at_best >= max(scores)


@pytest.mark.parametrize(("label", "least"), [(0, 0.9), (1, 0.4)])
def test_recall_at_a_precision_is_the_largest_that_keeps_it(places, label, least):
    target, probabilities = places
    threshold = filled(target, probabilities).tuned(f"recall@{least}").values[label]
    truth, found = target[:, label], probabilities[:, label]
    assert reference.precision_score(truth, found > threshold) >= least
    lower = [cut for cut in np.arange(1, 1000) / 1000 if cut < threshold]
    assert lower and all(reference.precision_score(truth, found > cut) < least for cut in lower)


def test_without_places_or_a_way_to_the_precision_the_threshold_stays():
    target = np.array([[0, 1, 0], [0, 0, 1], [0, 1, 0]])
    probabilities = np.array([[0.2, 0.7, 0.9], [0.4, 0.1, 0.3], [0.4, 0.8, 0.9]])
    found = filled(target, probabilities).tuned("recall@0.9")
    assert found.values[0] == found.values[2] == 0.5 and np.isnan([found.scores[0], found.scores[2]]).all()
    assert found.scores[1] == 1


def test_of_equally_good_thresholds_the_one_nearest_to_a_half_is_taken():
    target = np.array([[0], [1]])
    assert filled(target, np.array([[0.1], [0.3]])).tuned("f1").values == (0.299,)
    assert filled(target, np.array([[0.7], [0.9]])).tuned("f1").values == (0.7,)
    assert filled(target, np.array([[0.1], [0.9]])).tuned("f1").values == (0.5,)


def test_parts_add_up_and_ignored_places_count_nowhere(places):
    target, probabilities = places
    whole = filled(target, probabilities, ignore_index=IGNORE)
    parts = filled(target[:2000], probabilities[:2000], ignore_index=IGNORE)
    parts.merge(filled(target[2000:], probabilities[2000:], ignore_index=IGNORE))
    np.testing.assert_array_equal(parts.counts, whole.counts)
    parts.update(np.full((7, 3), IGNORE), np.full((7, 3), 0.4))
    np.testing.assert_array_equal(parts.counts, whole.counts)
    with pytest.raises(ValueError, match="Cannot merge"):
        parts.merge(ProbabilityHistogram(3))


@pytest.mark.parametrize(
    ("target", "probabilities", "words"),
    [
        ([[0, 1]], [[0.1, 0.2]], r"must both be \(..., 1\)"),
        ([[0]], [[1.5]], "lie in 0..1"),
        ([[0]], [[np.nan]], "lie in 0..1"),
        ([[2]], [[0.5]], "must be 0, 1"),
    ],
)
def test_other_arrays_are_refused(target, probabilities, words):
    with pytest.raises(ValueError, match=words):
        ProbabilityHistogram(1).update(np.array(target), np.array(probabilities))


@pytest.mark.parametrize("criterion", ["f", "f0", "recall", "recall@1.5", "recall@0.9x", "accuracy", ""])
def test_other_criteria_are_refused(criterion):
    with pytest.raises(SegzooError, match=r"f1, f2 .* iou, or by recall@0.9"):
        criterion_of(criterion)

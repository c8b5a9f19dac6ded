"""The figures read off a confusion matrix beside scikit-learn's, and where they are not defined."""

import math

import numpy as np
import pytest
from sklearn import metrics as reference

from segzoo.metrics import ConfusionMatrix

IGNORE = 255


@pytest.fixture
def counted():
    """Targets and predictions of 4 classes, mostly right, and their matrix, which got ignored pixels too."""
    rng = np.random.default_rng(11)
    target = rng.choice(4, size=500, p=[0.6, 0.25, 0.1, 0.05])
    predicted = np.where(rng.uniform(size=500) < 0.7, target, rng.choice(4, size=500))
    matrix = ConfusionMatrix(4, IGNORE)
    matrix.update(np.append(target, [IGNORE] * 20), np.append(predicted, [3] * 20))
    return target, predicted, matrix


def test_overlap_figures_are_scikit_learns(counted):
    target, predicted, matrix = counted
    np.testing.assert_allclose(matrix.iou(), reference.jaccard_score(target, predicted, average=None), rtol=1e-12)
    for beta in (0.5, 1.0, 2.0):
        expected = reference.fbeta_score(target, predicted, beta=beta, average=None)
        np.testing.assert_allclose(matrix.f_beta(beta), expected, rtol=1e-12)
    np.testing.assert_array_equal(matrix.dice(), matrix.f_beta(1.0))
    np.testing.assert_allclose(matrix.precision(), reference.precision_score(target, predicted, average=None))
    np.testing.assert_allclose(matrix.recall(), reference.recall_score(target, predicted, average=None))


def test_figures_of_the_whole_matrix_are_scikit_learns(counted):
    target, predicted, matrix = counted
    assert matrix.pixel_accuracy() == pytest.approx(reference.accuracy_score(target, predicted), rel=1e-12)
    assert matrix.mean_accuracy() == pytest.approx(reference.balanced_accuracy_score(target, predicted), rel=1e-12)
    assert matrix.mcc() == pytest.approx(reference.matthews_corrcoef(target, predicted), rel=1e-12)
    assert matrix.cohen_kappa() == pytest.approx(reference.cohen_kappa_score(target, predicted), rel=1e-12)
    weighted = reference.jaccard_score(target, predicted, average="weighted")
    assert matrix.frequency_weighted_iou() == pytest.approx(weighted, rel=1e-12)


def test_specificity_is_the_recall_of_everything_else(counted):
    target, predicted, matrix = counted
    expected = [reference.recall_score(target != c, predicted != c) for c in range(4)]
    np.testing.assert_allclose(matrix.specificity(), expected, rtol=1e-12)


def test_a_perfect_prediction_has_the_best_figures_and_absent_classes_none():
    matrix = ConfusionMatrix(3, counts=np.diag([5, 7, 0]))
    np.testing.assert_array_equal(matrix.specificity(), [1, 1, np.nan])
    np.testing.assert_array_equal(matrix.f_beta(2.0), [1, 1, np.nan])
    whole = [matrix.mean_accuracy(), matrix.frequency_weighted_iou(), matrix.mcc(), matrix.cohen_kappa()]
    assert whole == pytest.approx([1, 1, 1, 1])


def test_everything_wrong():
    matrix = ConfusionMatrix(2, counts=np.array([[0, 6], [6, 0]]))
    assert matrix.mcc() == -1
    assert matrix.cohen_kappa() == -1
    assert matrix.mean_accuracy() == matrix.frequency_weighted_iou() == 0


def test_one_class_only_leaves_correlation_and_kappa_undefined():
    matrix = ConfusionMatrix(2, counts=np.array([[9, 0], [0, 0]]))
    assert math.isnan(matrix.mcc())
    assert math.isnan(matrix.cohen_kappa())
    assert np.isnan(matrix.specificity()).all()
    assert matrix.mean_accuracy() == matrix.frequency_weighted_iou() == 1


def test_nothing_counted_is_not_applicable():
    matrix = ConfusionMatrix(3)
    figures = [matrix.mean_accuracy(), matrix.frequency_weighted_iou(), matrix.mcc(), matrix.cohen_kappa()]
    assert np.isnan(figures).all()
    assert np.isnan(matrix.specificity()).all()


def test_products_of_counts_are_exact_at_1e11_pixels():
    # Chance agreement and agreement differ in the last digits only; int64 would overflow, float64 would give 0.
    n = 10**11
    matrix = ConfusionMatrix(2, counts=np.array([[n + 1, n], [n, n]]))
    hits, total, by_chance = 2 * n + 1, 4 * n + 1, 2 * n * 2 * n + (2 * n + 1) ** 2
    assert matrix.cohen_kappa() == (hits * total - by_chance) / (total**2 - by_chance) != 0
    assert 0 < matrix.mcc() < 1e-10


@pytest.mark.parametrize("beta", [0, -1, math.inf, math.nan])
def test_beta_is_positive(beta):
    with pytest.raises(ValueError, match="beta must be positive"):
        ConfusionMatrix(2).f_beta(beta)


def test_the_foreground_mean_leaves_out_the_background_and_what_is_absent():
    matrix = ConfusionMatrix(4, counts=[[90, 5, 5, 0], [0, 10, 10, 0], [5, 0, 15, 0], [0, 0, 0, 0]])
    iou = matrix.iou()
    assert matrix.foreground_mean_iou(0) == pytest.approx((iou[1] + iou[2]) / 2)
    assert matrix.foreground_mean_iou(3) == pytest.approx(matrix.mean_iou())
    assert np.isnan(ConfusionMatrix(2, counts=[[7, 0], [0, 0]]).foreground_mean_iou(0))

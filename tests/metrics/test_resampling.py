"""Bootstrap intervals beside resampling image by image."""

import numpy as np
import pytest

from segzoo.metrics import ConfusionMatrix, ImageCounts, bootstrap


@pytest.fixture
def images():
    """Twelve images of 4 classes of which the last never occurs; they differ in how well they are segmented."""
    rng = np.random.default_rng(9)
    found = []
    for index in range(12):
        target = rng.integers(0, 3, (8, 8))
        predicted = np.where(rng.uniform(size=(8, 8)) < 0.4 + 0.05 * index, target, rng.integers(0, 3, (8, 8)))
        matrix = ConfusionMatrix(4)
        matrix.update(target, predicted)
        found.append((target, predicted, matrix))
    return found


def counts(images):
    return [
        ImageCounts(str(i), m.counts.diagonal(), m.counts.sum(1), m.counts.sum(0)) for i, (*_, m) in enumerate(images)
    ]


def test_intervals_are_those_of_resampled_data_sets(images):
    found = bootstrap(counts(images), resamples=400, seed=1)
    draws = np.random.default_rng(1).multinomial(12, np.full(12, 1 / 12), 400)
    means, accuracies, ious = [], [], []
    for draw in draws:
        matrix = ConfusionMatrix(4)
        for times, (target, predicted, _) in zip(draw, images, strict=True):
            for _ in range(times):
                matrix.update(target, predicted)
        means.append(matrix.mean_iou())
        accuracies.append(matrix.pixel_accuracy())
        ious.append(matrix.iou())
    assert found.mean_iou == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))
    assert found.pixel_accuracy == pytest.approx(tuple(np.percentile(accuracies, [2.5, 97.5])))
    np.testing.assert_allclose(found.iou[:3], np.percentile(np.array(ious)[:, :3], [2.5, 97.5], axis=0).T)
    assert np.isnan(found.iou[3]).all()


def test_the_interval_holds_the_figure_and_more_confidence_widens_it(images):
    whole = ConfusionMatrix(4)
    for *_, matrix in images:
        whole.merge(matrix)
    low, high = bootstrap(counts(images)).mean_iou
    wider = bootstrap(counts(images), confidence=0.99).mean_iou
    assert wider[0] < low < whole.mean_iou() < high < wider[1]


def test_equal_images_leave_no_doubt(images):
    low, high = bootstrap(counts(images[:1] * 5)).mean_iou
    assert low == high == images[0][2].mean_iou()


def test_the_mean_of_an_image_leaves_out_what_it_lacks(images):
    for image, (*_, matrix) in zip(counts(images), images, strict=True):
        assert image.mean_iou() == pytest.approx(matrix.mean_iou())
    nothing = ImageCounts("ignored", *np.zeros((3, 4), int))
    assert np.isnan(nothing.mean_iou())


def test_no_images_are_refused(images):
    with pytest.raises(ValueError, match="needs images"):
        bootstrap([])
    with pytest.raises(ValueError, match="confidence"):
        bootstrap(counts(images), confidence=95)

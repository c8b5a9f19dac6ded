"""Surface metrics beside distances taken pair by pair."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from segzoo.errors import DataError
from segzoo.metrics import SurfaceMetrics

IGNORE = 255


@pytest.fixture
def blobs():
    """Targets and predictions (3, 24, 30) of classes 0 to 2 with the same shapes a few pixels apart."""
    target = np.zeros((3, 24, 30), np.uint8)
    target[0, 4:12, 5:15] = 1
    target[0, 14:20, 10:28] = 2
    target[1, 0:9, 0:9] = 1
    target[2, 10:22, 3:9] = 2
    return target, np.roll(target, (2, -1), axis=(1, 2))


def surface(mask):
    """Pixels (N, 2) of a mask that touch another pixel or the border, found neighbour by neighbour."""
    padded = np.pad(mask, 1)
    return np.array(
        [
            (y, x)
            for y, x in np.argwhere(mask)
            if not (padded[y, x + 1] and padded[y + 2, x + 1] and padded[y + 1, x] and padded[y + 1, x + 2])
        ]
    )


def distances(truth, found, spacing):
    pairs = cdist(surface(truth) * spacing, surface(found) * spacing)
    return pairs.min(1), pairs.min(0)


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0)])
def test_distances_are_those_of_all_pairs(blobs, spacing):
    target, predicted = blobs
    metrics = SurfaceMetrics(3, spacing=spacing, tolerance=1.5)
    metrics.update(target, predicted)
    for c in range(3):
        hausdorff, average, f1 = [], [], []
        for truth, found in zip(target == c, predicted == c, strict=True):
            if truth.any():
                there, back = distances(truth, found, spacing)
                hausdorff.append(max(np.percentile(there, 95), np.percentile(back, 95)))
                average.append(np.concatenate([there, back]).mean())
                recall, precision = (there <= 1.5).mean(), (back <= 1.5).mean()
                f1.append(2 * recall * precision / (recall + precision))
        assert metrics.hausdorff95()[c] == pytest.approx(np.mean(hausdorff))
        assert metrics.average_surface_distance()[c] == pytest.approx(np.mean(average))
        assert metrics.boundary_f1()[c] == pytest.approx(np.mean(f1))


def test_boundary_iou_is_that_of_the_bands(blobs):
    target, predicted = blobs
    width = round(0.1 * np.hypot(24, 30))
    metrics = SurfaceMetrics(3, band=0.1)
    metrics.update(target, predicted)

    def band(mask):
        # A pixel is in the band if a pixel outside, or beyond the border, is within `width` steps of a king.
        padded = np.pad(mask, width)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * width + 1, 2 * width + 1))
        return mask & ~windows.all((2, 3))

    for c in range(3):
        pairs = [(band(t), band(p)) for t, p in zip(target == c, predicted == c, strict=True)]
        union = sum((t | p).sum() for t, p in pairs)
        assert metrics.boundary_iou()[c] == sum((t & p).sum() for t, p in pairs) / union


def test_a_perfect_prediction_is_best_and_an_absent_class_is_not_applicable(blobs):
    target, _ = blobs
    metrics = SurfaceMetrics(4)
    metrics.update(target, target)
    np.testing.assert_array_equal(metrics.hausdorff95(), [0, 0, 0, np.nan])
    np.testing.assert_array_equal(metrics.average_surface_distance(), [0, 0, 0, np.nan])
    np.testing.assert_array_equal(metrics.boundary_f1(), [1, 1, 1, np.nan])
    np.testing.assert_array_equal(metrics.boundary_iou(), [1, 1, 1, np.nan])
    assert not metrics.unmatched.any()


def test_a_class_in_one_of_the_two_has_no_distance_and_no_boundary_in_common(blobs):
    target, _ = blobs
    metrics = SurfaceMetrics(3)
    metrics.update(target, np.zeros_like(target))
    np.testing.assert_array_equal(metrics.unmatched, [0, 2, 2])
    assert np.isnan(metrics.hausdorff95()[1:]).all()
    np.testing.assert_array_equal(metrics.boundary_f1()[1:], [0, 0])
    np.testing.assert_array_equal(metrics.boundary_iou()[1:], [0, 0])


def test_what_is_predicted_at_ignored_pixels_changes_nothing(blobs):
    target, predicted = blobs[0].copy(), blobs[1].copy()
    target[:, 8:16, 8:20] = IGNORE
    figures = []
    for fill in (0, 1, 2):
        predicted[:, 8:16, 8:20] = fill
        metrics = SurfaceMetrics(3, IGNORE)
        metrics.update(target, predicted)
        figures.append([metrics.hausdorff95(), metrics.boundary_f1(), metrics.boundary_iou()])
    np.testing.assert_array_equal(figures[0], figures[1])
    np.testing.assert_array_equal(figures[0], figures[2])


def test_the_batch_size_changes_nothing_and_parts_merge_to_the_whole(blobs):
    whole, apart, merged = (SurfaceMetrics(3) for _ in range(3))
    whole.update(*blobs)
    for target, predicted in zip(*blobs, strict=True):
        apart.update(target, predicted)
    part = SurfaceMetrics(3)
    merged.update(*[maps[:1] for maps in blobs])
    part.update(*[maps[1:] for maps in blobs])
    merged.merge(part)
    for other in (apart, merged):
        np.testing.assert_allclose(other.hausdorff95(), whole.hausdorff95(), rtol=1e-12)
        np.testing.assert_allclose(other.boundary_f1(), whole.boundary_f1(), rtol=1e-12)
        np.testing.assert_array_equal(other.boundary_iou(), whole.boundary_iou())
    with pytest.raises(ValueError, match=r"Cannot merge band 0\.1 into band 0\.02"):
        whole.merge(SurfaceMetrics(3, band=0.1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 1}, "at least 2 classes"),
        ({"classes": 3, "spacing": (1.0, 0.0)}, "spacing must be"),
        ({"classes": 3, "tolerance": -1.0}, "tolerance must be"),
        ({"classes": 3, "band": 1.0}, "band must be"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SurfaceMetrics(**options)


def test_maps_that_cannot_be_compared_are_refused():
    metrics = SurfaceMetrics(3, IGNORE)
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(3, 2\)"):
        metrics.update(np.zeros((2, 3), int), np.zeros((3, 2), int))
    with pytest.raises(ValueError, match="not int64 and float64"):
        metrics.update(np.zeros((2, 3), int), np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"label 7 \(6 px are no class\); allowed: 0 to 2 or 255"):
        metrics.update(np.full((2, 3), 7), np.zeros((2, 3), int))

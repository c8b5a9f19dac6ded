"""The NumPy confusion matrix against a count pixel by pixel."""

import json
import subprocess
import sys

import numpy as np
import pytest

from segzoo.errors import DataError
from segzoo.metrics import ConfusionMatrix

IGNORE = 255


@pytest.fixture
def maps():
    """Targets of classes 0, 1, 2 with ignored pixels and predictions of 0, 1, 3, out of 5 classes."""
    rng = np.random.default_rng(5)
    target = rng.choice([0, 1, 2, IGNORE], size=(6, 9, 11), p=[0.5, 0.3, 0.1, 0.1]).astype("uint8")
    return target, rng.choice([0, 1, 3], size=target.shape)


def brute_force(target, predicted, c):
    """Counts (hits, target only, predicted only) of class c by the definition."""
    hits = missed = wrong = 0
    for t, p in zip(target.ravel(), predicted.ravel(), strict=True):
        if t == IGNORE:
            continue
        hits += t == c and p == c
        missed += t == c and p != c
        wrong += t != c and p == c
    return hits, missed, wrong


def test_figures_are_those_of_a_count_pixel_by_pixel(maps):
    matrix = ConfusionMatrix(5, IGNORE)
    matrix.update(*maps)
    ious = []
    for c in range(5):
        hits, missed, wrong = brute_force(*maps, c)
        expected = {
            "iou": (hits, hits + missed + wrong),
            "dice": (2 * hits, 2 * hits + missed + wrong),
            "precision": (hits, hits + wrong),
            "recall": (hits, hits + missed),
        }
        for figure, (above, below) in expected.items():
            found = getattr(matrix, figure)()
            assert found.dtype == np.float64
            assert found[c] == above / below if below else np.isnan(found[c]), (figure, c)
        if hits + missed + wrong:
            ious.append(hits / (hits + missed + wrong))
    assert len(ious) == 4
    assert matrix.mean_iou() == pytest.approx(np.mean(ious), rel=1e-15)
    valid = maps[0] != IGNORE
    assert matrix.pixel_accuracy() == (maps[0] == maps[1])[valid].mean()
    assert matrix.counts.sum() == valid.sum()


def test_the_batch_size_changes_nothing(maps):
    # IoU averaged over batches does change, here by more than two points.
    target, predicted = maps[0].copy(), maps[1].copy()
    target[3:][target[3:] == 2] = 1
    predicted[:2] = np.where(target[:2] == IGNORE, 0, target[:2])
    figures, averages = [], []
    for size in (1, 2, 3, 6):
        matrix, batches = ConfusionMatrix(5, IGNORE), []
        for start in range(0, 6, size):
            part = [array[start : start + size] for array in (target, predicted)]
            matrix.update(*part)
            batches.append(ConfusionMatrix(5, IGNORE))
            batches[-1].update(*part)
        figures.append(matrix.mean_iou())
        averages.append(np.mean([batch.mean_iou() for batch in batches]))
    assert len(set(figures)) == 1
    assert np.ptp(averages) > 0.02


def test_absent_classes_are_not_averaged():
    # SMP's macro IoU is 0.5 here: everything is wrong and 2 of 4 classes are absent.
    matrix = ConfusionMatrix(4)
    matrix.update(np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]))
    assert matrix.mean_iou() == 0
    np.testing.assert_array_equal(matrix.iou(), [0, 0, np.nan, np.nan])


def test_only_predicted_and_only_in_the_target():
    matrix = ConfusionMatrix(3)
    matrix.update(np.array([0, 0, 1]), np.array([0, 2, 0]))
    np.testing.assert_array_equal(matrix.iou(), [1 / 3, 0, 0])
    np.testing.assert_array_equal(matrix.precision(), [1 / 2, np.nan, 0])
    np.testing.assert_array_equal(matrix.recall(), [1 / 2, 0, np.nan])


def test_nothing_counted_is_nan_everywhere():
    matrix = ConfusionMatrix(3, IGNORE)
    matrix.update(np.full((2, 2), IGNORE), np.zeros((2, 2), int))
    assert np.isnan(matrix.mean_iou())
    assert np.isnan(matrix.pixel_accuracy())
    assert np.isnan(matrix.iou()).all()


def test_merged_parts_are_the_whole(maps):
    whole, first, second = (ConfusionMatrix(5, IGNORE) for _ in range(3))
    whole.update(*maps)
    first.update(*[array[:2] for array in maps])
    second.update(*[array[2:] for array in maps])
    first.merge(second)
    np.testing.assert_array_equal(first.counts, whole.counts)
    with pytest.raises(ValueError, match="ignore index"):
        first.merge(ConfusionMatrix(5))


def test_a_label_that_is_no_class_names_value_and_pixels_and_counts_nothing():
    matrix = ConfusionMatrix(3, IGNORE)
    target = np.array([[0, 7, 7], [IGNORE, -2, 1]])
    with pytest.raises(DataError, match=r"target .* -2 \(1 px\), 7 \(2 px\)\. Allowed: 0 to 2 or the ignore index 255"):
        matrix.update(target, np.zeros_like(target))
    with pytest.raises(DataError, match=r"prediction .* 3 \(6 px\)\. Allowed: 0 to 2\."):
        matrix.update(np.zeros_like(target), np.full_like(target, 3))
    assert matrix.counts.sum() == 0


def test_logits_and_other_shapes_are_refused():
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match="integer class indices, not float32"):
        matrix.update(np.zeros((2, 2), int), np.zeros((2, 2), "float32"))
    with pytest.raises(ValueError, match="same shape"):
        matrix.update(np.zeros((2, 2), int), np.zeros((2, 2, 3)))


def test_small_dtypes_do_not_wrap():
    # 20 * 21 + 20 overflows uint8.
    matrix = ConfusionMatrix(21, IGNORE)
    matrix.update(np.full((4,), 20, "uint8"), np.full((4,), 20, "uint8"))
    assert matrix.counts[20, 20] == 4


def test_counts_are_exact_beyond_2_to_the_53():
    matrix = ConfusionMatrix(2, counts=np.array([[2**53, 0], [0, 0]]))
    matrix.update(np.array([0]), np.array([0]))
    assert matrix.counts[0, 0] == 2**53 + 1


def test_the_table_is_json_with_none_for_not_applicable(maps):
    matrix = ConfusionMatrix(5, IGNORE)
    matrix.update(*maps)
    rows = json.loads(json.dumps(matrix.table(["sky", "road", "car", "sign", "bus"]), allow_nan=False))
    assert [row["class"] for row in rows] == ["sky", "road", "car", "sign", "bus"]
    assert rows[4] == {"class": "bus", "iou": None, "dice": None, "precision": None, "recall": None, "pixels": 0}
    assert rows[0]["iou"] == matrix.iou()[0]
    assert sum(row["pixels"] for row in rows) == (maps[0] != IGNORE).sum()
    with pytest.raises(ValueError, match="2 names for 5 classes"):
        matrix.table(["sky", "road"])


def test_the_matrix_imports_no_framework():
    code = "import sys; from segzoo.metrics import ConfusionMatrix; assert 'keras' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

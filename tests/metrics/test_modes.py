"""Metrics of classes that may overlap: each class is its own multiclass problem of two classes."""

import json

import keras
import numpy as np
import pytest
from sklearn import metrics as sklearn

from segzoo.errors import DataError
from segzoo.metrics import Calibration, ConfusionMatrix, MeanIoU, MultilabelCounts, SurfaceMetrics

IGNORE = 255
FIGURES = ["iou", "dice", "precision", "recall", "specificity"]


@pytest.fixture
def maps():
    """Targets (4, 9, 11, 3) of 0, 1 and ignored places, the last class nowhere, and logits."""
    rng = np.random.default_rng(5)
    target = (rng.uniform(size=(4, 9, 11, 3)) < [0.5, 0.2, 0.0]).astype("uint8")
    target[rng.uniform(size=target.shape) < 0.15] = IGNORE
    return target, rng.normal(0, 2, target.shape) - [0, 0, 99]


def test_each_class_has_the_figures_of_a_matrix_of_two(maps):
    target, logits = maps
    counts = MultilabelCounts(3, IGNORE)
    counts.update(target, logits > 0)
    for c in range(3):
        alone = ConfusionMatrix(2, IGNORE)
        alone.update(target[..., c], (logits[..., c] > 0).astype(int))
        for figure in FIGURES:
            found, expected = getattr(counts, figure)()[c], getattr(alone, figure)()[1]
            np.testing.assert_equal(found, expected, err_msg=figure)
        assert counts.accuracy()[c] == alone.pixel_accuracy()
        np.testing.assert_equal((counts.mcc()[c], counts.cohen_kappa()[c]), (alone.mcc(), alone.cohen_kappa()))
    assert np.isnan(counts.iou()[2]) and counts.mean_iou() == counts.iou()[:2].mean()
    assert counts.table(["a", "b", "c"])[2]["iou"] is None


def test_figures_are_those_of_scikit_learn(maps):
    target, logits = (array.reshape(-1, 3)[:, :2] for array in maps)
    valid = (target != IGNORE).all(1)
    truth, found = target[valid], (logits[valid] > 0).astype(int)
    counts = MultilabelCounts(2)
    counts.update(truth, found)
    np.testing.assert_allclose(counts.iou(), sklearn.jaccard_score(truth, found, average=None))
    np.testing.assert_allclose(counts.f_beta(2), sklearn.fbeta_score(truth, found, beta=2, average=None))
    np.testing.assert_allclose(counts.mcc()[0], sklearn.matthews_corrcoef(truth[:, 0], found[:, 0]))
    np.testing.assert_allclose(counts.cohen_kappa()[1], sklearn.cohen_kappa_score(truth[:, 1], found[:, 1]))


def test_counts_add_up_in_any_order(maps):
    target, logits = maps
    whole, first, rest = (MultilabelCounts(3, IGNORE) for _ in range(3))
    whole.update(target, logits > 0)
    first.update(target[2:], logits[2:] > 0)
    rest.update(target[:2], logits[:2] > 0)
    first.merge(rest)
    np.testing.assert_array_equal(first.counts, whole.counts)
    with pytest.raises(ValueError, match="Cannot merge 2 classes"):
        whole.merge(MultilabelCounts(2, IGNORE))


def test_counts_refuse_what_is_neither_0_nor_1(maps):
    target, logits = maps
    counts = MultilabelCounts(3)
    with pytest.raises(DataError, match=r"target holds 255 \(\d+ places"):
        counts.update(target, logits > 0)
    with pytest.raises(ValueError, match="compare logits with 0"):
        counts.update(target, logits)
    with pytest.raises(ValueError, match=r"must both be \(\.\.\., 3\)"):
        counts.update(target[..., :2], logits[..., :2] > 0)
    assert not counts.counts.any()


@pytest.mark.parametrize("classes", [1, 3])
def test_mean_iou_streams_the_same_counts(maps, classes):
    target, logits = (array[..., :classes] for array in maps)
    reference = MultilabelCounts(classes, IGNORE)
    reference.update(target, logits > 0)
    metric = MeanIoU(classes, IGNORE, mode="binary" if classes == 1 else "multilabel")
    for image in range(4):
        metric.update_state(target[image : image + 1], logits[image : image + 1])
    np.testing.assert_array_equal(metric.exact().counts, reference.counts)
    assert float(metric.result()) == pytest.approx(reference.mean_iou())
    again = MeanIoU.from_config(json.loads(json.dumps(metric.get_config())))
    again.update_state(target, logits)
    assert float(again.result()) == float(metric.result())


def test_mean_iou_takes_binary_masks_without_a_channel_and_leaves_announced_distances_alone(maps):
    target, logits = (array[..., :1] for array in maps)
    values = []
    for given in (target, target[..., 0], np.concatenate([target, logits, np.full_like(logits, -16384)], axis=-1)):
        metric = MeanIoU(1, IGNORE, mode="binary", distances=given.shape[-1] == 3)
        metric.update_state(given, logits)
        values.append(float(metric.result()))
    assert values[0] == values[1] == values[2]


@pytest.mark.parametrize(
    ("mode", "classes", "target", "logits"),
    [
        ("binary", 1, (2, 4, 5, 2), (2, 4, 5, 1)),
        ("binary", 1, (2, 4, 5, 2), (2, 4, 5, 2)),
        ("binary", 1, (2, 1, 4, 5), (2, 4, 5, 1)),
        ("binary", 1, (2, 4, 5), (2, 4, 5)),
        ("multilabel", 3, (2, 4, 5, 6), (2, 4, 5, 3)),
        ("multilabel", 1, (2, 4, 5, 3), (2, 4, 5, 3)),
        ("multilabel", 3, (2, 4, 5), (2, 4, 5, 3)),
        ("multiclass", 3, (2, 4, 5, 3), (2, 4, 5, 3)),
        ("multiclass", 3, (2, 4, 5, 4), (2, 4, 5, 3)),
        ("multiclass", 3, (2, 3, 4, 5), (2, 4, 5, 3)),
    ],
)
def test_mean_iou_refuses_what_could_be_one_hot(mode, classes, target, logits):
    metric = MeanIoU(classes, mode=mode)
    with pytest.raises(ValueError, match=r"one-hot labels into class indices .* distances=True"):
        metric.update_state(np.ones(target, "int32"), np.ones(logits, "float32"))
    assert not np.asarray(metric.low).any()


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 4, 5, 1), (2, 4, 5, 4)])
def test_logits_are_not_a_class_map(shape):
    with pytest.raises(ValueError, match=r"neither logits .* MeanIoU\(1, mode=\"binary\"\)"):
        MeanIoU(2).update_state(np.ones((2, 4, 5), "int32"), np.ones(shape, "float32"))


def test_one_hot_maps_are_not_class_maps():
    labels = np.random.default_rng(0).integers(0, 2, (2, 4, 5))
    one_hot = np.eye(2, dtype="int32")[labels]
    matrix, surface = ConfusionMatrix(2), SurfaceMetrics(2)
    for true, found, named in ((one_hot, one_hot, "Target"), (labels.repeat(2).reshape(2, 4, 5, 2), one_hot, "Pred")):
        with pytest.raises(ValueError, match=rf"{named}.*\(2, 4, 5, 2\) is one-hot: give class indices"):
            matrix.update(true, found)
        with pytest.raises(ValueError, match=rf"{named}.*\(4, 5, 2\) is one-hot"):
            surface.update(true[0], found[0])
    matrix.update(labels, labels)
    assert matrix.counts.sum() == labels.size
    with pytest.raises(ValueError, match="Binary mode has one channel"):
        Calibration(mode="binary").update(one_hot, one_hot.astype("float32"))


def test_mean_iou_is_nan_once_a_target_is_neither_0_nor_1(maps):
    metric = MeanIoU(3, mode="multilabel")
    metric.update_state(*maps)
    assert np.isnan(metric.result())
    with pytest.raises(DataError, match="neither 0 or 1 nor the ignore index"):
        metric.exact()


@pytest.mark.parametrize("kind", [MeanIoU, SurfaceMetrics])
def test_modes_and_numbers_of_classes_that_make_no_sense_are_errors_at_construction(kind):
    with pytest.raises(ValueError, match="no mode 'multi'"):
        kind(3, mode="multi")
    with pytest.raises(ValueError, match="needs 1 class in binary mode, not 2"):
        kind(2, mode="binary")
    with pytest.raises(ValueError, match="at least 2 classes in multiclass mode, not 1"):
        kind(1)
    with pytest.raises(ValueError, match="no mode"):
        Calibration(mode="multi")


def test_surfaces_of_each_class_are_those_of_a_map_of_two():
    rng = np.random.default_rng(2)
    blocks = rng.integers(0, 2, (2, 3, 5, 5, 2))
    target, found = (np.kron(block, np.ones((1, 4, 4, 1), int)) for block in blocks)
    target[0, :5, :7, 1] = IGNORE
    metrics = SurfaceMetrics(2, IGNORE, mode="multilabel")
    metrics.update(target, found)
    for c in range(2):
        alone = SurfaceMetrics(2, IGNORE)
        alone.update(target[..., c], found[..., c])
        for figure in ("hausdorff95", "average_surface_distance", "boundary_f1", "boundary_iou"):
            assert getattr(metrics, figure)()[c] == getattr(alone, figure)()[1], figure
    with pytest.raises(DataError, match="neither 0 nor 1"):
        SurfaceMetrics(2, mode="multilabel").update(target, found)


def test_calibration_of_sigmoids_is_that_of_both_outcomes(maps):
    target, logits = maps
    p = 1 / (1 + np.exp(-logits))
    sigmoids, pairs = Calibration(10, IGNORE, mode="multilabel"), Calibration(10, IGNORE)
    sigmoids.update(target, p)
    pairs.update(target, np.stack([1 - p, p], axis=-1))
    assert sigmoids.ece() == pairs.ece() > 0
    with pytest.raises(ValueError, match="must have one shape"):
        sigmoids.update(target[..., 0], p)
    with pytest.raises(ValueError, match="Cannot merge"):
        sigmoids.merge(pairs)


def test_modes_work_in_a_plain_compile():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Conv2D(2, 1)(image))
    from segzoo.losses import BinaryCrossEntropy, Boundary, WeightedSum

    loss = WeightedSum([BinaryCrossEntropy(mode="multilabel"), Boundary(mode="multilabel")], [1, 0.1])
    model.compile("sgd", loss, metrics=[MeanIoU(2, mode="multilabel", distances=True)])
    masks = np.random.default_rng(0).integers(0, 2, (4, 8, 8, 2))
    target = np.stack([loss.make_target(mask, 2) for mask in masks])
    history = model.fit(np.zeros((4, 8, 8, 3)), target, verbose=0).history
    assert np.isfinite(history["loss"][0]) and 0 <= history["mean_iou"][0] <= 1

"""A task: shapes and values that follow from classes, mode and ignore index, and the arguments of segzoo 0.1.0."""

from __future__ import annotations

import numpy as np
import pytest

from segzoo.data import Labels
from segzoo.task import Task, array_probabilities, predict_classes

CLASSES = ("road", "car", "sky")


@pytest.mark.parametrize(
    ("mode", "classes", "channels", "largest", "shape"),
    [
        ("multiclass", CLASSES, 3, 2, (2, 4, 5)),
        ("binary", CLASSES[:2], 1, 1, (2, 4, 5)),
        ("multilabel", CLASSES, 3, 1, (2, 4, 5, 3)),
    ],
)
def test_shapes_and_labels_follow_from_the_mode(mode, classes, channels, largest, shape):
    task = Task(classes, 255, mode)
    assert (task.channels, task.largest_label, task.mask_shape(2, 4, 5)) == (channels, largest, shape)
    assert task.multilabel == (mode == "multilabel")


def test_another_mode_is_refused():
    with pytest.raises(ValueError, match="mode must be one of multiclass, binary, multilabel, not 'softmax'"):
        Task(CLASSES, mode="softmax")


@pytest.mark.parametrize(
    ("ignored", "dtype"), [(255, "uint8"), (256, "uint16"), (-1, "int16"), (-40000, "int32"), (0, "uint8")]
)
def test_masks_have_the_smallest_type_that_opencv_can_warp(ignored, dtype):
    assert Task(CLASSES, ignored).dtype == dtype


def test_predictions_and_probabilities_of_each_mode():
    logits = np.log(np.array([[0.2, 0.5, 0.3], [8.0, 4.0, 4.0]], "float32"))
    multiclass = Task(CLASSES)
    assert multiclass.predict(logits).tolist() == [1, 0]
    np.testing.assert_allclose(multiclass.probabilities(logits), [[0.2, 0.5, 0.3], [0.5, 0.25, 0.25]], rtol=1e-6)
    multilabel = Task(CLASSES, mode="multilabel")
    assert multilabel.predict(logits).tolist() == [[0, 0, 0], [1, 1, 1]]
    np.testing.assert_allclose(multilabel.probabilities(logits)[1], [8 / 9, 0.8, 0.8], rtol=1e-6)
    binary = Task(CLASSES[:2], mode="binary")
    single = np.log(np.array([[0.25], [3.0]], "float32"))
    assert binary.predict(single).tolist() == [0, 1]
    np.testing.assert_allclose(binary.probabilities(single), [[0.8, 0.2], [0.25, 0.75]], rtol=1e-6)


@pytest.mark.parametrize(("mode", "channels"), [("multiclass", 3), ("binary", 1), ("multilabel", 3)])
def test_probabilities_of_arrays_are_those_of_tensors(mode, channels):
    logits = np.random.default_rng(0).normal(0, 40, (5, 7, channels)).astype("float32")
    logits[0, 0], logits[0, 1] = 1e4, -1e4
    found = array_probabilities(logits, mode)
    assert found.dtype == np.float32
    expected = Task(("a", "b", "c")[: max(2, channels)], mode=mode).probabilities(logits)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize(("mode", "thresholds"), [("binary", (0.8,)), ("multilabel", (0.2, 0.5, 0.97))])
def test_thresholds_compare_probabilities_of_arrays_and_tensors(mode, thresholds):
    from keras import ops

    logits = np.random.default_rng(0).normal(0, 2, (4, 50, len(thresholds))).astype("float32")
    expected = 1 / (1 + np.exp(-logits.astype(float))) > thresholds
    expected = expected[..., 0] if mode == "binary" else expected
    np.testing.assert_array_equal(predict_classes(logits, mode, thresholds), expected)
    tensor = predict_classes(ops.convert_to_tensor(logits), mode, thresholds)
    np.testing.assert_array_equal(ops.convert_to_numpy(tensor), expected)
    np.testing.assert_array_equal(predict_classes(logits, mode, [0.5] * len(thresholds)), predict_classes(logits, mode))


def test_multilabel_of_segzoo_0_1_0_works_and_warns():
    logits = np.ones((1, 2, 2, 3), "float32")
    with pytest.warns(DeprecationWarning, match='give mode="multilabel"'):
        assert predict_classes(logits, multilabel=True).shape == logits.shape
    with pytest.warns(DeprecationWarning, match='give mode="multilabel"'):
        assert Labels(CLASSES, multilabel=True) == Labels(CLASSES, mode="multilabel")
    with pytest.warns(DeprecationWarning, match='give mode="multilabel"'):
        assert Labels(CLASSES, multilabel=False).mode == "multiclass"
    with pytest.warns(DeprecationWarning, match='give "multilabel" or "multiclass"') as caught:
        assert Labels(CLASSES, 255, True).mode == "multilabel"
    assert caught[0].filename == __file__


def test_the_text_that_fingerprints_are_made_of_is_that_of_segzoo_0_1_0():
    assert Labels(("a", "b"), 7, "multilabel", 99).settings == (
        "Labels(classes=('a', 'b'), ignore_index=7, multilabel=True, max_pixels=99)"
    )

"""The Keras metric against the NumPy matrix."""

import keras
import numpy as np
import pytest
from keras import ops

from segzoo.errors import DataError
from segzoo.losses import CrossEntropy
from segzoo.metrics import ConfusionMatrix, MeanIoU

IGNORE = 255


@pytest.fixture
def data():
    """Targets of classes 0, 1, 2 out of 5 with ignored pixels, and logits that never choose class 4."""
    rng = np.random.default_rng(11)
    target = rng.choice([0, 1, 2, IGNORE], size=(6, 9, 11), p=[0.5, 0.3, 0.1, 0.1]).astype("uint8")
    logits = rng.normal(size=(6, 9, 11, 5)).astype("float32")
    logits[..., 4] = -9
    return target, logits


@pytest.fixture
def reference(data):
    matrix = ConfusionMatrix(5, IGNORE)
    matrix.update(data[0], data[1].argmax(-1))
    return matrix


def number(value):
    return float(ops.convert_to_numpy(value))


@pytest.mark.parametrize("size", [1, 4, 6])
def test_equals_the_numpy_matrix_whatever_the_batch_size(data, reference, size):
    metric = MeanIoU(5, IGNORE)
    for start in range(0, 6, size):
        metric.update_state(*[array[start : start + size] for array in data])
    np.testing.assert_array_equal(metric.exact().counts, reference.counts)
    assert number(metric.result()) == pytest.approx(reference.mean_iou(), rel=1e-6)
    metric.reset_state()
    assert metric.exact().counts.sum() == 0


def test_logits_class_maps_and_extra_axes_are_the_same(data, reference):
    target, logits = data
    classes = logits.argmax(-1)
    for y_true in (target, target[..., None], target.astype("float32")):
        for y_pred in (logits, ops.cast(logits, "bfloat16"), classes, classes[..., None]):
            metric = MeanIoU(5, IGNORE)
            metric.update_state(y_true, y_pred)
            # bfloat16 rounds two logits to a tie at a few pixels.
            few = 5 if "bfloat16" in str(y_pred.dtype) else 0
            assert np.abs(metric.exact().counts - reference.counts).sum() <= few


def test_counts_are_exact_beyond_int32():
    # As if 2^31 - 1 and more pixels had gone before, in a cell, in a carry and in an odd one.
    before = np.array([2**24 - 1, 2**31 - 1, 10**11 + 7, 3], "int64")
    metric = MeanIoU(2)
    metric.low.assign(np.append(before % 2**24, 0).astype("int32"))
    metric.high.assign(np.append(before // 2**24, 0).astype("int32"))
    target, predicted = np.array([[[0, 0, 1, 1]]]), np.array([[[0, 1, 0, 1]]])
    for _ in range(3):
        metric.update_state(target, predicted)
    exact = ConfusionMatrix(2, counts=before.reshape(2, 2) + 3)
    np.testing.assert_array_equal(metric.exact().counts, exact.counts)
    assert number(metric.result()) == pytest.approx(exact.mean_iou(), rel=1e-6)


def test_nothing_counted_is_nan():
    metric = MeanIoU(3, IGNORE)
    metric.update_state(np.full((1, 2, 2), IGNORE), np.zeros((1, 2, 2), "int32"))
    assert np.isnan(number(metric.result()))


@pytest.mark.parametrize("label", [3, -1, 254])
def test_a_label_that_is_no_class_shows(label):
    # keras.metrics.MeanIoU takes it without a word.
    metric = MeanIoU(3, IGNORE)
    metric.update_state(np.array([[[0, 1, label, IGNORE]]]), np.array([[[0, 1, 2, 2]]]))
    assert np.isnan(number(metric.result()))
    with pytest.raises(DataError, match="1 pixels"):
        metric.exact()


def test_other_shapes_and_weights_are_refused(data):
    target, logits = data
    metric = MeanIoU(5, IGNORE)
    with pytest.raises(ValueError, match=r"neither logits \(B, H, W, 5\) nor a class map"):
        metric.update_state(target, logits[..., :4])
    with pytest.raises(ValueError, match="must be"):
        metric.update_state(target[:, :8], logits)
    with pytest.raises(ValueError, match="sample_weight"):
        metric.update_state(target, logits, sample_weight=np.ones(6))


def test_in_a_compiled_model_and_after_a_reload(data, reference, tmp_path):
    target, logits = data
    inputs = keras.Input((None, None, 5))
    model = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    model.compile(loss=CrossEntropy(IGNORE), metrics=[MeanIoU(5, IGNORE)])
    for _ in range(2):  # The state is reset between evaluations.
        found = model.evaluate(logits, target, batch_size=4, verbose=0, return_dict=True)
        assert found["mean_iou"] == pytest.approx(reference.mean_iou(), rel=1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    found = again.evaluate(logits, target, batch_size=2, verbose=0, return_dict=True)
    assert found["mean_iou"] == pytest.approx(reference.mean_iou(), rel=1e-6)


def test_config_round_trip():
    metric = MeanIoU(5, IGNORE, name="val")
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(metric))
    assert again.get_config() == metric.get_config()
    assert (again.classes, again.ignore_index, again.name) == (5, IGNORE, "val")


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="about TensorFlow's compiler")
def test_xla_compiles_it(data, reference):
    # tf.math.bincount would not be.
    import tensorflow as tf

    metric = MeanIoU(5, IGNORE)

    @tf.function(jit_compile=True)
    def step(target, logits):
        metric.update_state(target, logits)
        return metric.result()

    assert number(step(*map(tf.constant, data))) == pytest.approx(reference.mean_iou(), rel=1e-6)
    np.testing.assert_array_equal(metric.exact().counts, reference.counts)

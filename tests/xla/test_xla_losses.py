"""Every loss and metric, in every mode, is the same compiled by XLA: value, gradient, counts."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from segzoo.data import with_distances
from segzoo.losses import LOSSES, ClassPresence, create
from segzoo.metrics import MeanIoU

tf = pytest.importorskip("tensorflow")

IGNORE = 255
CLASSES = {"multiclass": 3, "binary": 1, "multilabel": 3}
CASES = [(name, mode) for name in LOSSES for mode in LOSSES[name].modes]
# By default one mode of each loss and metric, three of them in a sum; the marker `xla` has all of them, and options.
SUM = {"dice": 1.0, "boundary": 0.1, "cldice": 0.5}
MODES = ["multiclass", *(pytest.param(mode, marks=pytest.mark.xla) for mode in ("binary", "multilabel"))]
OPTIONS = [
    ("cross_entropy", "multiclass", {"label_smoothing": 0.1, "class_weights": [1.0, 2.0, 0.5]}),
    ("cross_entropy", "multiclass", {"ohem_fraction": 0.3}),
    ("binary_cross_entropy", "multilabel", {"pos_weight": [1.0, 3.0, 2.0]}),
    ("dice", "multiclass", {"per_image": True, "smooth": 1.0}),
    ("lovasz_softmax", "multiclass", {"per_image": True}),
    ("lovasz_hinge", "binary", {"per_image": True}),
    ("softmax_focal", "multiclass", {"gamma": 0.5}),
    ("tversky", "binary", {"gamma": 0.75}),
]


def batch(mode: str, distances: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Targets with ignored pixels, and logits, 2 x 9 x 7."""
    rng = np.random.default_rng(3)
    classes = CLASSES[mode]
    labels = rng.integers(0, max(2, classes), (2, 9, 7, classes) if mode == "multilabel" else (2, 9, 7))
    labels = np.minimum(labels, 1) if mode != "multiclass" else labels
    labels[:, :2, :3] = IGNORE
    target = labels.astype("float32")
    if distances:
        target = np.stack([with_distances(mask, classes, IGNORE) for mask in labels])
    return target, rng.normal(0, 2, (2, 9, 7, classes)).astype("float32")


def value_and_gradient(loss, target: np.ndarray, logits: np.ndarray, jit: bool) -> tuple[np.ndarray, np.ndarray]:
    def step(target, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(target, logits)
        return value, tape.gradient(value, logits)

    step = tf.function(step, jit_compile=True, autograph=False) if jit else step
    return [result.numpy() for result in step(tf.constant(target), tf.constant(logits))]


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        *[
            pytest.param(
                name,
                mode,
                {},
                marks=() if mode == LOSSES[name].modes[0] and name not in SUM else pytest.mark.xla,
            )
            for name, mode in CASES
        ],
        *[pytest.param(*case, marks=pytest.mark.xla) for case in OPTIONS],
    ],
    ids=lambda part: str(part)[:30],
)
def test_value_and_gradient_are_those_without_xla(name: str, mode: str, options: dict) -> None:
    loss = LOSSES[name](ignore_index=IGNORE, mode=mode, **options)
    target, logits = batch(mode, loss.takes_distances)
    (value, slope), (expected, expected_slope) = (
        value_and_gradient(loss, target, logits, jit) for jit in (True, False)
    )
    assert np.isfinite(value) and np.abs(expected_slope).max() > 0
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(slope, expected_slope, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_a_sum_of_losses_on_distances(mode: str) -> None:
    loss = create(SUM, IGNORE, mode)
    found, expected = (value_and_gradient(loss, *batch(mode, True), jit) for jit in (True, False))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("mode", MODES)
def test_the_loss_of_a_classification_head(mode: str) -> None:
    target, logits = batch(mode)
    loss = ClassPresence(IGNORE, mode)
    found, expected = (value_and_gradient(loss, target, logits[:, 0, 0], jit) for jit in (True, False))
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-6)


@pytest.mark.xla  # of the mode of all classes by default in tests/metrics/test_mean_iou.py
@pytest.mark.parametrize("mode", CLASSES)
def test_the_metric_of_a_compiled_step_counts_the_same(mode: str) -> None:
    target, logits = batch(mode)
    compiled, plain = (MeanIoU(CLASSES[mode], IGNORE, mode) for _ in range(2))
    tf.function(compiled.update_state, jit_compile=True, autograph=False)(tf.constant(target), tf.constant(logits))
    plain.update_state(target, logits)
    np.testing.assert_array_equal(compiled.exact().counts, plain.exact().counts)
    assert compiled.exact().counts.sum() == (target != IGNORE).sum()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(compiled.result()), float(plain.result()), rtol=1e-6)

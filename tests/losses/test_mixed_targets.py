"""Losses on the soft masks of mixed samples: the mean of the losses on both masks, as mixup's paper has it."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from segzoo import losses
from segzoo.data import create_batch_transform
from segzoo.task import Task

IGNORE, WEIGHT = 255, 0.75
RNG = np.random.default_rng(0)


class Fixed:
    """A generator whose every weight is `WEIGHT`, and partners are neighbours."""

    def permutation(self, count):
        return np.arange(count)[::-1]

    def beta(self, a, b, size):
        return np.full(size, WEIGHT)

    def random(self, size):
        return np.zeros(size)


def mixed(mode: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Masks, the same in the order of partners, soft masks of both together, and the number of logits."""
    labels = [0, 1, 2, IGNORE] if mode == "multiclass" else [0, 1, IGNORE]
    shape = (2, 5, 6, 3) if mode == "multilabel" else (2, 5, 6)
    masks = RNG.choice(labels, shape).astype("int32")
    others = masks[::-1]
    ignored = (masks == IGNORE) | (others == IGNORE)
    one, other = np.where(ignored, IGNORE, masks), np.where(ignored, IGNORE, others)
    classes = ["a", "b"] if mode == "binary" else ["a", "b", "c"]
    mixup = create_batch_transform("mixup", Task(tuple(classes), IGNORE, mode))
    _, soft = mixup(np.zeros((2, 5, 6, 3), "uint8"), masks, Fixed())
    return one, other, soft, 1 if mode == "binary" else 3


def number(loss, target, logits) -> float:
    return float(ops.convert_to_numpy(loss(target, logits)))


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("cross_entropy", "multiclass"),
        ("softmax_focal", "multiclass"),
        ("sigmoid_focal", "multiclass"),
        ("binary_cross_entropy", "binary"),
        ("binary_cross_entropy", "multilabel"),
        ("sigmoid_focal", "binary"),
        ("sigmoid_focal", "multilabel"),
    ],
)
def test_a_mean_over_pixels_is_the_mean_of_both_masks(name, mode):
    one, other, soft, channels = mixed(mode)
    logits = RNG.normal(0, 2, (2, 5, 6, channels)).astype("float32")
    loss = losses.create({name: 1.0}, IGNORE, mode)
    expected = WEIGHT * number(loss, one, logits) + (1 - WEIGHT) * number(loss, other, logits)
    assert number(loss, soft, logits) == pytest.approx(expected, rel=1e-5)


def test_class_weights_count_by_shares():
    """As with two pixels in place of each, of the one and of the other mask, weighted by their shares."""
    one, other, soft, channels = mixed("multiclass")
    logits = RNG.normal(size=(2, 5, 6, channels)).astype("float32")
    loss = losses.CrossEntropy(IGNORE, class_weights=[1.0, 3.0, 0.5])
    both, twice = np.concatenate([one, other]), np.concatenate([logits, logits])
    expected = number(lambda y, z: loss(y, z, np.array([WEIGHT] * 2 + [1 - WEIGHT] * 2, "float32")), both, twice)
    assert number(loss, soft, logits) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", [name for name in losses.LOSSES if losses.LOSSES[name].takes_soft])
def test_every_loss_that_takes_shares_is_finite_and_sees_nothing_ignored(name):
    for mode in losses.LOSSES[name].modes:
        *_, soft, channels = mixed(mode)
        logits = RNG.normal(size=(2, 5, 6, channels)).astype("float32")
        ignored = ~soft.any(-1, keepdims=True) if mode == "multiclass" else soft == IGNORE
        loss = losses.create({name: 1.0}, IGNORE, mode)
        value = number(loss, soft, logits)
        assert np.isfinite(value)
        if name != "cldice":  # whose skeletons reach over a neighbourhood, where an ignored pixel is of no class
            changed = np.where(np.broadcast_to(ignored, logits.shape), logits + 3, logits).astype("float32")
            assert number(loss, soft, changed) == pytest.approx(value, rel=1e-5)


def test_hard_masks_in_the_soft_form_have_the_value_of_labels():
    for name in losses.LOSSES:
        for mode in losses.LOSSES[name].modes:
            if not losses.LOSSES[name].takes_soft:
                continue
            masks, *_, channels = mixed(mode)
            classes = ["a", "b"] if mode == "binary" else ["a", "b", "c"]
            soft = create_batch_transform("mixup", Task(tuple(classes), IGNORE, mode)).soft(masks)
            logits = RNG.normal(size=(2, 5, 6, channels)).astype("float32")
            loss = losses.create({name: 1.0}, IGNORE, mode)
            assert number(loss, soft, logits) == pytest.approx(number(loss, masks, logits), rel=1e-5), (name, mode)

"""Targets that losses make of a mask (`make_target`), and their concatenation and split by a sum of losses."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from sklearn.metrics import log_loss

from segzoo import losses
from segzoo.data import signed_distances, with_distances
from segzoo.losses import Boundary, ClassPresence, CrossEntropy, Dice, PixelLoss, WeightedSum
from segzoo.losses.replicas import ratio_of_sums

IGNORE = 255
RNG = np.random.default_rng(0)
MASKS = np.where(RNG.random((2, 8, 9)) < 0.1, IGNORE, np.kron(RNG.integers(0, 3, (2, 2, 3)), np.ones((4, 3), int)))
LOGITS = RNG.normal(size=(2, 8, 9, 3)).astype("float32")


class Weighted(PixelLoss):
    """Cross-entropy with a weight for each pixel, made from the mask: twice as much as the label, plus one."""

    def __init__(self, factor: float = 2.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def extra_channels(self, classes):
        return 1

    def make_target(self, mask, classes):
        return np.stack([mask, 1 + self.factor * mask], axis=-1).astype("float32")

    def value(self, target, logits):
        weights = target.extra[..., 0] * (1.0 if target.weights is None else target.weights)
        costs = keras.losses.sparse_categorical_crossentropy(target.labels, logits, from_logits=True)
        return ratio_of_sums(costs * weights, weights)


def targets(loss, masks=MASKS, classes: int = 3) -> np.ndarray:
    return np.stack([loss.make_target(mask, classes) for mask in masks])


def number(loss, target, logits=LOGITS) -> float:
    return float(ops.convert_to_numpy(loss(target, logits)))


def test_a_loss_on_the_mask_alone_takes_it_as_it_is():
    for loss in (Dice(IGNORE), CrossEntropy(IGNORE), losses.create({"dice": 1.0, "cross_entropy": 0.5}, IGNORE)):
        mask = MASKS[0]
        assert loss.make_target(mask, 3) is mask and loss.extra_channels(3) == 0


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_takes_the_target_that_it_makes(name):
    cls = losses.LOSSES[name]
    for mode in cls.modes:
        loss = cls(ignore_index=IGNORE, mode=mode)
        masks, classes = MASKS, 3
        if mode == "binary":
            masks, classes = np.where(MASKS == IGNORE, IGNORE, MASKS == 1), 1
        if mode == "multilabel":
            masks = np.stack([np.where(MASKS == IGNORE, IGNORE, label <= MASKS) for label in range(3)], axis=-1)
        assert np.isfinite(number(loss, targets(loss, masks, classes), LOGITS[..., :classes]))


def test_the_sum_gives_each_loss_its_own_channels():
    parts = [Dice(IGNORE), Weighted(ignore_index=IGNORE), Boundary(IGNORE), Weighted(factor=5.0, ignore_index=IGNORE)]
    total = WeightedSum(parts, [1.0, 0.5, 0.25, 2.0])
    target = targets(total)
    assert target.shape == (2, 8, 9, 1 + 1 + 4 + 1) and total.extra_channels(3) == 6
    np.testing.assert_array_equal(target[..., 0], MASKS)
    np.testing.assert_array_equal(target[..., 1], 1 + 2 * MASKS)
    np.testing.assert_array_equal(target[0, ..., 2:5], signed_distances(MASKS[0], 3, IGNORE))
    assert (target[..., 5] == -16384).all()
    np.testing.assert_array_equal(target[..., 6], 1 + 5 * MASKS)
    alone = sum(w * number(loss, targets(loss)) for w, loss in zip(total.weights, parts, strict=True))
    assert number(total, target) == pytest.approx(alone, rel=1e-6)


def test_a_sum_in_a_sum_asks_for_what_its_losses_ask():
    inner = WeightedSum([Weighted(ignore_index=IGNORE), Boundary(IGNORE)], [1.0, 0.1])
    total = WeightedSum([CrossEntropy(IGNORE), inner], [1.0, 2.0])
    alone = number(CrossEntropy(IGNORE), MASKS) + 2 * number(inner, targets(inner))
    assert number(total, targets(total)) == pytest.approx(alone, rel=1e-6)


def test_losses_on_distances_share_them():
    total = WeightedSum([Boundary(IGNORE), Boundary(IGNORE, class_weights=[0, 1, 1])], [1.0, 1.0])
    np.testing.assert_array_equal(targets(total), [with_distances(mask, 3, IGNORE) for mask in MASKS])
    assert np.isfinite(number(total, targets(total)))


def test_a_target_without_the_channels_is_refused():
    with pytest.raises(ValueError, match=r"1 or 3 channels of its own and 1 more, as its make_target"):
        number(Weighted(ignore_index=IGNORE), MASKS)
    with pytest.raises(ValueError, match="1 or 3 channels of its own and 5 more"):
        number(WeightedSum([Weighted(ignore_index=IGNORE), Boundary(IGNORE)], [1, 1]), MASKS)


def test_shares_have_no_distances():
    with pytest.raises(ValueError, match="outlines of integer masks"):
        Boundary(IGNORE).make_target(np.zeros((4, 4, 3), "float32"), 3)
    assert [name for name in losses.LOSSES if not losses.LOSSES[name].takes_soft] == ["boundary"]


def test_presence_finds_the_classes_of_a_mask():
    loss = ClassPresence(IGNORE)
    mask = np.array([[0, 2], [IGNORE, 2]], np.uint8)
    np.testing.assert_array_equal(loss.make_target(mask, 4), [1, 0, 1, 0])
    np.testing.assert_array_equal(ClassPresence(0).make_target(mask, 3), [0, 0, 1])
    np.testing.assert_array_equal(loss.make_target(np.full((2, 2), IGNORE), 2), [0, 0])
    shares = np.array([[[0.25, 0.75, 0.0], [0, 0, 0]]], "float32")
    np.testing.assert_array_equal(loss.make_target(shares, 3), [0.25, 0.75, 0])
    binary = ClassPresence(IGNORE, "binary")
    np.testing.assert_array_equal(binary.make_target(np.array([[0, 1, IGNORE]]), 1), [1])
    np.testing.assert_array_equal(binary.make_target(np.array([[0, 0, IGNORE]]), 1), [0])
    np.testing.assert_array_equal(binary.make_target(np.array([[[0.5], [IGNORE]]], "float32"), 1), [0.5])
    several = ClassPresence(IGNORE, "multilabel").make_target(np.array([[[1, 0, IGNORE], [0, 0, 0]]]), 3)
    np.testing.assert_array_equal(several, [1, 0, 0])


def test_presence_is_the_same_from_classes_as_from_masks():
    loss, logits = ClassPresence(IGNORE), LOGITS[:, 0, 0]
    held = targets(loss)
    assert number(loss, held, logits) == number(loss, MASKS, logits)
    expected = log_loss(held.ravel(), 1 / (1 + np.exp(-logits.ravel().astype("float64"))))
    assert number(loss, held, logits) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match="was given 2 classes for 3 logits"):
        loss(held[:, :2], logits)

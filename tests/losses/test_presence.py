"""The loss of a classification head, against scikit-learn's log loss of which classes a mask holds."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss

from segzoo.losses import ClassPresence

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(3, 4)).astype("float32")
MASKS = np.zeros((3, 6, 5), "int32")
MASKS[1, 2, 3] = 3
MASKS[1, 0, :2] = 1
MASKS[2] = 255
MASKS[2, 5, 4] = 2
HELD = np.array([[1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 1, 0]])


def expected(held: np.ndarray, logits: np.ndarray) -> float:
    return log_loss(held.ravel(), expit(logits.astype("float64")).ravel())


@pytest.mark.parametrize("dtype", ["int32", "uint8", "float32"])
def test_multiclass(dtype: str) -> None:
    loss = ClassPresence(ignore_index=255)
    assert float(loss(MASKS.astype(dtype), LOGITS)) == pytest.approx(expected(HELD, LOGITS), rel=1e-5)
    with_distances = np.concatenate(
        [MASKS[..., None], RNG.normal(size=(3, 6, 5, 4)), np.full((3, 6, 5, 1), -16384)], axis=-1
    )
    loss = ClassPresence(ignore_index=255, distances=True)
    assert float(loss(with_distances, LOGITS)) == pytest.approx(expected(HELD, LOGITS), rel=1e-5)


@pytest.mark.parametrize(
    ("mode", "masks", "classes"),
    [
        ("multiclass", (3, 6, 5, 4), 4),
        ("multiclass", (3, 6, 5, 5), 4),
        ("binary", (3, 6, 5, 2), 1),
        ("multilabel", (3, 6, 5), 4),
        ("multilabel", (3, 6, 5, 8), 4),
    ],
)
def test_one_hot_masks_and_other_numbers_of_channels_are_refused(mode: str, masks: tuple, classes: int) -> None:
    with pytest.raises(ValueError, match=rf"not {re.escape(str(masks))}.*argmax.*distances=True"):
        ClassPresence(mode=mode)(np.zeros(masks, "float32"), LOGITS[:, :classes])


def test_binary_mode_has_one_logit() -> None:
    with pytest.raises(ValueError, match="one logit in binary mode, not 2"):
        ClassPresence(mode="binary")(MASKS, LOGITS[:, :2])


def test_a_class_number_may_be_the_ignore_index() -> None:
    held = HELD * [0, 1, 1, 1]
    assert float(ClassPresence(ignore_index=0)(MASKS, LOGITS)) == pytest.approx(expected(held, LOGITS), rel=1e-5)


def test_binary_and_multilabel() -> None:
    binary = (MASKS == 3).astype("int32")
    loss = ClassPresence(ignore_index=255, mode="binary")
    assert float(loss(binary, LOGITS[:, :1])) == pytest.approx(expected(HELD[:, 3:], LOGITS[:, :1]), rel=1e-5)
    labels = np.stack([index == MASKS for index in range(4)], axis=-1).astype("int32")
    loss = ClassPresence(mode="multilabel")
    assert float(loss(labels, LOGITS)) == pytest.approx(expected(HELD, LOGITS), rel=1e-5)


def test_config_round_trip() -> None:
    loss = ClassPresence(ignore_index=7, mode="multilabel", name="held", distances=True)
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()

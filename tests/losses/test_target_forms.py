"""The form of a target is never guessed from its shape."""

from __future__ import annotations

import numpy as np
import pytest

from segzoo.data import with_distances
from segzoo.errors import DataError
from segzoo.losses import LOSSES, BinaryCrossEntropy, Boundary, ClassPresence, WeightedSum
from segzoo.metrics import MeanIoU

RNG = np.random.default_rng(0)
TRUTH = (RNG.random((2, 8, 7)) > 0.7).astype("int32")
LABELS = RNG.integers(0, 3, (2, 8, 7))
OTHERS = [name for name in LOSSES if LOSSES[name] is not Boundary]


def value(name: str, mode: str, target: np.ndarray, logits: np.ndarray) -> float:
    return float(LOSSES[name](mode=mode)(target, logits))


@pytest.mark.parametrize("name", [name for name in OTHERS if "binary" in LOSSES[name].modes])
def test_a_binary_mask_and_its_channel_are_the_same_and_one_hot_is_refused(name: str) -> None:
    """Two channels of background and object gave the loss of the inverted mask: the first was taken."""
    logits = RNG.normal(size=(2, 8, 7, 1)).astype("float32")
    expected = value(name, "binary", TRUTH, logits)
    assert value(name, "binary", TRUTH[..., None], logits) == expected
    assert value(name, "binary", 1 - TRUTH, logits) != pytest.approx(expected)
    one_hot = np.eye(2, dtype="float32")[TRUTH]
    with pytest.raises(ValueError, match="give the object's"):
        value(name, "binary", one_hot, logits)
    assert value(name, "binary", one_hot[..., 1], logits) == expected


@pytest.mark.parametrize("name", [name for name in OTHERS if "multiclass" in LOSSES[name].modes])
@pytest.mark.parametrize("classes", [4, 6])
def test_one_hot_of_more_classes_is_no_mask_with_distances(name: str, classes: int) -> None:
    """Three logits: four channels looked like a mask and three distances, six like one-hot classes and distances."""
    logits = RNG.normal(size=(2, 8, 7, 3)).astype("float32")
    assert value(name, "multiclass", np.eye(3, dtype="float32")[LABELS], logits) == pytest.approx(
        value(name, "multiclass", LABELS, logits), rel=1e-5
    )
    with pytest.raises(ValueError, match=r"Targets of multiclass mode.*targets \(2, 8, 7"):
        value(name, "multiclass", np.eye(classes, dtype="float32")[LABELS], logits)


@pytest.mark.parametrize("shape", [(2, 1, 8, 7), (2, 8), (2, 56), (2, 8, 7, 1, 1), (2, 7, 8), (2, 8, 7, 2)])
@pytest.mark.parametrize("name", OTHERS)
def test_other_shapes_are_refused(name: str, shape: tuple[int, ...]) -> None:
    for mode in LOSSES[name].modes:
        channels = 1 if mode == "binary" else 3
        with pytest.raises(ValueError, match=r"\(2, 8, 7, "):
            value(name, mode, np.zeros(shape, "int32"), RNG.normal(size=(2, 8, 7, channels)).astype("float32"))


@pytest.mark.parametrize("mode", ["multiclass", "binary", "multilabel"])
@pytest.mark.parametrize("shape", [(2, 1, 8, 7), (2, 8), (2, 8, 7, 2), (2, 8, 7, 4), (2, 8, 7, 6)])
def test_the_metric_refuses_them_too(mode: str, shape: tuple[int, ...]) -> None:
    classes = 1 if mode == "binary" else 3
    metric = MeanIoU(classes, mode=mode)
    with pytest.raises(ValueError, match="Labels must be"):
        metric.update_state(np.zeros(shape, "int32"), RNG.normal(size=(2, 8, 7, classes)).astype("float32"))


def as_one_hot(classes: int) -> np.ndarray:
    return np.eye(classes, dtype="float32")[RNG.integers(0, classes, (2, 8, 7))]


@pytest.mark.parametrize("more", [1, 2])
@pytest.mark.parametrize(("mode", "classes"), [("binary", 1), ("multiclass", 3), ("multilabel", 3)])
def test_one_hot_is_never_a_mask_with_distances(mode: str, classes: int, more: int) -> None:
    """Label and distance, background and object: two channels both, and the second gave the inverted mask's loss.

    Their number tells most apart; where it cannot, the mark behind the distances does, in a graph too.
    """
    mask = RNG.integers(0, 2, (8, 7, 3) if mode == "multilabel" else (8, 7))
    logits = RNG.normal(size=(2, 8, 7, classes)).astype("float32")
    boundary = Boundary(mode=mode)
    right = np.stack([boundary.make_target(mask, classes)] * 2)
    np.testing.assert_array_equal(right[0], with_distances(mask, classes))
    one_hot = as_one_hot(right.shape[-1] - 2 + more)
    total = WeightedSum([LOSSES["dice"](mode=mode), boundary], [1.0, 0.5])
    metric = MeanIoU(classes, mode=mode, distances=True)
    presence = ClassPresence(mode=mode, distances=True)
    assert np.isfinite([float(boundary(right, logits)), float(total(right, logits))]).all()
    assert np.isfinite(float(presence(right, logits[:, 0, 0])))
    metric.update_state(right, logits)
    assert 0 <= float(metric.result()) <= 1
    if more == 1:
        for loss in (boundary, total):
            with pytest.raises(ValueError, match="needs distances in the target"):
                loss(one_hot, logits)
        with pytest.raises(ValueError, match="needs distances in the target"):
            metric.update_state(one_hot, logits)
        with pytest.raises(ValueError, match="needs distances in the target"):
            presence(one_hot, logits[:, 0, 0])
        return
    for given in (one_hot, one_hot.astype("int32")):
        assert np.isnan(float(boundary(given, logits))) and np.isnan(float(total(given, logits)))
        assert np.isnan(float(presence(given, logits[:, 0, 0])))
        metric.reset_state()
        metric.update_state(given, logits)
        assert np.isnan(float(metric.result()))
        with pytest.raises(DataError, match=r"^(112|336) pixels"):
            metric.exact()


def test_a_binary_sum_of_losses_refuses_one_hot() -> None:
    total = WeightedSum([BinaryCrossEntropy(), Boundary(mode="binary")], [1.0, 0.01])
    with pytest.raises(ValueError, match=r"1 channels of its own and 2 more, as segzoo\.data\.with_distances"):
        total(np.eye(2, dtype="float32")[TRUTH], RNG.normal(size=(2, 8, 7, 1)).astype("float32"))

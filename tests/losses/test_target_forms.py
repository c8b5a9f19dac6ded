"""What a target means is never guessed from its shape."""

from __future__ import annotations

import numpy as np
import pytest

from segzoo.losses import LOSSES, Boundary
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

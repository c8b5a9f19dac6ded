"""The boundary loss and its distances, against SciPy's Euclidean distance transform and finite differences."""

import json

import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage
from test_losses import HALF_PRECISION, IGNORE, gradient, number, softmax

from segzoo import losses
from segzoo.data import signed_distances, with_distances
from segzoo.losses import Boundary


def reference_distances(mask, classes):
    """Kervadec et al.'s: to the class outside it, one less than to the rest, negated, inside."""
    maps = np.zeros((*mask.shape, classes))
    for c in range(classes):
        inside, outside = mask == c, (mask != c) & (mask != IGNORE)
        if inside.any() and outside.any():
            to_inside, to_outside = (ndimage.distance_transform_edt(~pixels) for pixels in (inside, outside))
            maps[..., c] = to_inside * outside - (to_outside - 1) * inside
    return maps


def reference(labels, logits, weight=None):
    p = softmax(logits)
    weight = (labels != IGNORE) * (1.0 if weight is None else weight)
    maps = np.stack([reference_distances(mask, logits.shape[-1]) for mask in labels])
    return (maps * p * weight[..., None]).sum() / (weight.sum() * logits.shape[-1])


def packed(labels, classes=4):
    return np.stack([with_distances(mask, classes, IGNORE) for mask in labels])


@pytest.fixture
def batch():
    rng = np.random.default_rng(3)
    labels = np.kron(rng.choice([0, 1, 3], size=(2, 3, 3)), np.ones((3, 4), int))
    labels[:, :2, 5:9] = IGNORE
    return labels, rng.normal(0, 2, (*labels.shape, 4))


@pytest.mark.parametrize("seed", range(3))
def test_distances_are_exact_euclidean_ones(seed):
    rng = np.random.default_rng(seed)
    mask = ndimage.zoom(rng.integers(0, 4, (6, 7)), 7, order=0)
    mask[5:11, 20:40] = IGNORE
    np.testing.assert_allclose(signed_distances(mask, 5, IGNORE), reference_distances(mask, 5), atol=1e-4)


def test_distances_are_zero_without_an_outline():
    assert not signed_distances(np.zeros((4, 5), int), 3).any()
    assert not signed_distances(np.full((4, 5), IGNORE), 3, IGNORE).any()
    beside = signed_distances(np.array([[0, 0, 1, 1]]), 1)[0, :, 0]
    np.testing.assert_array_equal(beside, [2, 1, 0, -1])


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "sample_weight"])
def test_value_and_gradient_are_the_references(batch, weighted):
    labels, logits = batch
    weight = np.random.default_rng(1).uniform(0.5, 2, labels.shape) if weighted else None
    loss = Boundary(IGNORE)
    assert number(loss(packed(labels), logits, weight)) == pytest.approx(reference(labels, logits, weight), rel=1e-5)
    found = gradient(loss, packed(labels), logits.astype("float32"), weight)
    assert not found[labels == IGNORE].any()
    for index in [tuple(place) for place in np.random.default_rng(2).integers(0, found.shape, (40, 4))]:
        step = np.zeros_like(logits)
        step[index] = 1e-5
        slope = (reference(labels, logits + step, weight) - reference(labels, logits - step, weight)) / 2e-5
        assert found[index] == pytest.approx(slope, rel=1e-3, abs=1e-6)


def test_one_hot_targets_are_the_same_loss(batch):
    labels, logits = batch
    one_hot = np.where((labels == IGNORE)[..., None], 0, np.eye(4)[labels % 4])
    target = np.concatenate([one_hot, packed(labels)[..., 1:]], axis=-1)
    assert number(Boundary(IGNORE)(target, logits)) == pytest.approx(number(Boundary(IGNORE)(packed(labels), logits)))


def test_perfect_is_least_and_opposite_is_most():
    disc = (np.hypot(*np.mgrid[-8:9, -8:9]) < 5).astype(int)[None]
    target = packed(disc, 1)
    signs = 50.0 * (2 * disc[..., None] - 1)
    loss = Boundary(mode="binary")
    others = [number(loss(target, np.random.default_rng(seed).normal(0, 3, signs.shape))) for seed in range(5)]
    assert number(loss(target, signs)) < min(others) < max(others) < number(loss(target, -signs))
    assert number(loss(target, np.roll(signs, 1, 1))) < number(loss(target, np.roll(signs, 3, 1)))


def test_all_ignored_is_zero_with_a_zero_gradient(batch):
    labels, logits = np.full_like(batch[0], IGNORE), batch[1].astype("float32")
    assert number(Boundary(IGNORE)(packed(labels), logits)) == 0
    assert not gradient(Boundary(IGNORE), packed(labels), logits).any()


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_saturated_logits_have_finite_gradients(batch, scale):
    labels, logits = batch
    assert np.isfinite(gradient(Boundary(IGNORE), packed(labels), (scale * logits).astype("float32"))).all()


@HALF_PRECISION
def test_half_precision_sums_do_not_overflow(dtype, size):
    disc = (np.hypot(*np.mgrid[:size, :size]) < size / 2).astype(int)[None]
    logits = np.random.default_rng(0).normal(size=(1, size, size, 1)).astype("float32")
    loss, target = Boundary(mode="binary"), packed(disc, 1)
    assert number(loss(target, ops.cast(logits, dtype))) == pytest.approx(number(loss(target, logits)), rel=0.02)


def test_config_round_trip_gives_the_same_loss(batch):
    labels, logits = batch
    loss = Boundary(IGNORE, class_weights=[0, 1, 2, 1])
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(keras.saving.serialize_keras_object(loss))))
    assert number(again(packed(labels), logits)) == number(loss(packed(labels), logits))


def test_a_target_without_distances_is_refused(batch):
    with pytest.raises(ValueError, match="needs distances in the target"):
        Boundary(IGNORE)(*batch)


@pytest.mark.parametrize(
    ("mode", "target", "own"), [("multiclass", 5, "1 or 4"), ("binary", 2, "1"), ("multilabel", 8, "4")]
)
def test_another_number_of_channels_is_refused(mode, target, own):
    channels = 1 if mode == "binary" else 4
    with pytest.raises(ValueError, match=f"{own} channels of its own and {channels + 1} more"):
        Boundary(mode=mode)(np.zeros((2, 6, 6, target)), np.zeros((2, 6, 6, channels)))


@pytest.mark.parametrize("mode", ["multiclass", "binary", "multilabel"])
@pytest.mark.parametrize("name", losses.LOSSES)
def test_other_losses_get_the_target_without_distances_in_a_sum_and_refuse_them_alone(name, mode, batch):
    cls = losses.LOSSES[name]
    if mode not in cls.modes or cls is Boundary:
        pytest.skip(f"{name} is the boundary loss or has no mode {mode}")
    labels, logits = batch
    classes = 1 if mode == "binary" else 4
    logits = logits[..., :classes]
    target = labels[..., None] if mode == "multiclass" else np.where(labels == IGNORE, IGNORE, labels > 1)[..., None]
    target = np.broadcast_to(target, (*labels.shape, 4 if mode == "multilabel" else 1)).astype("float32")
    maps = np.random.default_rng(0).normal(size=(*labels.shape, classes + 1)).astype("float32")
    maps[..., -1] = -16384
    both = np.concatenate([target, maps], axis=-1)
    loss, boundary = cls(ignore_index=IGNORE, mode=mode), Boundary(IGNORE, mode=mode)
    found = number(losses.create({name: 1.0, "boundary": 0.5}, IGNORE, mode)(both, logits))
    assert found == pytest.approx(number(loss(target, logits)) + 0.5 * number(boundary(both, logits)), rel=1e-5)
    with pytest.raises(ValueError, match="signed distances, which Boundary takes"):
        loss(both, logits)


def test_losses_on_distances_of_two_modes_are_refused():
    with pytest.raises(ValueError, match="of one mode, not of binary, multilabel"):
        losses.WeightedSum([Boundary(mode="binary"), Boundary(mode="multilabel")], [1, 1])

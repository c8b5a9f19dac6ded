"""Binary and multilabel losses against NumPy references, and the one-hot and soft forms of multiclass targets."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from test_losses import HALF_PRECISION, IGNORE, gradient, number

from segzoo import losses
from segzoo.losses import (
    MCC,
    BinaryCrossEntropy,
    ClDice,
    CrossEntropy,
    Dice,
    FocalTversky,
    Jaccard,
    LovaszHinge,
    LovaszSoftmax,
    SigmoidFocal,
    SoftmaxFocal,
    Tversky,
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reference_bce(g, z, weight, pos_weight=(1.0,)):
    p = sigmoid(z)
    costs = -np.broadcast_to(pos_weight, z.shape) * g * np.log(p) - (1 - g) * np.log(1 - p)
    return (costs * weight).sum() / weight.sum()


def reference_focal(g, z, weight, gamma=2.0, alpha=0.25):
    p = sigmoid(z)
    costs = -alpha * (1 - p) ** gamma * g * np.log(p) - (1 - alpha) * p**gamma * (1 - g) * np.log(1 - p)
    return (costs * weight).sum() / weight.sum()


def reference_overlap(g, z, weight, false_positives, false_negatives, power=1.0, per_image=False):
    """One minus hits over hits and errors, class by class; of the complement where a class has no target."""
    terms = []
    for image in range(len(g)) if per_image else [slice(None)]:
        for c in range(g.shape[-1]):
            truth, p, w = g[image][..., c], sigmoid(z[image][..., c]), weight[image][..., c]
            if w.sum() == 0:
                continue
            if (truth * w).sum() == 0:
                truth, p = 1 - truth, 1 - p
            hits = (truth * p * w).sum()
            errors = false_positives * ((1 - truth) * p * w).sum() + false_negatives * (truth * (1 - p) * w).sum()
            terms.append((errors / (hits + errors)) ** power)
    return np.mean(terms)


def reference_hinge(g, z, weight, per_image=False):
    """Berman et al., section 3.1, by the sets of mispredicted pixels themselves."""
    terms = []
    for image in range(len(g)) if per_image else [slice(None)]:
        for c in range(g.shape[-1]):
            keep = weight[image][..., c] > 0
            if not keep.any():
                continue
            truth, scores = g[image][..., c][keep] > 0, z[image][..., c][keep]
            errors = np.maximum(0, 1 - np.where(truth, 1, -1) * scores) * weight[image][..., c][keep]
            wrong, loss, before = np.zeros(len(errors), bool), 0.0, 0.0
            for pixel in np.argsort(-errors):
                wrong[pixel] = True
                union = (truth | wrong).sum()
                now = wrong.sum() / union
                loss += errors[pixel] * (now - before)
                before = now
            terms.append(loss)
    return np.mean(terms)


CASES = {
    "bce": (BinaryCrossEntropy, {}, reference_bce, {}),
    "bce_pos_weight": (BinaryCrossEntropy, {"pos_weight": 3.0}, reference_bce, {"pos_weight": (3.0,)}),
    "focal": (SigmoidFocal, {"gamma": 1.5}, reference_focal, {"gamma": 1.5}),
    "dice": (Dice, {}, reference_overlap, {"false_positives": 0.5, "false_negatives": 0.5}),
    "jaccard": (
        Jaccard,
        {"per_image": True},
        reference_overlap,
        {"false_positives": 1, "false_negatives": 1, "per_image": True},
    ),
    "tversky": (Tversky, {}, reference_overlap, {"false_positives": 0.3, "false_negatives": 0.7}),
    "focal_tversky": (
        FocalTversky,
        {},
        reference_overlap,
        {"false_positives": 0.3, "false_negatives": 0.7, "power": 0.75},
    ),
    "lovasz_hinge": (LovaszHinge, {}, reference_hinge, {}),
    "lovasz_hinge_per_image": (LovaszHinge, {"per_image": True}, reference_hinge, {"per_image": True}),
}


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return CASES[request.param]


@pytest.fixture(params=["binary", "multilabel"])
def batch(request):
    """Mode, targets with ignored places, logits; the last class of multilabel has no target pixel."""
    rng = np.random.default_rng(4)
    channels = 1 if request.param == "binary" else 3
    logits = rng.normal(0, 2, (2, 4, 5, channels))
    target = (rng.uniform(size=logits.shape) < 0.4).astype("float64")
    if channels > 1:
        target[..., -1] = 0
    target[rng.uniform(size=logits.shape) < 0.2] = IGNORE
    return request.param, target, logits


@pytest.mark.parametrize(
    "weighted", [pytest.param(False, marks=pytest.mark.nightly), True], ids=["plain", "sample_weight"]
)
def test_value_and_gradient_are_the_references(case, batch, weighted):
    cls, options, reference, reference_options = case
    mode, target, logits = batch
    pixel_weight = np.random.default_rng(1).uniform(0.5, 2, target.shape[:3]) if weighted else None
    weight = (target != IGNORE) * (pixel_weight[..., None] if weighted else 1.0)
    clean = np.where(target == IGNORE, 0, target)
    loss = cls(ignore_index=IGNORE, mode=mode, **options)

    found = number(loss(target, logits, pixel_weight))
    slope = gradient(loss, target, logits.astype("float32"), pixel_weight)

    assert found == pytest.approx(reference(clean, logits, weight, **reference_options), rel=1e-5)
    expected = np.zeros_like(logits)
    for index in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-5
        up, down = (reference(clean, logits + sign * step, weight, **reference_options) for sign in (1, -1))
        expected[index] = (up - down) / 2e-5
    np.testing.assert_allclose(slope, expected, rtol=1e-3, atol=1e-6)
    assert not slope[target == IGNORE].any()


def test_binary_targets_may_lack_the_channel(case):
    cls, options, _, _ = case
    rng = np.random.default_rng(0)
    target, logits = rng.integers(0, 2, (2, 4, 4, 1)), rng.normal(size=(2, 4, 4, 1))
    loss = cls(mode="binary", **options)
    assert number(loss(target[..., 0].astype("uint8"), logits)) == number(loss(target, logits))


def test_all_ignored_is_zero_with_a_zero_gradient(case, batch):
    cls, options, _, _ = case
    mode, target, logits = batch
    loss = cls(ignore_index=IGNORE, mode=mode, **options)
    nothing = np.full_like(target, IGNORE)
    assert number(loss(nothing, logits)) == 0
    assert not gradient(loss, nothing, logits.astype("float32")).any()


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_saturated_logits_have_finite_gradients(case, batch, scale):
    cls, options, _, _ = case
    mode, target, logits = batch
    loss = cls(ignore_index=IGNORE, mode=mode, **options)
    assert np.isfinite(number(loss(target, scale * logits)))
    assert np.isfinite(gradient(loss, target, (scale * logits).astype("float32"))).all()


def test_the_perfect_prediction_is_best_and_its_opposite_worst(case, batch):
    cls, options, _, _ = case
    mode, target, _ = batch
    loss = cls(ignore_index=IGNORE, mode=mode, **options)
    perfect = 30 * (2 * np.where(target == IGNORE, 0, target) - 1)
    best, worst = number(loss(target, perfect)), number(loss(target, -perfect))
    assert best == pytest.approx(0, abs=1e-5)
    between = [number(loss(target, np.random.default_rng(seed).normal(0, 5, target.shape))) for seed in range(3)]
    assert best < min(between) and max(between) < worst
    if cls in (Dice, Jaccard, Tversky, FocalTversky):
        assert worst == pytest.approx(1, abs=1e-5)


@HALF_PRECISION
def test_half_precision_sums_do_not_overflow(case, dtype, size):
    if size == 2048 and case[0] is LovaszHinge:
        pytest.skip("sorting 4 million errors takes seconds; its sums are those of 512x512")
    cls, options, _, _ = case
    rng = np.random.default_rng(0)
    target, logits = rng.integers(0, 2, (1, size, size, 1)), rng.normal(size=(1, size, size, 1)).astype("float32")
    loss = cls(mode="binary", **options)
    value = loss(target, ops.cast(logits, dtype))
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    assert number(value) == pytest.approx(number(loss(target, logits)), rel=0.02)


MULTICLASS = [
    CrossEntropy,
    SoftmaxFocal,
    SigmoidFocal,
    Dice,
    Jaccard,
    Tversky,
    FocalTversky,
    LovaszSoftmax,
    MCC,
    ClDice,
]


@pytest.mark.parametrize("cls", MULTICLASS)
def test_one_hot_targets_are_the_same_loss_as_class_indices(cls):
    rng = np.random.default_rng(2)
    labels, logits = rng.integers(0, 4, (2, 5, 6)), rng.normal(0, 2, (2, 5, 6, 4)).astype("float32")
    labels[0, :2] = IGNORE
    one_hot = np.where((labels == IGNORE)[..., None], 0, np.eye(4)[labels % 4])
    options = {"class_weights": [1.0, 2.0, 0.5, 3.0]} if cls in (CrossEntropy, SoftmaxFocal) else {}
    loss = cls(ignore_index=IGNORE, **options)
    assert number(loss(one_hot, logits)) == pytest.approx(number(loss(labels, logits)), rel=1e-5)
    np.testing.assert_allclose(gradient(loss, one_hot, logits), gradient(loss, labels, logits), atol=1e-6)


SETS = [Dice, Jaccard, Tversky, FocalTversky, MCC, ClDice]


@pytest.mark.parametrize("mode", ["multiclass", "multilabel"])
@pytest.mark.parametrize("cls", [*SETS, LovaszSoftmax, LovaszHinge, BinaryCrossEntropy, CrossEntropy])
def test_class_weights_are_the_weights_of_the_mean_over_classes(cls, mode):
    if mode not in cls.modes:
        pytest.skip(f"{cls.__name__} has no mode {mode}")
    rng = np.random.default_rng(5)
    # As many pixels of each class in every image, so that the pixels' mean is the classes' mean too.
    labels = np.stack([rng.permutation(np.repeat([0, 1, 2], 8)).reshape(4, 6) for _ in range(2)])
    logits = rng.normal(0, 2, (2, 4, 6, 3))
    target = labels if mode == "multiclass" else np.eye(3)[labels]
    alone = [number(cls(mode=mode, class_weights=np.eye(3)[c])(target, logits)) for c in range(3)]
    assert len({round(value, 4) for value in alone}) == 3
    weights = [1.0, 3.0, 0.5]
    found = number(cls(mode=mode, class_weights=weights)(target, logits))
    assert found == pytest.approx(np.average(alone, weights=weights), rel=1e-5)
    equal = number(cls(mode=mode, class_weights=[2, 2, 2])(target, logits))
    assert equal == pytest.approx(number(cls(mode=mode)(target, logits)), rel=1e-5)


@pytest.mark.parametrize(("cls", "mode"), [(SoftmaxFocal, "multiclass"), (SigmoidFocal, "multilabel")])
def test_class_weights_of_focal_losses_are_factors(cls, mode):
    rng = np.random.default_rng(6)
    labels, logits = rng.integers(0, 3, (2, 4, 5)), rng.normal(0, 2, (2, 4, 5, 3))
    target = labels if mode == "multiclass" else np.eye(3)[labels]
    alone = [number(cls(mode=mode, class_weights=np.eye(3)[c])(target, logits)) for c in range(3)]
    found = number(cls(mode=mode, class_weights=[1, 3, 0.5])(target, logits))
    assert found == pytest.approx(alone[0] + 3 * alone[1] + 0.5 * alone[2], rel=1e-5)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_checks_its_class_weights(name):
    cls = losses.LOSSES[name]
    with pytest.raises(ValueError, match="class_weights must be finite"):
        cls(class_weights=[1, float("nan")])
    with pytest.raises(ValueError, match="list of numbers, not 'balanced'"):
        cls(class_weights="balanced")
    channels = 1 if cls.modes[0] == "binary" else 3
    with pytest.raises(ValueError, match=f"2 class_weights for {channels} classes"):
        # The boundary loss cannot do without distances.
        own = np.zeros((1, 4, 4, 1 + (channels + 1) * cls.takes_distances))
        cls(class_weights=[1, 2])(own, np.zeros((1, 4, 4, channels)))
    assert cls(class_weights=[1, 2]).get_config()["class_weights"] == [1.0, 2.0]


@pytest.mark.parametrize("name", losses.LOSSES)
def test_every_loss_takes_a_negative_ignore_index(name):
    cls = losses.LOSSES[name]
    channels = 1 if cls.modes[0] == "binary" else 3
    rng = np.random.default_rng(0)
    labels = rng.integers(0, max(2, channels), (1, 8, 8, 1))
    labels[:, :2] = IGNORE
    distances, logits = rng.normal(0, 1, (2, 1, 8, 8, channels)).astype("float32")  # for the boundary loss

    def target(given):
        mark = np.full(labels.shape, -16384)
        return np.concatenate([given, distances, mark], -1) if cls.takes_distances else given

    def value(ignore_index):
        given = np.where(labels == IGNORE, ignore_index, labels)
        return number(cls(ignore_index=ignore_index)(target(given), logits))

    counted = number(cls(ignore_index=7)(target(labels % 2), logits))
    assert value(-9999) == value(-1) == value(IGNORE) != counted


def test_soft_targets_are_least_at_their_own_probabilities():
    shares = np.array([[[[0.7, 0.2, 0.1], [0.2, 0.5, 0.3]]]])
    loss = CrossEntropy()
    entropy = -(shares * np.log(shares)).sum(-1).mean()
    assert number(loss(shares, np.log(shares))) == pytest.approx(entropy, rel=1e-5)
    assert np.abs(gradient(loss, shares, np.log(shares).astype("float32"))).max() < 1e-6
    assert number(loss(shares, np.zeros((1, 1, 2, 3)))) > entropy


def test_a_mode_that_makes_no_sense_is_an_error_at_construction():
    for name in losses.LOSSES:
        cls = losses.LOSSES[name]
        for mode in {"multiclass", "binary", "multilabel"} - set(cls.modes):
            with pytest.raises(ValueError, match=f"{cls.__name__} has no mode '{mode}'; it has {cls.modes[0]}"):
                cls(mode=mode)
        with pytest.raises(ValueError, match="no mode 'multi'"):
            cls(mode="multi")


@pytest.mark.parametrize(
    ("mode", "target", "logits", "message"),
    [
        ("binary", (2, 4, 4), (2, 4, 4, 2), "1 channel in binary mode"),
        ("binary", (2, 4, 5), (2, 4, 4, 1), r"binary mode are \(B, H, W\) or \(B, H, W, 1\)"),
        ("multilabel", (2, 4, 4), (2, 4, 4, 3), r"multilabel mode are \(B, H, W, C\)"),
        ("multiclass", (2, 4, 4, 2), (2, 4, 4, 3), "one-hot or soft"),
        # One-hot masks of another number of classes, once read as a mask and its distances.
        ("binary", (2, 4, 4, 2), (2, 4, 4, 1), r"Two channels may be one-hot.*y\[..., 1:\]"),
        ("binary", (2, 4, 4, 3), (2, 4, 4, 1), "one-hot form of 3 classes, .* may be a mask with signed distances"),
        ("multiclass", (2, 4, 4, 4), (2, 4, 4, 3), "4 channels may be the one-hot form of 4 classes, where .* 3"),
        ("multiclass", (2, 4, 4, 6), (2, 4, 4, 3), "6 channels may be the one-hot form of 6 classes"),
        ("multilabel", (2, 4, 4, 6), (2, 4, 4, 3), "6 channels may be the one-hot form of 6 classes"),
        ("multilabel", (2, 4, 4, 2), (2, 4, 4, 1), "2 channels may be the one-hot form of 2 classes"),
        # Channels first, and further axes.
        ("binary", (2, 1, 4, 5), (2, 4, 5, 1), r"targets \(2, 1, 4, 5\)"),
        ("multiclass", (2, 3, 4, 5), (2, 4, 5, 3), r"targets \(2, 3, 4, 5\)"),
        ("multilabel", (2, 3, 4, 5), (2, 4, 5, 3), r"targets \(2, 3, 4, 5\)"),
        ("binary", (2, 4, 4, 1, 1), (2, 4, 4, 1), r"targets \(2, 4, 4, 1, 1\)"),
        ("binary", (4, 4), (2, 4, 4, 1), r"targets \(4, 4\)"),
        ("multiclass", (1, 4, 4), (2, 4, 4, 3), r"targets \(1, 4, 4\)"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(mode, target, logits, message):
    with pytest.raises(ValueError, match=message):
        Dice(mode=mode)(np.zeros(target), np.zeros(logits))


FITTING = {
    "multiclass": [(2, 4, 5), (2, 4, 5, 1), (2, 4, 5, 3)],
    "binary": [(2, 4, 5), (2, 4, 5, 1)],
    "multilabel": [(2, 4, 5, 3)],
}


@pytest.mark.parametrize("mode", FITTING)
def test_a_target_is_taken_in_its_mode_s_forms_and_in_no_other(mode):
    """Every shape of three or four axes of plausible sizes is either one of the forms or refused."""
    logits = np.random.default_rng(0).normal(size=(2, 4, 5, 1 if mode == "binary" else 3)).astype("float32")
    loss = Dice(mode=mode)
    tried = itertools.product((1, 2, 3), (1, 2, 3, 4), (1, 2, 3, 4, 5), (None, 1, 2, 3, 4, 5, 6))
    taken = []
    for shape in (tuple(size for size in sizes if size is not None) for sizes in tried):
        try:
            loss(np.ones(shape, "float32"), logits)
        except ValueError as error:
            assert f"{shape}" in str(error)
        else:
            taken.append(shape)
    assert sorted(taken) == sorted(FITTING[mode])


@pytest.mark.parametrize("mode", ["multiclass", "binary", "multilabel"])
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="shapes that a graph does not know")
def test_a_graph_that_does_not_know_the_sizes_does_not_broadcast(mode):
    import tensorflow as tf

    channels = 1 if mode == "binary" else 3
    own = (channels,) if mode == "multilabel" else ()
    loss = losses.create({"dice": 1.0}, mode=mode)
    logits = tf.constant(np.random.default_rng(0).normal(size=(2, 4, 5, channels)), "float32")

    def graph(last):
        shapes = tf.TensorSpec((None, None, None, *last)), tf.TensorSpec((None, None, None, channels))
        return tf.function(lambda y, z: loss(y, z), input_signature=shapes)

    target = tf.ones((2, 4, 5, *own))
    assert number(graph(own)(target, logits)) == pytest.approx(number(loss(target, logits)), rel=1e-6)
    with pytest.raises(tf.errors.InvalidArgumentError):
        graph(own)(target[:, :1], logits)
    with pytest.raises(ValueError, match="number of channels must be known"):
        graph((None,))(tf.ones((2, 4, 5, 2)), logits)


def test_the_one_hot_form_of_a_binary_mask_is_not_the_inverted_mask():
    rng = np.random.default_rng(0)
    mask, logits = (rng.random((2, 8, 8)) > 0.7).astype("int32"), rng.normal(size=(2, 8, 8, 1)).astype("float32")
    one_hot = np.eye(2, dtype="float32")[mask]
    for name in losses.LOSSES:
        cls = losses.LOSSES[name]
        if "binary" in cls.modes and not cls.takes_distances:
            loss = cls(mode="binary")
            with pytest.raises(ValueError, match=r"Two channels may be one-hot, background and object"):
                loss(one_hot, logits)
            # The cure that the message names is the loss of the mask.
            assert number(loss(one_hot[..., 1:], logits)) == number(loss(mask, logits))


def test_a_wrong_number_of_positive_weights_is_refused():
    with pytest.raises(ValueError, match="2 pos_weight for 3 classes"):
        BinaryCrossEntropy(mode="multilabel", pos_weight=[1, 2])(np.zeros((1, 2, 2, 3)), np.zeros((1, 2, 2, 3)))
    with pytest.raises(ValueError, match="pos_weight must be positive"):
        BinaryCrossEntropy(pos_weight=0)

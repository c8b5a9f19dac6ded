"""Losses against NumPy references in float64, finite differences, and known faults of other libraries."""

import json
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from segzoo import losses
from segzoo.errors import ConfigError, UnknownNameError
from segzoo.losses import (
    MCC,
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
    WeightedSum,
)

IGNORE = 255
# Large maps in half precision, whose sums overflow or stall; the largest take seconds each.
HALF_PRECISION = pytest.mark.parametrize(
    ("dtype", "size"),
    [
        ("float16", 512),
        ("bfloat16", 128),
        pytest.param("float16", 2048, marks=pytest.mark.nightly),
        pytest.param("bfloat16", 2048, marks=pytest.mark.nightly),
    ],
)


@pytest.fixture
def batch():
    """Labels (2, 5, 7) of classes 0, 1, 3 (2 is absent) with ignored pixels, and logits of 4 classes."""
    rng = np.random.default_rng(7)
    labels = rng.choice([0, 1, 3], size=(2, 5, 7))
    labels[:, :2, 3:] = IGNORE
    return labels, rng.normal(0, 2, (2, 5, 7, 4))


def softmax(logits):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def reference_cross_entropy(labels, logits, class_weights=None, smoothing=0.0, sample_weight=None):
    """The definition of torch.nn.CrossEntropyLoss, pixel by pixel."""
    classes = logits.shape[-1]
    class_weights = np.ones(classes) if class_weights is None else np.asarray(class_weights)
    total = mass = 0.0
    for index in np.ndindex(labels.shape):
        if (label := labels[index]) == IGNORE:
            continue
        pixel = 1.0 if sample_weight is None else sample_weight[index]
        log_p = np.log(softmax(logits[index]))
        hard = -class_weights[label] * log_p[label]
        even = -(class_weights * log_p).sum() / classes
        total += pixel * ((1 - smoothing) * hard + smoothing * even)
        mass += pixel * class_weights[label]
    return total / mass


def reference_ohem(labels, logits, share, sample_weight=None):
    """The mean cross-entropy of the hardest valid pixels, found by sorting."""
    costs, weights = [], []
    for index in np.ndindex(labels.shape):
        if labels[index] != IGNORE:
            costs.append(-np.log(softmax(logits[index])[labels[index]]))
            weights.append(1.0 if sample_weight is None else sample_weight[index])
    hardest = np.argsort(costs)[::-1][: math.ceil(share * len(costs))]
    return np.average(np.array(costs)[hardest], weights=np.array(weights)[hardest])


def reference_overlap(labels, logits, kind, per_image=False, smooth=0.0, power=1.0, sample_weight=None):
    """One minus an overlap index (hits over hits and errors) of every class in the target, class by class."""
    weight = (labels != IGNORE) * (1.0 if sample_weight is None else sample_weight)
    p = softmax(logits)
    groups = range(len(labels)) if per_image else [slice(None)]
    false_positives, false_negatives = {"dice": (0.5, 0.5), "jaccard": (1, 1), "tversky": (0.3, 0.7)}[kind]
    smooth = smooth / 2 if kind == "dice" else smooth
    terms = []
    for group in groups:
        for c in range(logits.shape[-1]):
            g = (labels[group] == c) * weight[group]
            if g.sum() > 0:
                both = (p[group][..., c] * g).sum()
                extra = (p[group][..., c] * weight[group]).sum() - both
                errors = false_positives * extra + false_negatives * (g.sum() - both)
                terms.append((1 - (both + smooth) / (both + errors + smooth)) ** power)
    return np.mean(terms)


def reference_focal(labels, logits, gamma=2.0, class_weights=None, sample_weight=None):
    total = mass = 0.0
    for index in np.ndindex(labels.shape):
        if (label := labels[index]) != IGNORE:
            p = softmax(logits[index])[label]
            pixel = 1.0 if sample_weight is None else sample_weight[index]
            factor = 1.0 if class_weights is None else class_weights[label]
            total -= pixel * factor * (1 - p) ** gamma * np.log(p)
            mass += pixel
    return total / mass


def reference_sigmoid_focal(labels, logits, gamma=2.0, alpha=0.25, sample_weight=None):
    total = mass = 0.0
    for index in np.ndindex(logits.shape):
        if (label := labels[index[:-1]]) != IGNORE:
            p = 1 / (1 + np.exp(-logits[index]))
            pixel = 1.0 if sample_weight is None else sample_weight[index[:-1]]
            right, factor = (p, alpha) if label == index[-1] else (1 - p, 1 - alpha)
            total -= pixel * factor * (1 - right) ** gamma * np.log(right)
            mass += pixel
    return total / mass


def reference_lovasz(labels, logits, per_image=False, sample_weight=None):
    """Berman et al., equation 9: errors in falling order, each times the increase of the Jaccard loss."""
    p = softmax(logits)
    terms = []
    for group in range(len(labels)) if per_image else [slice(None)]:
        valid = labels[group] != IGNORE
        for c in range(logits.shape[-1]):
            g = (labels[group][valid] == c).astype(float)
            if not g.sum():
                continue
            weight = 1.0 if sample_weight is None else sample_weight[group][valid]
            errors = np.abs(g - p[group][..., c][valid]) * weight
            order = np.argsort(-errors)
            before = loss = 0.0
            wrong_in, wrong_out = 0, 0
            for pixel in order:
                wrong_in, wrong_out = wrong_in + g[pixel], wrong_out + 1 - g[pixel]
                now = (wrong_in + wrong_out) / (g.sum() + wrong_out)
                loss += errors[pixel] * (now - before)
                before = now
            terms.append(loss)
    return np.mean(terms)


def reference_mcc(labels, logits, per_image=False, sample_weight=None):
    """The formula in soft true and false positives and negatives."""
    weight = (labels != IGNORE) * (1.0 if sample_weight is None else sample_weight)
    p = softmax(logits)
    terms = []
    for image in range(len(labels)) if per_image else [slice(None)]:
        for c in range(logits.shape[-1]):
            truth, share, w = labels[image] == c, p[image][..., c], weight[image]
            tp, fp = (truth * share * w).sum(), (~truth * share * w).sum()
            fn, tn = (truth * (1 - share) * w).sum(), (~truth * (1 - share) * w).sum()
            if tp + fn > 0 and tn + fp > 0:
                root = np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
                terms.append(1 - (tp * tn - fp * fn) / root)
    return np.mean(terms)


def reference_cldice(labels, logits, sample_weight=None, iterations=3):
    """The algorithms of the paper with SciPy's morphology."""
    from scipy import ndimage

    cross = ndimage.generate_binary_structure(2, 1)

    def erode(x):
        return ndimage.minimum_filter(x, footprint=cross, mode="nearest")

    def skeleton(x):
        lines = np.zeros_like(x)
        for _ in range(iterations + 1):
            delta = np.maximum(x - ndimage.maximum_filter(erode(x), size=3, mode="nearest"), 0)
            lines = lines + np.maximum(delta - lines * delta, 0)
            x = erode(x)
        return lines

    weight = (labels != IGNORE) * (1.0 if sample_weight is None else sample_weight)
    p, terms = softmax(logits), []
    for image in range(len(labels)):
        for c in range(logits.shape[-1]):
            g, q = (labels[image] == c) * weight[image], p[image][..., c] * weight[image]
            if g.sum() > 0:
                of_g, of_q = skeleton(g), skeleton(q)
                precision = ((of_q * g).sum() + 1) / (of_q.sum() + 1)
                sensitivity = ((of_g * q).sum() + 1) / (of_g.sum() + 1)
                terms.append(1 - 2 * precision * sensitivity / (precision + sensitivity))
    return np.mean(terms)


def gradient(loss, labels, logits, sample_weight=None):
    """The backend's gradient of the loss by the logits."""
    logits = np.asarray(logits)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        x = tf.constant(logits)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = loss(labels, x, sample_weight)
        return tape.gradient(value, x).numpy()
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda x: loss(labels, x, sample_weight))(logits))
    import torch

    x = torch.tensor(logits, requires_grad=True)
    loss(labels, x, sample_weight).backward()
    return x.grad.numpy()


def number(value):
    return float(ops.convert_to_numpy(value))


WEIGHTS = [0.5, 2.0, 1.0, 3.0]
CASES = {
    "cross_entropy": (CrossEntropy, {}, reference_cross_entropy, {}),
    "cross_entropy_weighted": (
        CrossEntropy,
        {"class_weights": WEIGHTS},
        reference_cross_entropy,
        {"class_weights": WEIGHTS},
    ),
    "cross_entropy_smoothed": (
        CrossEntropy,
        {"class_weights": WEIGHTS, "label_smoothing": 0.1},
        reference_cross_entropy,
        {"class_weights": WEIGHTS, "smoothing": 0.1},
    ),
    "cross_entropy_ohem": (CrossEntropy, {"ohem_fraction": 0.3}, reference_ohem, {"share": 0.3}),
    "dice": (Dice, {}, reference_overlap, {"kind": "dice"}),
    "dice_per_image": (Dice, {"per_image": True}, reference_overlap, {"kind": "dice", "per_image": True}),
    "dice_smooth": (Dice, {"smooth": 3.0}, reference_overlap, {"kind": "dice", "smooth": 3.0}),
    "jaccard": (Jaccard, {"smooth": 2.0}, reference_overlap, {"kind": "jaccard", "smooth": 2.0}),
    "tversky": (Tversky, {"per_image": True}, reference_overlap, {"kind": "tversky", "per_image": True}),
    "focal_tversky": (FocalTversky, {}, reference_overlap, {"kind": "tversky", "power": 0.75}),
    "softmax_focal": (
        SoftmaxFocal,
        {"gamma": 1.5, "class_weights": WEIGHTS},
        reference_focal,
        {"gamma": 1.5, "class_weights": WEIGHTS},
    ),
    "softmax_focal_below_1": (SoftmaxFocal, {"gamma": 0.5}, reference_focal, {"gamma": 0.5}),
    "sigmoid_focal": (SigmoidFocal, {}, reference_sigmoid_focal, {}),
    "mcc": (MCC, {}, reference_mcc, {}),
    "mcc_per_image": (MCC, {"per_image": True}, reference_mcc, {"per_image": True}),
    "cldice": (ClDice, {}, reference_cldice, {}),
    "lovasz_softmax": (LovaszSoftmax, {}, reference_lovasz, {}),
    "lovasz_softmax_per_image": (LovaszSoftmax, {"per_image": True}, reference_lovasz, {"per_image": True}),
}


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return CASES[request.param]


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "sample_weight"])
def test_value_is_the_reference(case, batch, weighted):
    cls, options, reference, reference_options = case
    labels, logits = batch
    weight = np.random.default_rng(1).uniform(0, 2, labels.shape) if weighted else None
    value = number(cls(ignore_index=IGNORE, **options)(labels, logits, weight))
    assert value == pytest.approx(reference(labels, logits, sample_weight=weight, **reference_options), rel=1e-5)


@pytest.mark.parametrize(
    "weighted", [pytest.param(False, marks=pytest.mark.nightly), True], ids=["plain", "sample_weight"]
)
def test_gradient_is_the_finite_difference_of_the_reference(case, batch, weighted):
    cls, options, reference, reference_options = case
    labels, logits = batch[0][:, :3, :4], batch[1][:, :3, :4]
    weight = np.random.default_rng(1).uniform(0, 2, labels.shape) if weighted else None
    found = gradient(cls(ignore_index=IGNORE, **options), labels, logits.astype("float32"), weight)
    expected = np.zeros_like(logits)
    for index in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-5
        up = reference(labels, logits + step, sample_weight=weight, **reference_options)
        down = reference(labels, logits - step, sample_weight=weight, **reference_options)
        expected[index] = (up - down) / 2e-5
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    assert np.abs(expected).max() > 1e-3


def test_ignored_pixels_change_nothing(case, batch):
    # Neither the value nor the gradient elsewhere, whatever the logits there: border pixels are free.
    cls, options, _, _ = case
    labels, logits = batch
    loss = cls(ignore_index=IGNORE, **options)
    other = np.where((labels == IGNORE)[..., None], 9 * np.flip(logits), logits)
    assert number(loss(labels, logits)) == pytest.approx(number(loss(labels, other)), rel=1e-6)
    found = gradient(loss, labels, other.astype("float32"))
    assert not found[labels == IGNORE].any()
    np.testing.assert_allclose(found, gradient(loss, labels, logits.astype("float32")), atol=1e-7)


@pytest.mark.parametrize("ignore_index", [-1, 4])
def test_the_ignore_index_may_be_any_label_that_is_no_class(case, batch, ignore_index):
    cls, options, _, _ = case
    labels, logits = batch
    renamed = np.where(labels == IGNORE, ignore_index, labels)
    expected = number(cls(ignore_index=IGNORE, **options)(labels, logits))
    assert number(cls(ignore_index=ignore_index, **options)(renamed, logits)) == pytest.approx(expected)


def test_a_zero_sample_weight_is_an_ignored_pixel(case, batch):
    cls, options, _, _ = case
    labels, logits = batch
    valid = labels != IGNORE
    value = number(cls(**options)(np.where(valid, labels, 0), logits, valid.astype("float32")[..., None]))
    assert value == pytest.approx(number(cls(ignore_index=IGNORE, **options)(labels, logits)), rel=1e-6)


def test_an_image_weight_weighs_its_pixels(case, batch):
    cls, options, _, _ = case
    labels, logits = batch
    loss = cls(ignore_index=IGNORE, **options)
    assert number(loss(labels, logits, np.array([1.0, 0.0]))) == pytest.approx(
        number(loss(labels[:1], logits[:1])), rel=1e-6
    )


def test_all_ignored_is_zero_with_a_zero_gradient(case):
    # PyTorch's mean is NaN here, and so are SMP's losses.
    cls, options, _, _ = case
    labels = np.full((2, 3, 4), IGNORE, "uint8")
    logits = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype("float32")
    loss = cls(ignore_index=IGNORE, **options)
    assert number(loss(labels, logits)) == 0
    assert not gradient(loss, labels, logits).any()


@pytest.mark.parametrize("scale", [pytest.param(1e2, marks=pytest.mark.nightly), 1e4])
def test_saturated_logits_have_finite_gradients(case, batch, scale):
    cls, options, _, _ = case
    labels, logits = batch
    loss = cls(ignore_index=IGNORE, **options)
    assert np.isfinite(number(loss(labels, logits * scale)))
    assert np.isfinite(gradient(loss, labels, (logits * scale).astype("float32"))).all()


@pytest.mark.parametrize(("dtype", "size"), [("bfloat16", 128), ("float16", 512)])
def test_half_precision_logits_are_computed_in_float32(case, dtype, size):
    # 262144 pixels: sums in float16 overflow at 65504, sums in bfloat16 stall at 256.
    cls, options, reference, reference_options = case
    rng, every = np.random.default_rng(3), size // 64
    labels = rng.integers(0, 4, (1, size, size))
    logits = ops.cast(rng.normal(size=(1, size, size, 4)).astype("float32"), dtype)
    value = cls(ignore_index=IGNORE, **options)(labels, logits)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    exact = np.asarray(ops.convert_to_numpy(ops.cast(logits, "float32")), "float64")[:, ::every, ::every]
    full = cls(ignore_index=IGNORE, **options)(labels[:, ::every, ::every], exact)
    assert number(full) == pytest.approx(reference(labels[:, ::every, ::every], exact, **reference_options), rel=1e-5)
    assert number(value) == pytest.approx(number(full), rel=0.05)


def test_label_shapes_and_dtypes_are_one_loss(case, batch):
    cls, options, _, _ = case
    labels, logits = batch
    loss = cls(ignore_index=IGNORE, **options)
    expected = number(loss(labels, logits))
    for same in (labels.astype("uint8"), labels.astype("int32")[..., None], labels.astype("float32")):
        assert number(loss(same, logits)) == pytest.approx(expected)


def test_config_round_trip_gives_the_same_loss(case, batch):
    cls, options, _, _ = case
    loss = cls(ignore_index=IGNORE, name="mine", **options)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is cls
    assert again.get_config() == loss.get_config()
    assert number(again(*batch)) == number(loss(*batch))


@pytest.mark.parametrize("cls", [CrossEntropy, Dice])
def test_shapes_that_do_not_belong_together_are_refused(cls):
    logits = np.zeros((2, 4, 4, 3), "float32")
    with pytest.raises(ValueError, match=r"class indices \(B, H, W\) .* targets \(2, 4, 4, 2\)"):
        cls()(np.zeros((2, 4, 4, 2)), logits)
    with pytest.raises(ValueError, match=r"\(2, 4, 5\)"):
        cls()(np.zeros((2, 4, 5)), logits)
    with pytest.raises(ValueError, match="at least 2 classes"):
        cls()(np.zeros((2, 4, 4)), logits[..., :1])
    with pytest.raises(ValueError, match="sample_weight"):
        cls()(np.zeros((2, 4, 4)), logits, np.ones((2, 4)))


OVERLAPS = [Dice, Jaccard, Tversky]


def both_ways(cls):
    return [cls(per_image=per_image) for per_image in (False, True)]


@pytest.mark.parametrize("cls", [*OVERLAPS, FocalTversky, LovaszSoftmax])
def test_a_set_loss_runs_from_0_when_perfect_to_1_when_every_pixel_is_wrong(cls):
    labels = np.array([[[0, 1], [3, 3]]])
    right, wrong = 50 * np.eye(4)[labels], 50 * np.eye(4)[(labels + 1) % 4]
    for loss in both_ways(cls):
        assert number(loss(labels, right)) == pytest.approx(0, abs=1e-5)
        # Class 2 is absent: counting it as perfect would give 0.75 here.
        assert number(loss(labels, wrong)) == pytest.approx(1, abs=1e-6)


def test_mcc_runs_from_0_when_perfect_to_2_when_every_pixel_is_wrong():
    labels = np.array([[[0, 1], [1, 0]]])
    right, wrong = 50 * np.eye(2)[labels], 50 * np.eye(2)[1 - labels]
    for loss in both_ways(MCC):
        assert number(loss(labels, right)) == pytest.approx(0, abs=1e-5)
        assert number(loss(labels, wrong)) == pytest.approx(2, abs=1e-5)


def test_cldice_asks_for_the_connection_and_not_for_the_width():
    line = np.zeros((1, 24, 40), "int32")
    line[0, 10:13] = 1
    wider, cut = line.copy(), line.copy()
    wider[0, 9:14] = 1
    cut[0, 10:13, 18:22] = 0

    def of(cls, prediction):
        return number(cls(mode="binary")(line, (40.0 * prediction - 20)[..., None]))

    assert of(ClDice, line) == pytest.approx(0, abs=1e-5)
    assert of(ClDice, wider) < of(ClDice, cut)
    assert of(Dice, wider) > of(Dice, cut)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="maps are packed on TensorFlow alone")
@pytest.mark.parametrize("classes", [(), (3, 255), (0, 2, 4), range(20)])
def test_cldice_of_packed_maps_is_that_of_all(monkeypatch, classes):
    import tensorflow as tf

    rng = np.random.default_rng(0)
    labels = rng.choice(classes, (2, 4, 6)) if len(classes) else np.full((2, 4, 6), 255)
    labels = np.kron(labels, np.ones((3, 3))).astype("int32")
    logits = tf.constant(rng.standard_normal((2, 12, 18, 20)).astype("float32"))
    loss = ClDice(ignore_index=255)

    def computed():
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return float(value), tape.gradient(value, logits).numpy()

    packed = computed()
    monkeypatch.setattr("segzoo.losses.cldice.in_xla", lambda: True)
    unpacked = computed()
    assert packed[0] == pytest.approx(unpacked[0], abs=1e-6) and (packed[0] > 0) == bool(len(classes))
    np.testing.assert_allclose(packed[1], unpacked[1], atol=1e-7)


@pytest.mark.parametrize("cls", [CrossEntropy, SoftmaxFocal, SigmoidFocal])
def test_a_pixel_loss_is_least_when_perfect(cls):
    labels = np.array([[[0, 1], [3, 3]]])
    eye = np.eye(4)
    values = [number(cls()(labels, 9 * (2 * eye[(labels + shift) % 4] - 1))) for shift in (0, 1)]
    assert values[0] < 1e-3 < 1 < values[1]


@pytest.mark.parametrize("cls", OVERLAPS)
def test_an_empty_mask_with_everything_predicted_has_a_gradient(cls):
    # SMP: zero loss and zero gradient.
    labels = np.zeros((1, 8, 8), "int32")
    logits = np.zeros((1, 8, 8, 2), "float32")
    logits[..., 1] = 3
    assert number(cls()(labels, logits)) > 0.9
    found = gradient(cls(), labels, logits)
    assert (found[..., 0] < -1e-4).all()
    assert (found[..., 1] > 1e-4).all()


@pytest.mark.parametrize("mode", ["binary", "multilabel"])
@pytest.mark.parametrize("cls", OVERLAPS)
def test_an_empty_mask_has_a_gradient_at_every_pixel_without_a_softmax_too(cls, mode):
    labels = np.zeros((2, 8, 8, 1), "float32")
    for loss in (cls(mode=mode), cls(mode=mode, per_image=True)):
        assert number(loss(labels, np.full((2, 8, 8, 1), 9.0))) > 0.9
        assert number(loss(labels, np.full((2, 8, 8, 1), -20.0))) == pytest.approx(0, abs=1e-6)
        assert (gradient(loss, labels, np.full((2, 8, 8, 1), 2, "float32")) > 1e-4).all()


def test_dice_pools_the_batch_unless_per_image(batch):
    labels, logits = batch
    both = number(Dice(IGNORE, per_image=True)(labels, logits))
    apart = [number(Dice(IGNORE)(labels[i : i + 1], logits[i : i + 1])) for i in range(2)]
    assert both == pytest.approx(np.mean(apart), rel=1e-6)
    assert both != pytest.approx(number(Dice(IGNORE)(labels, logits)), rel=1e-4)


def test_the_weighted_sum_is_the_sum(batch):
    total = losses.create({"cross_entropy": 1.0, "dice": {"weight": 0.5, "per_image": True}}, ignore_index=IGNORE)
    assert isinstance(total, WeightedSum)
    parts = number(CrossEntropy(IGNORE)(*batch)) + 0.5 * number(Dice(IGNORE, per_image=True)(*batch))
    assert number(total(*batch)) == pytest.approx(parts, rel=1e-6)
    weight = (np.arange(batch[0].size) % 3).reshape(batch[0].shape)
    parts = number(CrossEntropy(IGNORE)(*batch, weight)) + 0.5 * number(Dice(IGNORE, per_image=True)(*batch, weight))
    assert number(total(*batch, weight)) == pytest.approx(parts, rel=1e-6)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(total)))
    assert number(keras.saving.deserialize_keras_object(config)(*batch)) == number(total(*batch))


def test_create_gives_one_loss_as_itself():
    loss = losses.create({"cross_entropy": {"label_smoothing": 0.1, "class_weights": [1, 2]}}, ignore_index=9)
    assert type(loss) is CrossEntropy
    assert (loss.ignore_index, loss.label_smoothing, loss.class_weights) == (9, 0.1, [1.0, 2.0])
    assert type(losses.create({"dice": 2})) is WeightedSum


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ({}, ConfigError, "cross_entropy, dice"),
        ({"dise": 1.0}, UnknownNameError, "Did you mean dice"),
        ({"dice": {"smoth": 1.0}}, UnknownNameError, "Did you mean smooth"),
        ({"dice": 0}, ConfigError, "positive number"),
        ({"dice": True}, ConfigError, "positive number"),
        ({"dice": "1"}, ConfigError, "positive number"),
        ({"dice": {"smooth": -1.0}}, ConfigError, "smooth must be"),
        ({"cross_entropy": {"label_smoothing": 1.0}}, ConfigError, "label_smoothing must be"),
        ({"cross_entropy": {"class_weights": [1.0, -1.0]}}, ConfigError, "class_weights must be"),
        ({"cross_entropy": {"class_weights": 3}}, ConfigError, "cross_entropy"),
        ({"cross_entropy": {"ohem_fraction": 0}}, ConfigError, "ohem_fraction must be"),
        ({"tversky": {"alpha": 0, "beta": 0}}, ConfigError, "not both 0"),
        ({"focal_tversky": {"gamma": 0}}, ConfigError, "gamma must be positive"),
        ({"softmax_focal": {"gamma": -1}}, ConfigError, "gamma must be finite"),
        ({"sigmoid_focal": {"alpha": 1.5}}, ConfigError, "alpha must be"),
        ({"cldice": {"iterations": 0}}, ConfigError, "iterations must be"),
        ({"lovasz_hinge": 1.0}, ConfigError, "LovaszHinge has no mode 'multiclass'; it has binary, multilabel"),
    ],
)
def test_create_refuses_what_it_cannot_use(spec, error, message):
    with pytest.raises(error, match=message):
        losses.create(spec)


def test_a_wrong_number_of_class_weights_is_refused(batch):
    with pytest.raises(ValueError, match="3 class_weights for 4 classes"):
        CrossEntropy(IGNORE, class_weights=[1, 1, 1])(*batch)


def test_every_registered_loss_takes_the_ignore_index():
    for name in losses.LOSSES:
        mode = losses.LOSSES[name].modes[0]
        assert losses.create({name: 1.0}, ignore_index=IGNORE, mode=mode).ignore_index == IGNORE


def test_a_plain_keras_model_compiles_fits_and_reloads_with_the_loss(tmp_path, eager):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 16, 16, 1)).astype("float32")
    masks = (images[..., 0] > 0).astype("uint8")
    masks[:, :2] = IGNORE
    inputs = keras.Input((None, None, 1))
    model = keras.Model(inputs, keras.layers.Conv2D(2, 1)(inputs))
    model.compile("sgd", loss=losses.create({"cross_entropy": 1.0, "dice": 1.0}, ignore_index=IGNORE))
    model.optimizer.learning_rate = 1.0
    history = model.fit(images, masks, epochs=15, batch_size=4, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert again.evaluate(images, masks, verbose=0) == pytest.approx(model.evaluate(images, masks, verbose=0))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="about TensorFlow's compiler and strategies")
class TestTensorFlow:
    def test_xla_gives_the_same(self, batch):
        # Under XLA an ignore index that reached the cross-entropy kernel would be NaN, not an error.
        import tensorflow as tf

        loss = losses.create({"cross_entropy": 1.0, "dice": 1.0}, ignore_index=IGNORE)
        compiled = tf.function(lambda labels, logits: loss(labels, logits), jit_compile=True)
        assert number(compiled(*map(tf.constant, batch))) == pytest.approx(number(loss(*batch)), rel=1e-5)

    def test_unknown_batch_and_image_size(self, batch):
        import tensorflow as tf

        loss = losses.create({"cross_entropy": 1.0, "dice": {"per_image": True}}, ignore_index=IGNORE)
        signature = [tf.TensorSpec((None, None, None), "int64"), tf.TensorSpec((None, None, None, 4), "float64")]
        graph = tf.function(lambda labels, logits: loss(labels, logits), input_signature=signature)
        assert number(graph(*map(tf.constant, batch))) == pytest.approx(number(loss(*batch)), rel=1e-5)

    def test_two_replicas_average(self, batch, monkeypatch):
        # Replicas' gradients are summed; a scalar that Keras does not scale would double the step on two.
        import tensorflow as tf

        loss = losses.create({"cross_entropy": 1.0, "dice": 1.0}, ignore_index=IGNORE)
        alone = number(loss(*batch))
        monkeypatch.setattr(tf.distribute, "get_strategy", lambda: SimpleNamespace(num_replicas_in_sync=2))
        assert number(loss(*batch)) == pytest.approx(alone / 2, rel=1e-6)


def test_lovasz_of_what_is_no_number_is_none_either():
    logits = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype("float32")
    logits[0, 3, 4, 1] = np.nan
    labels = np.arange(64).reshape(1, 8, 8) % 3
    assert np.isnan(float(LovaszSoftmax()(labels, logits)))
    assert np.isnan(float(LovaszHinge(mode="multilabel")(np.eye(3)[labels], logits)))

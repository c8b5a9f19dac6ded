"""Losses against NumPy references in float64, finite differences, and the traps of FACTS 9, 10 and 24."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops

from segzoo import losses
from segzoo.errors import ConfigError, UnknownNameError
from segzoo.losses import CrossEntropy, Dice, WeightedSum

IGNORE = 255


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


def reference_dice(labels, logits, per_image=False, smooth=0.0, sample_weight=None):
    """One minus Dice of every class in the target, class by class."""
    weight = (labels != IGNORE) * (1.0 if sample_weight is None else sample_weight)
    p = softmax(logits)
    groups = range(len(labels)) if per_image else [slice(None)]
    terms = []
    for group in groups:
        for c in range(logits.shape[-1]):
            g = (labels[group] == c) * weight[group]
            if g.sum() > 0:
                both = (p[group][..., c] * g).sum()
                size = (p[group][..., c] * weight[group]).sum() + g.sum()
                terms.append(1 - (2 * both + smooth) / (size + smooth))
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
    "dice": (Dice, {}, reference_dice, {}),
    "dice_per_image": (Dice, {"per_image": True}, reference_dice, {"per_image": True}),
    "dice_smooth": (Dice, {"smooth": 3.0}, reference_dice, {"smooth": 3.0}),
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


@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "sample_weight"])
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


@pytest.mark.parametrize("ignore_index", [255, -1, 4])
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


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_saturated_logits_have_finite_gradients(case, batch, scale):
    cls, options, _, _ = case
    labels, logits = batch
    loss = cls(ignore_index=IGNORE, **options)
    assert np.isfinite(number(loss(labels, logits * scale)))
    assert np.isfinite(gradient(loss, labels, (logits * scale).astype("float32"))).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_logits_are_computed_in_float32(case, dtype):
    # 262144 pixels: sums in float16 overflow at 65504 (FACTS 24), sums in bfloat16 stall at 256.
    cls, options, reference, reference_options = case
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, (1, 512, 512))
    logits = ops.cast(rng.normal(size=(1, 512, 512, 4)).astype("float32"), dtype)
    value = cls(ignore_index=IGNORE, **options)(labels, logits)
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    exact = np.asarray(ops.convert_to_numpy(ops.cast(logits, "float32")), "float64")[:, ::8, ::8]
    full = cls(ignore_index=IGNORE, **options)(labels[:, ::8, ::8], exact)
    assert number(full) == pytest.approx(reference(labels[:, ::8, ::8], exact, **reference_options), rel=1e-5)
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
    with pytest.raises(ValueError, match="One-hot masks are not taken"):
        cls()(np.zeros((2, 4, 4, 3)), logits)
    with pytest.raises(ValueError, match=r"\(2, 4, 5\)"):
        cls()(np.zeros((2, 4, 5)), logits)
    with pytest.raises(ValueError, match="at least 2 classes"):
        cls()(np.zeros((2, 4, 4)), logits[..., :1])
    with pytest.raises(ValueError, match="sample_weight"):
        cls()(np.zeros((2, 4, 4)), logits, np.ones((2, 4)))


def test_dice_runs_from_0_when_perfect_to_1_when_every_pixel_is_wrong():
    labels = np.array([[[0, 1], [3, 3]]])
    right, wrong = 50 * np.eye(4)[labels], 50 * np.eye(4)[(labels + 1) % 4]
    for per_image in (False, True):
        assert number(Dice(per_image=per_image)(labels, right)) == pytest.approx(0, abs=1e-6)
        # Class 2 is absent: counting it as perfect would give 0.75 here.
        assert number(Dice(per_image=per_image)(labels, wrong)) == pytest.approx(1, abs=1e-6)


def test_dice_of_an_empty_mask_with_everything_predicted_has_a_gradient():
    # SMP: zero loss and zero gradient (FACTS 24).
    labels = np.zeros((1, 8, 8), "int32")
    logits = np.zeros((1, 8, 8, 2), "float32")
    logits[..., 1] = 3
    assert number(Dice()(labels, logits)) > 0.9
    found = gradient(Dice(), labels, logits)
    assert (found[..., 0] < -1e-4).all()
    assert (found[..., 1] > 1e-4).all()


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
        assert losses.create({name: 1.0}, ignore_index=IGNORE).ignore_index == IGNORE


def test_a_plain_keras_model_compiles_fits_and_reloads_with_the_loss(tmp_path):
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

"""The parts of the training loop, each against a reference or a property."""

import math

import keras
import numpy as np
import pytest

from segzoo.engine.batchnorm import momentum_for, set_momentum
from segzoo.engine.evaluation import evaluate
from segzoo.engine.fit_dataset import FitDataset
from segzoo.engine.spread import evenly_spaced
from segzoo.errors import DataError
from segzoo.files import replacing
from segzoo.layers import BatchNormalization
from segzoo.metrics import Calibration, ConfusionMatrix
from segzoo.optim.optimizers import AdamW
from segzoo.optim.schedules import WarmUpDecay
from segzoo.task import Task


def small_model():
    inputs = keras.Input((6,))
    x = keras.layers.Dense(5, name="one")(inputs)
    x = BatchNormalization(name="norm")(x[:, None, None, :])
    return keras.Model(inputs, keras.layers.Dense(2, name="two")(x[:, 0, 0, :]))


def test_adamw_updates_as_keras_does_and_spares_norms_and_biases():
    models = [small_model() for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    rate = WarmUpDecay(0.01, 20, 3)
    ours = AdamW(rate, weight_decay=0.1, global_clipnorm=1.0)
    theirs = keras.optimizers.AdamW(rate, weight_decay=0.1, global_clipnorm=1.0)
    theirs.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    # Gradients given, not computed: a bias before BatchNorm has none but rounding noise, which Adam would blow up.
    rng = np.random.default_rng(0)
    gradients = [[rng.normal(size=v.shape).astype("float32") for v in models[0].trainable_variables] for _ in range(8)]
    for model, optimizer in zip(models, (ours, theirs), strict=True):
        for step in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in step], model.trainable_variables)
    for mine, reference in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(mine, reference, atol=2e-6)


def test_weight_decay_alone_shrinks_kernels_only():
    model = small_model()
    model.compile(AdamW(0.1, weight_decay=0.5), loss=lambda y_true, y_pred: 0.0 * keras.ops.sum(y_pred))
    before = {variable.path: variable.numpy() for variable in model.trainable_variables}
    model.train_on_batch(np.ones((4, 6), "float32"), np.ones((4, 2), "float32"))
    for variable in model.trainable_variables:
        factor = 0.95 if variable.path.endswith("kernel") else 1.0
        np.testing.assert_allclose(variable.numpy(), factor * before[variable.path], rtol=1e-6, err_msg=variable.path)


@pytest.mark.parametrize("shape", ["poly", "cosine", "constant"])
def test_schedule_follows_its_formula(shape):
    schedule = WarmUpDecay(0.5, total_steps=100, warmup_steps=10, shape=shape, power=0.9, final_fraction=0.1)
    for step in (0, 4, 9, 10, 55, 99, 100, 500):
        progress = min(1.0, max(0.0, (step - 10) / 90))
        decay = {"poly": (1 - progress) ** 0.9, "cosine": 0.5 * (1 + math.cos(math.pi * progress)), "constant": 1}
        expected = 0.5 * min(1.0, (step + 1) / 11) * (0.1 + 0.9 * decay[shape])
        assert float(schedule(step)) == pytest.approx(expected, rel=1e-5)
    again = WarmUpDecay.from_config(schedule.get_config())
    assert float(again(42)) == float(schedule(42))


@pytest.mark.parametrize("steps", [1, 5, 20, 50, 200, 5000])
def test_batchnorm_forgets_its_initial_statistics_within_a_run_and_long_epochs(steps):
    momentum = momentum_for(steps, steps)
    assert 0.7 <= momentum <= 0.99
    if steps >= 20:
        assert momentum**steps < 0.01
    assert momentum <= momentum_for(2 * steps, 2 * steps)
    assert momentum <= momentum_for(steps, 10 * steps)


@pytest.mark.parametrize("steps", [1, 4, 15, 49])
def test_short_epochs_do_not_make_single_batches_show(steps):
    """With 4 steps an epoch, a momentum of 0.7 let the validation loss rise to hundreds."""
    assert momentum_for(steps, 200) == 0.9
    assert momentum_for(steps, 20 * steps) >= momentum_for(steps, steps)


def test_set_momentum_reaches_nested_layers():
    from segzoo.decoders import UNet

    features = {f"P{n}": keras.Input((None, None, 4)) for n in (1, 2)}
    model = keras.Model(features, UNet(channels=(4, 4))(features))
    assert set_momentum(model, 0.75) == 4
    assert {layer.momentum for layer in model._flatten_layers() if hasattr(layer, "momentum")} == {0.75}


def test_replacing_keeps_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "figures.csv"
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise OSError("disk full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def one_hot_model():
    """Predicts the class that the red channel names."""
    inputs = keras.Input((None, None, 3))
    return keras.Model(inputs, keras.ops.one_hot(keras.ops.cast(inputs[..., 0], "int32"), 3))


@pytest.mark.parametrize("batch", [1, 2, 3, 5])
def test_evaluation_does_not_depend_on_the_batch_size(batch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 3, (5, 4, 6, 3), dtype=np.uint8)
    masks = rng.integers(0, 4, (5, 4, 6), dtype=np.uint8)
    masks[masks == 3] = 255
    ids = [str(n) for n in range(5)]
    parts = [(images[i : i + batch], masks[i : i + batch], ids[i : i + batch]) for i in range(0, 5, batch)]
    seen = []
    found = evaluate(one_hot_model(), parts, Task(("a", "b", "c")), keep=frozenset({"4"}), progress=seen.append)
    assert seen == [min(5, done) for done in range(batch, 5 + batch, batch)]
    expected = np.zeros((3, 3), int)
    for truth, prediction in zip(masks.ravel(), images[..., 0].ravel(), strict=True):
        if truth != 255:
            expected[truth, prediction] += 1
    np.testing.assert_array_equal(found.confusion.counts, expected)
    assert [picture[3] for picture in found.pictures] == ["4"]
    np.testing.assert_array_equal(found.pictures[0][2], images[4, ..., 0])


def test_the_worst_samples_come_first_and_counts_are_kept_by_sample():
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 3, (7, 6, 8), dtype=np.uint8)
    wrong = rng.uniform(size=masks.shape) < np.array([0.1, 0.9, 0.3, 0.5, 0.2, 0.7, 0.0])[:, None, None]
    images = np.repeat(np.where(wrong, (masks + 1) % 3, masks)[..., None], 3, axis=-1).astype(np.uint8)
    masks[6] = 255  # nothing to be wrong about
    ids = [str(n) for n in range(7)]
    calibration = Calibration(ignore_index=255)
    parts = [(images[i : i + 3], masks[i : i + 3], ids[i : i + 3]) for i in range(0, 7, 3)]
    found = evaluate(one_hot_model(), parts, Task(("a", "b", "c")), worst=3, calibration=calibration)
    assert [title.split(":")[0] for *_, title in found.worst] == ["1", "5", "3"]
    np.testing.assert_array_equal(found.worst[0][1], masks[1])
    assert [image.name for image in found.images] == ids
    for image, mask, prediction in zip(found.images, masks, images[..., 0], strict=True):
        matrix = ConfusionMatrix(3, 255)
        matrix.update(mask, prediction)
        np.testing.assert_array_equal(image.hits, matrix.counts.diagonal())
    assert sum(image.actual.sum() for image in found.images) == found.confusion.counts.sum()
    assert calibration.counts.sum() == found.confusion.counts.sum()
    assert len(evaluate(one_hot_model(), parts, Task(("a", "b", "c")), worst=100).worst) == 6


def test_pictures_are_spread_over_the_split():
    ids = [f"{n:02d}" for n in range(100)]
    assert evenly_spaced(ids, 3) == {"00", "50", "99"} or evenly_spaced(ids, 3) == {"00", "49", "99"}
    assert evenly_spaced(ids, 0) == frozenset() and len(evenly_spaced(ids[:2], 6)) == 2


def test_the_feed_raises_what_reading_raised():
    def batches(step):
        yield np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8), np.uint8)
        yield np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 8, 8), np.uint8)
        raise DataError("broken.png is truncated")

    model = keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(2, 1)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    feed = FitDataset(batches)
    with pytest.raises(Exception) as caught:  # whatever TensorFlow makes of it, the feed keeps it
        model.fit(feed.from_step(0), steps_per_epoch=4, verbose=0)
    assert caught.type is not None
    assert isinstance(feed.error, DataError) and "broken.png" in str(feed.error)


def test_the_feed_starts_at_any_step_and_leaves_no_reader_behind():
    started, closed = [], []

    def batches(step):
        started.append(step)
        try:
            while True:
                yield np.full((1, 4, 4, 3), step, np.uint8), np.full((1, 4, 4), step, np.uint8)
                step += 1
        finally:
            closed.append(True)

    feed = FitDataset(batches)
    for first in (0, 5, 2):
        read = [int(masks[0, 0, 0]) for _, (_, masks) in zip(range(6), feed.from_step(first), strict=False)]
        assert read == list(range(first, first + 6))
    feed.close()
    assert len(closed) == len(started)


def test_batches_of_changing_sizes_are_an_error_that_names_the_cure():
    def batches(step):
        for size in (8, 8, 16):
            yield np.zeros((2, size, size, 3), np.uint8), np.zeros((2, size, size), np.uint8)

    feed = FitDataset(batches)
    feed.from_step(0)
    with pytest.raises(DataError, match=r"8x8 pixels, a later one is 16x16.*RandomCrop"):
        list(feed._guarded(0))

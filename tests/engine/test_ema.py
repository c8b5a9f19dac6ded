"""The moving average of weights: its formula, that training never sees it, and that a run evaluates and keeps it."""

import keras
import numpy as np
import pytest
from moments import at_moment, die
from networks import small_backbone

from segzoo.engine import load_run, train
from segzoo.engine.assembly import Assembly
from segzoo.engine.callbacks.ema import ExponentialMovingAverage, decay_for
from segzoo.engine.distribution import Distribution
from segzoo.engine.given import Given
from segzoo.layers import BatchNormalization
from segzoo.models.build import build_model
from segzoo.optim.optimizers import AdamW

SETTINGS = ("training.epochs=2", "training.ema=0.9", "training.optimizer.learning_rate=0.01", "output.keep_state=true")


def normalised():
    inputs = keras.Input((6,))
    x = BatchNormalization(name="norm")(keras.layers.Dense(5, name="one")(inputs)[:, None, None, :])
    return keras.Model(inputs, keras.layers.Dense(2, name="two")(keras.layers.Dropout(0.5)(x[:, 0, 0, :])))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_averages_follow_their_formula_with_statistics_and_leave_the_weights(accumulate, eager):
    rng = np.random.default_rng(0)
    network = normalised()
    network.compile(AdamW(0.01), "mse", jit_compile=False)
    averages = ExponentialMovingAverage(network, normalised(), 0.3, accumulate)
    expected = network.get_weights()
    for step in range(1, 4 * accumulate + 1):  # the fourth update is the first at the full decay
        x, y = rng.normal(size=(8, 6)).astype("float32"), rng.normal(size=(8, 2)).astype("float32")
        keras.utils.set_random_seed(step)
        network.train_on_batch(x, y)
        averages.follow(step)
        if step % accumulate == 0:
            update = step // accumulate - 1
            decay = min(0.3, (1 + update) / (10 + update))
            expected = [
                decay * old + (1 - decay) * new for old, new in zip(expected, network.get_weights(), strict=True)
            ]
        for mine, reference in zip(averages.averaged.get_weights(), expected, strict=True):
            np.testing.assert_allclose(mine, reference, atol=1e-6)
    moved = averages.averaged.get_layer("norm").moving_mean
    assert np.abs(moved.numpy()).max() > 0 and len(averages.variables) == len(network.weights)


def arrays(folder, group):
    with np.load(folder / "state.npz") as state:
        return [state[key] for key in sorted(state.files) if key.startswith(f"{group}/")]


def test_a_run_evaluates_keeps_and_resumes_the_averages_and_trains_as_without_them(config, console, quick):
    averaged = train(config(), console=console)
    plain = train(config("name=plain", "training.ema=null"), console=console)
    for left, right in zip(arrays(averaged.folder, "model"), arrays(plain.folder, "model"), strict=True):
        np.testing.assert_array_equal(left, right)
    assert [row["loss"] for row in averaged.history] == [row["loss"] for row in plain.history]
    assert [row["val_loss"] for row in averaged.history] != [row["val_loss"] for row in plain.history]
    last = load_run(averaged.folder).model("last").get_weights()
    for kept, average in zip(last, arrays(averaged.folder, "ema"), strict=True):
        np.testing.assert_array_equal(kept, average)
    best = load_run(averaged.folder).model("best")
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_allclose(best.predict_on_batch(image), averaged.model.predict_on_batch(image), atol=1e-5)

    with pytest.raises(KeyboardInterrupt):
        train(config("name=broken"), console=console, callbacks=[at_moment("epoch 2 begins", die)])
    resumed = train(config("name=broken"), resume=True, console=console)
    for left, right in zip(arrays(averaged.folder, "ema"), arrays(resumed.folder, "ema"), strict=True):
        np.testing.assert_array_equal(left, right)
    assert [row["val_loss"] for row in averaged.history] == [row["val_loss"] for row in resumed.history]


@pytest.mark.parametrize(("updates", "averaged"), [(20_000, 1000), (1000, 50), (120, 6), (10, 2)])
def test_auto_averages_over_a_twentieth_of_the_run(updates, averaged):
    assert 1 / (1 - decay_for(updates)) == pytest.approx(averaged)


def test_auto_counts_the_updates_of_the_run(config):
    settings = config("training.ema=auto", "training.epochs=30", "training.accumulate=2")
    trained = Assembly(settings, Given(), Distribution()).build("mse", steps=20)
    assert trained.averages.decay == pytest.approx(1 - 1 / 15)


def test_a_real_network_has_a_twin_of_the_same_weights():
    network, twin = (build_model("fpn", small_backbone(), 3, weights="none") for _ in range(2))
    averages = ExponentialMovingAverage(network, twin, 0.99)
    shapes = [(weight.name, weight.shape) for weight in network.weights]
    assert [(weight.name, weight.shape) for weight in averages.variables] == shapes

"""Population statistics of batch normalisation: their values, what they leave alone, and where they are used."""

from __future__ import annotations

import json
import os
import signal

import keras
import numpy as np
import pytest

from segzoo.engine import builders, train, validation
from segzoo.engine.evaluation import evaluate
from segzoo.engine.population import COMPARED, COMPARED_FROM, Comparison, PopulationStatistics, batches_for
from segzoo.errors import RunError, RunInterruptedError
from segzoo.layers import BatchNormalization
from segzoo.reporting.page import figure_text
from segzoo.weights import load_file

SETTINGS = ("training.epochs=2", "training.batchnorm_statistics=population")
RNG = np.random.default_rng(0)
# Dark batches and bright ones: half of the variance lies between them.
BATCHES = [(RNG.uniform(low, low + 50, (2, 8, 8, 3)).astype("float32"), None) for low in (0, 200, 10, 190)]


def network(kind=keras.layers.BatchNormalization) -> keras.Model:
    keras.utils.set_random_seed(1)
    images = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="first")(images)
    x = kind(name="norm1", momentum=0.7)(x)
    x = keras.layers.Dropout(0.5, name="dropout")(keras.layers.ReLU()(x))
    x = keras.layers.Conv2D(2, 1, name="second")(x)
    return keras.Model(images, kind(name="norm2", momentum=0.7)(x))


def expected(model: keras.Model) -> list[np.ndarray]:
    """Mean and variance of the inputs of both layers, each batch normalised by its own statistics, in NumPy."""
    first = [np.asarray(model.get_layer("first")(images)) for images, _ in BATCHES]
    norm = model.get_layer("norm1")
    second = []
    for x in first:
        x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + norm.epsilon)
        second.append(np.asarray(model.get_layer("second")(np.maximum(x, 0))))
    return [f(np.concatenate(x), (0, 1, 2)) for x in (first, second) for f in (np.mean, np.var)]


def statistics(model: keras.Model) -> list[np.ndarray]:
    return [np.asarray(v) for name in ("norm1", "norm2") for v in model.get_layer(name).non_trainable_variables]


@pytest.mark.parametrize("kind", [keras.layers.BatchNormalization, BatchNormalization])
def test_statistics_are_those_of_all_inputs_together(kind):
    model = network(kind)
    others = [np.asarray(v) for v in model.trainable_variables]
    assert PopulationStatistics(model, lambda: BATCHES, 4).estimate() == 2
    for found, value in zip(statistics(model), expected(model), strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-5)
    for before, after in zip(others, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(before, after)
    assert model.get_layer("norm1").momentum == 0.7 and model.get_layer("dropout").rate == 0.5
    within = np.mean([np.asarray(model.get_layer("first")(x)).var((0, 1, 2)) for x, _ in BATCHES], axis=0)
    assert (statistics(model)[1] > 1.5 * within).all()  # the mean of the batches' variances leaves a part of it out


def test_a_second_estimate_is_the_same_bits_and_reads_nothing_again():
    reads = []

    def batches():
        reads.append(1)
        yield from BATCHES
        raise AssertionError("more than it needs")

    model = network()
    estimator = PopulationStatistics(model, batches, 4)
    estimator.estimate()
    first = statistics(model)
    estimator.estimate()
    for one, other in zip(first, statistics(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(reads) == 1


def test_frozen_layers_keep_theirs():
    model, trained = network(), network()
    trained.get_layer("norm1").trainable = False  # as a stage freezes them in the network that is trained
    estimator = PopulationStatistics(model, lambda: BATCHES, 4, trained)
    assert estimator.estimate() == 1
    np.testing.assert_array_equal(statistics(model)[:2], [np.zeros(4), np.ones(4)])
    first = [np.asarray(model.get_layer("first")(images)) for images, _ in BATCHES]
    second = np.concatenate(
        [np.maximum(x / np.sqrt(1 + 1e-3), 0) @ np.asarray(model.get_layer("second").kernel)[0, 0] for x in first]
    )
    np.testing.assert_allclose(statistics(model)[2], second.mean((0, 1, 2)), rtol=1e-4)
    assert model.get_layer("norm1").trainable
    trained.trainable = False
    assert estimator.estimate() == 0


def test_an_error_leaves_the_statistics_as_they_were():
    model = network()
    before = statistics(model)

    def batches():
        yield BATCHES[0]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        PopulationStatistics(model, batches, 4).estimate()
    for one, other in zip(before, statistics(model), strict=True):
        np.testing.assert_array_equal(one, other)


def test_128_samples_or_16_batches_of_an_epoch_at_most():
    assert [batches_for(*given) for given in ((4, 1000), (1, 1000), (32, 1000), (4, 7), (4, 0))] == [32, 128, 16, 7, 1]


@pytest.mark.parametrize("ema", ["null", pytest.param("0.5", marks=pytest.mark.nightly)])
def test_a_run_evaluates_and_saves_them(config, quick, console, ema):
    result = train(config(f"training.ema={ema}"), console=console)
    moving = train(
        config(f"training.ema={ema}", "training.batchnorm_statistics=moving", "name=moving"), console=console
    )
    assert [row["loss"] for row in result.history] == [row["loss"] for row in moving.history]  # it trains as without
    assert result.history[-1]["val_loss"] != moving.history[-1]["val_loss"]
    saved = keras.models.clone_model(result.model)
    load_file(saved, result.folder / "last.weights.h5")
    settings = config(f"training.ema={ema}")
    train_batches = builders.train_batches(settings, builders.build_source(settings, "train"))
    found = keras.models.clone_model(saved)
    found.set_weights(saved.get_weights())
    PopulationStatistics(
        found, train_batches.batches, batches_for(settings.data.batch_size, train_batches.steps_per_epoch)
    ).estimate()
    for one, other in zip(saved.get_weights(), found.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)
    assert json.loads((result.folder / "result.json").read_text())["val_mean_iou"] == result.confusion.mean_iou()


def compared(folder) -> dict:
    """The last comparison in a run's log."""
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == COMPARED and "population" in line][-1]


def evaluated(settings, model: keras.Model) -> float:
    batches = builders.eval_batches(settings, builders.build_source(settings, "val"))
    return evaluate(model, batches, settings.task).confusion.mean_iou()


def test_the_last_epoch_is_evaluated_with_both_kinds(config, quick, console):
    # Of one epoch: in later ones moving averages start from the statistics of the last evaluation.
    result = train(config("training.epochs=1"), console=console)
    found = compared(result.folder)
    assert found["population"] == result.history[-1]["val_mean_iou"] and found["in_use"] == "population"
    moving = train(config("training.epochs=1", "training.batchnorm_statistics=moving", "name=moving"), console=console)
    assert moving.history[-1]["val_mean_iou"] == pytest.approx(found["moving"], abs=1e-6)
    assert not [line for line in (moving.folder / "log.jsonl").open() if COMPARED in line]  # few steps
    page = (result.folder / "summary.md").read_text()
    assert "| batch-normalisation statistics | population |" in page
    assert f"| mean IoU of the last epoch with moving averages | {figure_text(found['moving'])} |" in page
    assert "| batch-normalisation statistics | moving averages |" in (moving.folder / "summary.md").read_text()


@pytest.mark.parametrize("steps", [4, pytest.param(COMPARED_FROM, marks=pytest.mark.nightly)])
def test_after_500_steps_moving_averages_are_compared_and_kept(steps, config, quick, console, monkeypatch):
    monkeypatch.setattr(validation, "COMPARED_FROM", steps)  # 500 in a run
    settings = config(
        "training.batchnorm_statistics=auto",
        "training.epochs=1",
        f"training.steps_per_epoch={steps}",
        "data.batch_size=1",
    )
    result = train(settings, console=console)
    found = compared(result.folder)
    assert found["in_use"] == "moving" and found["moving"] == result.history[-1]["val_mean_iou"]
    last = keras.models.clone_model(result.model)
    load_file(last, result.folder / "last.weights.h5")
    assert evaluated(settings, last) == pytest.approx(found["moving"], abs=1e-6)
    batches = builders.train_batches(settings, builders.build_source(settings, "train"))
    assert PopulationStatistics(last, batches.batches, batches_for(1, steps)).estimate() == 1
    assert evaluated(settings, last) == pytest.approx(found["population"], abs=1e-6)


@pytest.mark.parametrize(
    ("moving", "population", "in_use", "said"),
    [
        (0.5, 0.509, "moving", ""),
        (0.5, 0.52, "moving", "Train with training.batchnorm_statistics: population."),
        (0.52, 0.5, "moving", "this run uses moving. Keep moving."),
        (0.52, 0.5, "population", "Train with training.batchnorm_statistics: moving."),
        (float("nan"), 0.5, "moving", ""),
    ],
)
def test_a_difference_of_a_point_is_told(moving, population, in_use, said):
    note = Comparison(moving, population, in_use).note
    assert note.endswith(said) and bool(note) == bool(said)


def test_data_that_can_be_read_only_once_are_refused(config, quick, console):
    def once():
        while True:
            yield RNG.integers(0, 256, (2, 32, 32, 3), dtype=np.uint8), np.zeros((2, 32, 32), np.uint8)

    steps = "training.steps_per_epoch=2"
    with pytest.raises(RunError, match="does not work with train_data that can be read only once; set it to moving"):
        train(config(steps), train_data=once(), console=console)


class Stops(keras.callbacks.Callback):
    """Asks the run to stop in the first evaluation, or does not."""

    def __init__(self, stops):
        super().__init__()
        self.stops = stops

    def on_test_batch_begin(self, batch, logs=None):
        if self.stops:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("ema", ["0.5", pytest.param("null", marks=pytest.mark.nightly)])
def test_a_run_stopped_within_an_evaluation_ends_with_the_same_bits(config, quick, console, ema):
    settings = (f"training.ema={ema}", "data.val_count=3", "data.eval_batch_size=1", "output.keep_state=true")
    whole = train(config("name=whole", *settings), callbacks=[Stops(False)], console=console)
    with pytest.raises(RunInterruptedError):
        train(config("name=broken", *settings), callbacks=[Stops(True)], console=console)
    resumed = train(config("name=broken", *settings), callbacks=[Stops(False)], console=console)
    assert [row["val_loss"] for row in resumed.history] == [row["val_loss"] for row in whole.history]
    with np.load(whole.folder / "state.npz") as left, np.load(resumed.folder / "state.npz") as right:
        kept = [name for name in left.files if name.startswith(("model/", "ema/", "optimizer/"))]
        assert kept
        for name in kept:
            np.testing.assert_array_equal(left[name], right[name], err_msg=name)
    one, other = (compared(run.folder) for run in (whole, resumed))
    assert (one["moving"], one["population"]) == (other["moving"], other["population"])

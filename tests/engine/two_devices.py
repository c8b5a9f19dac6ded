"""Child process of test_distribution.py, with two devices made of the processor: what its first argument names.

Prints a line of JSON for each part: its name, and how it failed or null.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

# TensorFlow splits the processor into devices only before its first use.
CPU = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 2)

import keras  # noqa: E402
from distributed_run import keep, run, small  # noqa: E402
from quick_runs import lighten  # noqa: E402

from segzoo.data import with_distances  # noqa: E402
from segzoo.engine import builders  # noqa: E402
from segzoo.engine.callbacks.ema import ExponentialMovingAverage  # noqa: E402
from segzoo.errors import SegzooError  # noqa: E402
from segzoo.losses import LOSSES, CrossEntropy  # noqa: E402
from segzoo.metrics import ConfusionMatrix, MeanIoU  # noqa: E402
from segzoo.optim import optimizers  # noqa: E402
from segzoo.optim.schedules import WarmUpDecay  # noqa: E402

IGNORE = 255
CHANNELS = {"multiclass": 4, "binary": 1, "multilabel": 4}


def two() -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def compare(strategy: tf.distribute.Strategy, name: str, loss, target: np.ndarray, logits: np.ndarray) -> None:
    """Compare the loss of two halves of a batch, and its gradient, with those of the whole."""

    def halves(array):
        return strategy.experimental_distribute_values_from_function(
            lambda context: array[2 * context.replica_id_in_sync_group :][:2]
        )

    def step(target, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(target, logits)  # divided by the number of replicas, as Keras's reduction does
        return value, tape.gradient(value, logits)

    expected, slope = step(tf.constant(target), tf.constant(logits))
    values, slopes = strategy.run(step, (halves(tf.constant(target)), halves(tf.constant(logits))))
    shares = [float(value) for value in strategy.experimental_local_results(values)]
    found = np.concatenate([part.numpy() for part in strategy.experimental_local_results(slopes)])
    assert shares[0] == shares[1], (name, shares)
    np.testing.assert_allclose(sum(shares), float(expected), atol=1e-5, err_msg=name)
    scale = np.abs(slope.numpy()).max()
    assert scale > 0, name
    np.testing.assert_allclose(found, slope.numpy(), atol=1e-5 * scale, rtol=1e-4, err_msg=name)


def variants(name: str, mode: str) -> list[dict]:
    """Options of a loss whose means over pixels need counts of all replicas."""
    found = [{}]
    if name == "cross_entropy":
        found += [{"ohem_fraction": 0.3}, {"class_weights": [1.0, 2.0, 3.0, 4.0]}]
    if hasattr(LOSSES[name](IGNORE, mode=mode), "per_image"):
        found += [{"per_image": True}]
    return found


def losses(modes: int) -> None:
    strategy, rng = two(), np.random.default_rng(3)
    labels = np.kron(rng.integers(0, 4, (4, 3, 3)), np.ones((4, 3), int))
    labels[0] = IGNORE  # the first replica has a third of the second's valid pixels
    labels[1, :4] = IGNORE
    with_outlines = np.stack([with_distances(mask, 4, IGNORE) for mask in labels]).astype("float32")
    for name in LOSSES:
        loss = LOSSES[name]
        for mode in loss.modes[:modes]:
            logits = rng.normal(size=(4, 12, 9, CHANNELS[mode])).astype("float32")
            if mode == "multiclass":
                target = with_outlines
            else:
                target = rng.integers(0, 2, (4, 12, 9, 2 * CHANNELS[mode] + 1)).astype("float32")
                target[labels == IGNORE] = IGNORE
                target[..., -1] = with_outlines[..., -1]
            if not loss.takes_distances:
                target = target[..., : -CHANNELS[mode] - 1]
            for options in variants(name, mode):
                compare(strategy, f"{name} {mode} {options}", loss(IGNORE, mode=mode, **options), target, logits)


def counts() -> None:
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 12, 10, 3)).astype("float32")
    labels = rng.integers(0, 4, (8, 12, 10)).astype("int32")
    labels[:, :3] = IGNORE
    with two().scope():
        image = keras.Input((12, 10, 3))
        model = keras.Model(image, keras.layers.Conv2D(4, 1)(image))
        metric = MeanIoU(4, IGNORE)
        model.compile("sgd", CrossEntropy(IGNORE), metrics=[metric], jit_compile=False)
    _, score = model.evaluate(images, labels, batch_size=4, verbose=0)
    matrix = ConfusionMatrix(4, IGNORE)
    matrix.update(labels, model(images).numpy().argmax(-1))
    assert abs(score - matrix.mean_iou()) < 1e-6, (score, matrix.mean_iou())
    np.testing.assert_array_equal(metric.exact().counts, matrix.counts)


def network() -> keras.Model:
    inputs = keras.Input((6,))
    x = keras.layers.Dense(5, activation="tanh", name="one")(inputs)
    return keras.Model(inputs, keras.layers.Dense(2, name="two")(x))


def trained(name: str, scope, start: list[np.ndarray], run_eagerly: bool = False) -> list[np.ndarray]:
    """Weights after six steps, and their averages; tracing takes longer, and two devices need it."""
    x = np.random.default_rng(0).normal(size=(8, 6)).astype("float32")
    with scope:
        model, twin = network(), network()
        model.set_weights(start)
        optimizer = optimizers.create(name, WarmUpDecay(0.05, 20, 2), 0.1)
        model.compile(optimizer, "mse", jit_compile=False, run_eagerly=run_eagerly)
        optimizer.build(model.trainable_variables)
        optimizer.set_factors([(variable, 0.3) for variable in model.get_layer("one").variables])
        averages = ExponentialMovingAverage(model, twin, 0.9)
    follow = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: averages.follow(batch + 1))
    data = tf.data.Dataset.from_tensors((x, x[:, :2])).repeat()
    model.fit(data, steps_per_epoch=6, verbose=0, callbacks=[follow])
    return model.get_weights() + twin.get_weights()


def updates(name: str) -> None:
    """Decay by part once depended on the threads."""
    start = network().get_weights()
    alone, together = trained(name, contextlib.nullcontext(), start, True), trained(name, two().scope(), start)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 if name == "adamw" else 1e-6)
    try:
        with two().scope():
            optimizers.create("sgd", 0.1, accumulate=2)
    except SegzooError as error:
        assert "give larger batches" in str(error)
    else:
        raise AssertionError("accumulates over two devices")


def training(folder: Path) -> None:
    """Train by one device and by two."""
    lighten(setattr)
    builders.build_network = small(dropout=0.0)
    for kind in ("none", "mirrored"):
        tf.config.run_functions_eagerly(kind == "none")
        short = (f"name={kind}", f"training.distribution={kind}", "training.epochs=1")
        keep(folder, kind, run(folder, *short, "loss={cross_entropy: {ohem_fraction: 0.5}}"))
    loaded = keras.models.load_model(folder / "runs" / "mirrored" / "model.keras")
    assert not any(getattr(layer, "synchronized", False) for layer in loaded._flatten_layers())


def tell(part: Callable[..., None], *arguments: object) -> None:
    """Print the name of a part, and how it failed or null.

    It runs in a process of its own, a fork: TensorFlow reduces shapes of one strategy under the numbers of another's.
    """
    if (child := os.fork()) == 0:
        error = None
        try:
            part(*arguments)
        except Exception:
            error = traceback.format_exc()
        print(json.dumps([part.__name__, error]), flush=True)
        os._exit(0)
    os.waitpid(child, 0)


if __name__ == "__main__":
    amount, folder = sys.argv[1:]
    tell(losses, 1 if amount == "few" else 3)
    tell(updates, "adamw" if amount == "few" else "sgd")
    if amount == "few":
        tell(counts)
        tell(training, Path(folder))

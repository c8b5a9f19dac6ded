"""A loss on two replicas of unequal shares is that of the whole batch, and so is its gradient.

By default in one mode of each loss; without graphs, whose tracing takes longer: tests/engine/test_distribution.py
trains in one.
"""

from __future__ import annotations

import keras
import pytest

# In a process of its own: TensorFlow splits the processor into devices only before its first use.
SCRIPT = """
import sys
import numpy as np
import tensorflow as tf
cpus = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from segzoo.data import with_distances
from segzoo.losses import LOSSES

IGNORE, strategy = 255, tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
rng = np.random.default_rng(3)

def halves(array):
    return strategy.experimental_distribute_values_from_function(
        lambda context: array[2 * context.replica_id_in_sync_group:][:2]
    )

def compare(name, loss, target, logits):
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

labels = np.kron(rng.integers(0, 4, (4, 3, 3)), np.ones((4, 3), int))
labels[0] = IGNORE  # the first replica has a third of the second's valid pixels
labels[1, :4] = IGNORE
with_outlines = np.stack([with_distances(mask, 4, IGNORE) for mask in labels]).astype("float32")
channels = {"multiclass": 4, "binary": 1, "multilabel": 4}
for name in LOSSES:
    loss = LOSSES[name]
    for mode in loss.modes[: int(sys.argv[1])]:
        logits = rng.normal(size=(4, 12, 9, channels[mode])).astype("float32")
        if mode == "multiclass":
            target = with_outlines
        else:
            target = rng.integers(0, 2, (4, 12, 9, 2 * channels[mode] + 1)).astype("float32")
            target[labels == IGNORE] = IGNORE
            target[..., -1] = with_outlines[..., -1]
        if not loss.takes_distances:
            target = target[..., : -channels[mode] - 1]
        variants = [{}]
        if name == "cross_entropy":
            variants += [{"ohem_fraction": 0.3}, {"class_weights": [1.0, 2.0, 3.0, 4.0]}]
        if hasattr(loss(IGNORE, mode=mode), "per_image"):
            variants += [{"per_image": True}]
        for arguments in variants:
            compare(f"{name} {mode} {arguments}", loss(IGNORE, mode=mode, **arguments), target, logits)
"""


@pytest.mark.slow
@pytest.mark.parametrize("modes", [1, pytest.param(3, marks=pytest.mark.nightly)])
def test_losses_of_two_replicas_are_those_of_the_whole_batch(forked, modes: int) -> None:
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tf.distribute")
    forked(SCRIPT, modes)

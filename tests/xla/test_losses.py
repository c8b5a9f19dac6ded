"""Every loss, in every mode, has the same value and gradient under XLA."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from segzoo.data import with_distances
from segzoo.losses import LOSSES

IGNORE = 255
CASES = [(name, mode) for name in LOSSES for mode in LOSSES[name].modes]


def arrays(mode: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    labels = np.kron(rng.integers(0, 4, (2, 3, 3)), np.ones((4, 3), int))
    labels[:, :2, 4:] = IGNORE
    distances = np.stack([with_distances(mask, 4, IGNORE) for mask in labels])
    classes = 1 if mode == "binary" else 4
    logits = rng.normal(0, 2, (*labels.shape, classes)).astype("float32")
    if mode == "multiclass":
        return distances, logits
    values = (rng.uniform(size=logits.shape) < 0.4).astype("float32")
    values[labels == IGNORE] = IGNORE
    return np.concatenate([values, distances[..., 1 : 1 + classes]], axis=-1), logits


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("name", "mode"), CASES)
def test_value_and_gradient(name: str, mode: str, dtype: str) -> None:
    loss = LOSSES[name](ignore_index=IGNORE, mode=mode)
    loss.distances = True
    target, logits = arrays(mode)
    logits = tf.cast(logits, dtype)

    def differentiated(target, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(target, logits)
        return value, tf.cast(tape.gradient(value, logits), "float32")

    kernels = tf.function(differentiated)(target, logits)
    compiled = tf.function(differentiated, jit_compile=True)(target, logits)
    assert float(compiled[0]) == pytest.approx(float(kernels[0]), rel=1e-5)
    slope = np.abs(kernels[1]).max()
    assert slope > 0
    np.testing.assert_allclose(compiled[1], kernels[1], atol=(1e-5 if dtype == "float32" else 1e-2) * slope)

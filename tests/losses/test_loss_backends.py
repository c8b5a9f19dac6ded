"""No loss leaves TensorFlow's graph; tests/test_backends.py compares their values and gradients on every backend."""

from __future__ import annotations

import keras
import pytest
from loss_arrays import IGNORE, loss_arrays

from segzoo.losses import LOSSES


@pytest.fixture(scope="module")
def arrays():
    return loss_arrays()


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_leaves_the_graph(name, arrays):
    """Computation in Python or on the host shows as such an operation, and would stall a GPU in every step."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("reads TensorFlow's graph")
    import tensorflow as tf

    mode = LOSSES[name].modes[0]
    loss = LOSSES[name](ignore_index=IGNORE, mode=mode)
    target, logits = (tf.constant(arrays[f"{what} {mode}"]) for what in ("target", "logits"))
    target = target if loss.takes_distances else target[..., : -logits.shape[-1] - 1]

    @tf.function
    def step(target, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(target, logits)
        return tape.gradient(value, logits)

    kinds = {operation.type for operation in step.get_concrete_function(target, logits).graph.get_operations()}
    assert not {kind for kind in kinds if "PyFunc" in kind or kind.startswith(("Host", "Print", "Where"))}

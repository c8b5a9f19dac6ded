"""Exponential moving average (EMA) of a network's weights, in a second network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from segzoo.engine.callbacks.base import RunCallback
from segzoo.keras_compat import sync_variables

# Of a run's updates: less hardly smooths the differences between epochs, more lags behind a short run.
_SHARE = 0.05


def decay_for(updates: int) -> float:
    """Return the decay that averages over a twentieth of this many updates, and over two at least."""
    return 1.0 - 1.0 / max(2.0, _SHARE * updates)


class ExponentialMovingAverage(RunCallback):
    """Averages of all weights of `network`, moving statistics of normalisation too, as the weights of `averaged`.

    A network of its own: the average is evaluated and saved without ever touching the weights that are trained. With
    every update `average += (1 - decay) * (weight - average)`. At update n decay is at most `(1 + n) / (10 + n)`, as in
    tf.train.ExponentialMovingAverage, so that a short run's average is not one of its initial values.

    Args:
        network: model being trained.
        averaged: the same network built once more; it takes over the weights.
        decay: between 0 and 1; 0.999 averages over about 1000 updates.
        accumulate: steps that make one update.

    Attributes:
        averaged: the network of averages.
    """

    def __init__(self, network: keras.Model, averaged: keras.Model, decay: float, accumulate: int = 1):
        super().__init__()
        self.network = network
        self.averaged = averaged
        self.decay = decay
        self.accumulate = accumulate
        averaged.set_weights(network.get_weights())
        self._move = self._compiled()

    @property
    def variables(self) -> list[keras.Variable]:
        """Variables of the checkpoint beside the network's own."""
        return list(self.averaged.weights)

    def decay_at(self, update: int) -> float:
        """Decay at an update, the first being 0."""
        return min(self.decay, (1.0 + update) / (10.0 + update))

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Take the weights of this step into the averages."""
        self.follow(self.progress.step)

    def follow(self, step: int) -> None:
        """Take the weights after `step` steps into the averages, where these steps end with an update."""
        if step % self.accumulate == 0:
            self._move(1.0 - self.decay_at(step // self.accumulate - 1))

    def _compiled(self) -> Callable[[float], None]:
        pairs = list(zip(self.averaged.weights, self.network.weights, strict=True))

        def move(share: Any) -> None:
            for average, weight in pairs:
                average.assign_add((weight - average) * keras.ops.cast(share, average.dtype))

        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            graph = tf.function(move, input_signature=[tf.TensorSpec((), tf.float32)])

            def move_in_graph(share: float) -> None:
                graph(tf.constant(share, tf.float32))

            return move_in_graph

        def move_eagerly(share: float) -> None:
            sync_variables(self.network)
            move(share)

        return move_eagerly

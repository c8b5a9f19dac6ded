"""Population statistics of batch normalisation, estimated from training batches before an evaluation.

Moving statistics follow weights that have changed since, and average the variances within batches: where batches
differ, as of bright and dark pictures, the variance between their means is missing. Here a few batches pass through the
network as it is, each normalised by its own statistics as in training, and a layer gets the mean and variance of all of
its inputs together: the mean of the squares less the square of the mean (Wu and Johnson, "Rethinking Batch in
BatchNorm", 2021, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import keras
import numpy as np

from segzoo.keras_compat import all_layers, sync_variables

# Of a larger number the estimate gains little; fewer batches than this say little of the variance between them.
SAMPLES, _FEWEST_BATCHES = 128, 16
_Normalization = keras.layers.BatchNormalization
# Function from images to mean and variance of the inputs of each layer, in this batch.
_Forward = Callable[[np.ndarray], "list[tuple[np.ndarray, np.ndarray]]"]
#: Name of the event of a run's log that holds a `Comparison`.
COMPARED = "batchnorm_statistics"
# Moving averages have followed the weights after so many steps, and the comparison costs little beside them.
COMPARED_FROM = 500
_POINT = 0.01
# Images that are kept from one estimate to the next, so that they are augmented once.
_KEPT_BYTES = 256 * 2**20


def batches_for(batch_size: int, steps: int) -> int:
    """Return the number of batches that statistics are estimated from, at most those of an epoch of `steps`."""
    return max(1, min(steps, max(_FEWEST_BATCHES, -(-SAMPLES // batch_size))))


@dataclass(frozen=True)
class Comparison:
    """Validation mIoU of the same weights, with either kind of statistics, at the end of a run.

    Attributes:
        moving: with moving averages.
        population: with population statistics.
        in_use: which of the two the run uses, "moving" or "population".
    """

    moving: float
    population: float
    in_use: str

    @classmethod
    def last_of(cls, events: Sequence[Mapping[str, Any]]) -> Comparison | None:
        """Return the last comparison in a run's log, or None."""
        for event in reversed(events):
            if event["event"] == COMPARED and "population" in event:
                return cls(event["moving"], event["population"], event["in_use"])
        return None

    @property
    def note(self) -> str:
        """A sentence on a difference of more than a point, or nothing."""
        if not abs(self.population - self.moving) > _POINT:  # nor for NaN
            return ""
        worse = {"moving": self.moving < self.population, "population": self.population < self.moving}[self.in_use]
        other = "moving" if self.in_use == "population" else "population"
        cure = f"Train with training.batchnorm_statistics: {other}." if worse else f"Keep {self.in_use}."
        return (
            f"At the last epoch validation mIoU is {self.population:.3f} with population statistics of batch "
            f"normalisation and {self.moving:.3f} with moving averages; this run uses {self.in_use}. {cure}"
        )


def moving_at(events: Sequence[Mapping[str, Any]], step: int) -> float | None:
    """Return the mIoU with moving averages that a run's log has of a step, or None."""
    found = (event for event in reversed(events) if event["event"] == COMPARED and event.get("step") == step)
    return next((event["moving"] for event in found), None)


class PopulationStatistics:
    """Estimator of the statistics of a network's batch normalisation, which it writes in place of the moving ones.

    Frozen layers keep theirs. Dropout and stochastic depth are left out, as in the evaluation that follows.

    Args:
        network: images `(B, H, W, C)` to anything; its layers get the statistics.
        batches: function that returns batches, images first, the same ones every time.
        count: of batches to take.
        trained: the network whose layers say which of them are frozen; by default `network` itself.
    """

    def __init__(
        self,
        network: keras.Model,
        batches: Callable[[], Iterable[Sequence[Any]]],
        count: int,
        trained: keras.Model | None = None,
    ):
        self.network = network
        self.count = count
        self._trained = network if trained is None else trained
        self._batches = batches
        self._kept: list[np.ndarray] | None = None
        self._forward: tuple[list[Any], _Forward] | None = None

    def keep(self) -> None:
        """Read the batches now, for data that are read by something else later."""
        self._kept = list(self._read())

    def estimate(self) -> int:
        """Estimate the statistics, and write them into the layers; returns the number of layers."""
        pairs = zip(all_layers(self._trained), all_layers(self.network), strict=True)
        layers = [ours for theirs, ours in pairs if isinstance(ours, _Normalization) and theirs.trainable]
        if not layers:
            return 0
        if self._forward is None or self._forward[0] != layers:  # a stage may have frozen some
            self._forward = layers, _statistics_of(self.network, layers, bool(self._trained.jit_compile))
        sync_variables(self.network)
        before = list(map(_values, layers))
        sums = [np.zeros((2, *mean.shape)) for mean, _ in before]
        taken = 0
        try:
            for images in self._images():
                for total, (mean, variance) in zip(sums, self._forward[1](images), strict=True):
                    total += mean.astype("float64"), variance.astype("float64") + mean.astype("float64") ** 2
                taken += 1
        except BaseException:
            _assign_all(layers, before)
            raise
        means = [total / taken for total in sums]
        _assign_all(layers, [(mean, np.maximum(square - mean**2, 0.0)) for mean, square in means])
        return len(layers)

    @contextmanager
    def applied(self) -> Iterator[int]:
        """Estimate the statistics for a while, and give the layers their own back; yields the number of layers."""
        layers = [layer for layer in all_layers(self.network) if isinstance(layer, _Normalization)]
        sync_variables(self.network)
        before = list(map(_values, layers))
        try:
            yield self.estimate()
        finally:
            _assign_all(layers, before)

    def _images(self) -> Iterator[np.ndarray]:
        """Yield the images, and keep them where they are few."""
        if self._kept is not None:
            yield from self._kept
            return
        kept: list[np.ndarray] | None = []
        for images in self._read():
            if kept is not None:
                kept.append(images)
                kept = kept if sum(array.nbytes for array in kept) <= _KEPT_BYTES else None
            yield images
        self._kept = kept

    def _read(self) -> Iterator[np.ndarray]:
        batches = iter(self._batches())
        try:
            for images, *_ in islice(batches, self.count):
                yield np.asarray(images)
        finally:
            if hasattr(batches, "close"):  # a generator whose threads read ahead
                batches.close()


def _variables(layer: Any) -> tuple[Any, Any]:
    return layer.moving_mean, layer.moving_variance


def _values(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    mean, variance = map(keras.ops.convert_to_numpy, _variables(layer))
    return mean, variance


def _assign_all(layers: Sequence[Any], values: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    for layer, given in zip(layers, values, strict=True):
        for variable, value in zip(_variables(layer), given, strict=True):
            variable.assign(value.astype(variable.dtype))


def _statistics_of(network: keras.Model, layers: Sequence[Any], xla: bool) -> _Forward:
    """Compile the pass of a batch through the network, on TensorFlow by XLA if the training is."""
    if keras.backend.backend() == "jax":
        return _on_jax(network, layers)

    def forward(images: Any) -> list[Any]:
        with _only_normalization_trains(network, layers):
            network(images, training=True)
        return [tuple(keras.ops.convert_to_tensor(variable) for variable in _variables(layer)) for layer in layers]

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(forward, reduce_retracing=True, jit_compile=xla)
        return lambda images: _as_numpy(compiled(tf.constant(images)))

    import torch

    def without_gradients(images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        with torch.no_grad():
            return _as_numpy(forward(keras.ops.convert_to_tensor(images)))

    return without_gradients


def _on_jax(network: keras.Model, layers: Sequence[Any]) -> _Forward:
    import jax

    @jax.jit
    def forward(trained: Any, others: Any, images: Any) -> list[Any]:
        places = {id(variable): place for place, variable in enumerate(network.non_trainable_variables)}
        with _only_normalization_trains(network, layers):
            _, moved = network.stateless_call(trained, others, images, training=True)
        return [tuple(moved[places[id(variable)]] for variable in _variables(layer)) for layer in layers]

    def call(images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        kinds = (network.trainable_variables, network.non_trainable_variables)
        return _as_numpy(forward(*([variable.value for variable in kind] for kind in kinds), images))

    return call


def _as_numpy(found: Iterable[Any]) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(keras.ops.convert_to_numpy(mean), keras.ops.convert_to_numpy(variance)) for mean, variance in found]


@contextmanager
def _only_normalization_trains(network: keras.Model, layers: Sequence[Any]) -> Iterator[None]:
    """Trace with a momentum of 0, with which moving statistics are those of the batch, and without dropout.

    Other normalisation layers than `layers`, which are frozen in the training, use the statistics that they have.
    """
    attributes = []
    for layer in all_layers(network):
        if isinstance(layer, keras.layers.Dropout):
            attributes.append((layer, "rate", 0.0))
        elif any(layer is other for other in layers):
            attributes.append((layer, "momentum", 0.0))
        elif isinstance(layer, _Normalization) and layer.trainable:
            attributes.append((layer, "trainable", False))
    before = [getattr(layer, name) for layer, name, _ in attributes]
    try:
        for layer, name, value in attributes:
            setattr(layer, name, value)
        yield
    finally:
        for (layer, name, _), value in zip(attributes, before, strict=True):
            setattr(layer, name, value)

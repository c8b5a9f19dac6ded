"""Gradient checkpointing (rematerialisation): training keeps a few activations and recomputes the others."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from segzoo.keras_compat import calls_of, results_of

# Height and width that activations are weighed at where the model's input leaves them open.
_SIZE = 256


@keras.saving.register_keras_serializable("segzoo")
class RematModel(keras.Model):
    """Functional model with gradient checkpointing: keeps few activations and recomputes the rest backward.

    Its layers are cut into segments. Of the forward pass only the tensors between segments stay in memory; backward,
    each segment runs once more, with the same dropout masks and without moving any statistics, so gradients and weights
    are those of `keras.Model` up to the order of rounding. Where to cut is chosen for the smallest peak, from the sizes
    of all activations. Costs up to one more forward pass a step. Source: Chen et al., "Training Deep Nets with
    Sublinear Memory Cost" (2016).

    Args:
        *args: inputs and outputs, as of a functional `keras.Model`.
        **kwargs: arguments of `keras.Model`.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._plan: _Plan | None = None

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return what the same `keras.Model` would return."""
        if not training or mask is not None:
            return super().call(inputs, training=training, mask=mask)
        if self._plan is None:
            self._plan = _Plan(_segments(self))
        given = zip(self.inputs, keras.tree.flatten(inputs), strict=True)
        known = {id(symbol): keras.ops.cast(value, symbol.dtype) for symbol, value in given}
        for segment in self._plan.segments:
            outputs = _recomputed(segment.model, [known[id(tensor)] for tensor in segment.inputs])
            known.update(zip(map(id, segment.outputs), outputs, strict=True))
        return keras.tree.map_structure(lambda symbol: known[id(symbol)], results_of(self))


@dataclass(frozen=True)
class _Segment:
    """Segment of a model, as a model of the same layers between tensors of the whole."""

    model: keras.Model
    inputs: list[Any]
    outputs: list[Any]


@dataclass(frozen=True)
class _Plan:
    """Ordered segments; hidden from Keras, which would track a plain list of models as sublayers and save them."""

    segments: list[_Segment]


def _recomputed(segment: keras.Model, inputs: list[Any]) -> list[Any]:
    """Call a segment in training mode so that its backward pass recomputes its activations."""
    trained = [variable.value for variable in segment.trainable_variables]
    state = [variable.value for variable in segment.non_trainable_variables]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Values of now: what is computed again draws the same random numbers, and moves no statistics a second time.
        trained, state = [[tf.convert_to_tensor(value) for value in values] for values in (trained, state)]
        moved: list[Any] = []

        def run(*given: Any) -> tuple[Any, ...]:
            outputs, after = segment.stateless_call(given[: len(trained)], state, list(given[len(trained) :]), True)
            moved.append(after)
            return tuple(keras.tree.flatten(outputs))

        # Integers, which seeds are, cannot be among what a function with a gradient returns.
        outputs = list(tf.recompute_grad(run)(*trained, *inputs))
        after = moved[0]
    else:

        def run_all(trained: Any, state: Any, inputs: Any) -> tuple[Any, Any]:
            return segment.stateless_call(trained, state, inputs, True)

        outputs, after = keras.remat(run_all)(trained, state, inputs)
    for variable, value in zip(segment.non_trainable_variables, after, strict=True):
        variable.assign(value)
    return keras.tree.flatten(outputs)


def _segments(model: keras.Model) -> list[_Segment]:
    """Cut a model into segments with the least peak memory."""
    calls = [call for call in calls_of(model) if not call.is_input]
    tensors = {id(tensor): tensor for call in calls for tensor in call.output_tensors}
    made = {id(tensor): number for number, call in enumerate(calls) for tensor in call.output_tensors}
    last = dict(made)
    for number, call in enumerate(calls):
        for tensor in call.input_tensors:
            last[id(tensor)] = number
    results = {id(tensor) for tensor in model.outputs}
    for tensor in results & set(last):
        last[tensor] = len(calls)
    sizes = _sizes(model, list(tensors.values()))
    ends = [*cuts([made[key] for key in tensors], [last[key] for key in tensors], sizes, len(calls)), len(calls)]

    found = []
    for begin, end in itertools.pairwise([0, *ends]):
        inside = calls[begin:end]
        read = {id(tensor): tensor for call in inside for tensor in call.input_tensors}
        inputs = [tensor for key, tensor in read.items() if made.get(key, -1) < begin]
        outputs = [tensor for key, tensor in tensors.items() if begin <= made[key] < end and last[key] >= end]
        found.append(_Segment(_called_again(inside, inputs, outputs), inputs, outputs))
    return found


def _called_again(calls: list[Any], inputs: list[Any], outputs: list[Any]) -> keras.Model:
    """Build a model of these calls of shared layers; `keras.Model` on inner tensors of a model would damage that."""
    known = {id(tensor): keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype) for tensor in inputs}
    fresh = [known[id(tensor)] for tensor in inputs]
    for call in calls:
        args, kwargs = call.arguments.fill_in(known)
        results = keras.tree.flatten(call.operation(*args, **kwargs))
        known.update(zip(map(id, call.output_tensors), results, strict=True))
    return keras.Model(fresh, [known[id(tensor)] for tensor in outputs])


def _sizes(model: keras.Model, tensors: list[Any]) -> list[float]:
    """Return the bytes of each of a model's tensors for one image."""
    images = [
        keras.KerasTensor((1, *(_SIZE if size is None else size for size in tensor.shape[1:])), tensor.dtype)
        for tensor in model.inputs
    ]
    specs = keras.Function(model.inputs, tensors).compute_output_spec(images)
    return [float(np.prod(spec.shape)) * (2 if spec.dtype in ("bfloat16", "float16") else 4) for spec in specs]


def cuts(made: Sequence[int], last: Sequence[int], sizes: Sequence[float], calls: int) -> list[int]:
    """Return the cuts of a sequence of calls into segments that minimise the peak memory.

    While a segment runs backward, the tensors across all cuts up to it are held, and all that are made within it.

    Args:
        made: for each tensor, the number of the call that makes it.
        last: for each tensor, the number of the last call that reads it, or `calls` if it is an output.
        sizes: size of each tensor.
        calls: number of calls.

    Returns:
        The index of the call after each cut, in ascending order.
    """
    held_of = np.zeros((calls + 1, calls + 1))  # [cut, call]: size of what the call makes and a call past the cut reads
    total = np.zeros(calls + 1)
    for begin, end, size in zip(made, last, sizes, strict=True):
        total[begin + 1] += size
        held_of[begin + 1 : end + 1, begin] += size
    total = total.cumsum()  # of what the calls before each number make
    held = np.concatenate([np.zeros((calls + 1, 1)), np.cumsum(held_of, axis=1)[:, :calls]], axis=1)

    def plan(most: float) -> list[int] | None:
        """Return cuts with a peak of at most `most`; None if there are none."""
        least = np.full(calls + 1, np.inf)  # held across the cuts up to and with this one
        least[0], before = 0.0, np.zeros(calls + 1, dtype=int)
        for cut in range(1, calls + 1):
            earlier = least[:cut]
            new = held[cut, cut] - held[cut, :cut] if cut < calls else 0.0
            fits = earlier + total[cut] - total[:cut] <= most
            kept = np.where(fits, earlier + new, np.inf)
            before[cut] = int(np.argmin(kept))
            least[cut] = kept[before[cut]]
        if not np.isfinite(least[calls]):
            return None
        found, cut = [], int(before[calls])
        while cut:
            found.append(cut)
            cut = int(before[cut])
        return found[::-1]

    low, high, best = 0.0, float(total[calls]), plan(float(total[calls]))
    for _ in range(12):
        middle = (low + high) / 2
        if (found := plan(middle)) is None:
            low = middle
        else:
            high, best = middle, found
    assert best is not None
    return best

"""Rows of tensors and layers, by which a state dict of PyTorch becomes the weights of a Keras model.

A library's network is a table of such rows; `assign` is the one place that carries tensors over.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from segzoo.errors import WeightsError
from segzoo.interop.checkpoint import Tensors

if TYPE_CHECKING:
    import keras

# Kind of layer: names of its tensors after the last dot to those of its weights in Keras; a layer here may have fewer.
_PARTS = {
    "conv": {"weight": "kernel", "bias": "bias"},
    "depthwise": {"weight": "kernel", "bias": "bias"},
    "linear": {"weight": "kernel", "bias": "bias"},
    "excite": {"weight": "kernel", "bias": "bias"},
    "norm": {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"},
}


@dataclass(frozen=True)
class Row:
    """Pair of a layer of another library and the corresponding segzoo layer.

    Attributes:
        theirs: the name before the last dot of its tensors.
        ours: path of the layer.
        kind: key of `_PARTS`.
        inputs: for each group of input channels here, in turn, the first and the end of it there; empty: in the same
            order.
        shift: of a normalisation, the tensor that is a bias of the convolution before it, which has none here.
    """

    theirs: str
    ours: str
    kind: str = "conv"
    inputs: tuple[tuple[int, int], ...] = ()
    shift: str = ""

    @property
    def tensor(self) -> str:
        """Name of the tensor that the layer has in any case."""
        return f"{self.theirs}.{next(iter(_PARTS[self.kind]))}"


def table(*lines: str, **places: Any) -> list[Row]:
    """Parse rows from lines "kind theirs ours", in which `{name}` stands for a value of `places`."""
    return [Row(theirs, ours, kind) for kind, theirs, ours in (line.format(**places).split() for line in lines)]


def under(prefix: str, rows: Iterable[Row]) -> list[Row]:
    """Return rows whose tensors have a prefix."""
    return [replace(row, theirs=f"{prefix}{row.theirs}") for row in rows]


def assign(model: keras.Model, rows: Sequence[Row], tensors: Tensors, origin: str) -> list[str]:
    """Assign a tensor to every weight of the model; returns the unused tensors.

    Args:
        model: whose weights are set.
        rows: of all its layers with weights; those of other layers are passed over.
        tensors: state dict, in NumPy.
        origin: name of the checkpoint, for messages.

    Raises:
        WeightsError: a tensor that is missing or has another shape.
    """
    variables = {weight.path: weight for weight in model.weights if "seed_generator" not in weight.path}
    missing, used = dict(variables), set()
    for row in rows:
        for part, own in _PARTS[row.kind].items():
            variable, name = variables.get(f"{row.ours}/{own}"), f"{row.theirs}.{part}"
            if variable is None:
                continue
            if name not in tensors:
                raise WeightsError(f"{origin} lacks the tensor {name}, which {row.ours} of {model.name} needs.")
            value = _value(row, name, tensors, len(variable.shape))
            if value.shape != tuple(variable.shape):
                shape = tuple(tensors[name].shape)
                raise WeightsError(
                    f"{origin}: {name} has shape {shape}, {row.ours} needs {tuple(variable.shape)} in Keras's order; "
                    f"it is of another network than {model.name}."
                )
            if part == "running_mean" and row.shift in tensors:
                # The norm subtracts the bias of the convolution again, so it may as well never be added.
                value = value - tensors[row.shift]
                used.add(row.shift)
            variable.assign(value)
            used.add(name)
            del missing[variable.path]
    if missing:
        raise WeightsError(f"{origin} holds nothing for {len(missing)} weights, first {next(iter(missing))}.")
    return [name for name in tensors if name not in used and not name.endswith("num_batches_tracked")]


def _value(row: Row, name: str, tensors: Tensors, axes: int) -> np.ndarray:
    """Transpose a tensor to Keras's order of axes, of which there are `axes`, and segzoo's order of input channels."""
    value = tensors[name]
    if row.kind == "linear" and value.ndim == 2:
        return value.T[None, None] if axes == 4 else value.T
    if row.kind == "excite":  # its outputs are the channels that its map has as inputs
        value = np.concatenate([value[first:end] for first, end in row.inputs]) if row.inputs else value
    elif row.inputs and value.ndim == 4:
        value = np.concatenate([value[:, first:end] for first, end in row.inputs], axis=1)
    if value.ndim != 4:
        return value
    return value.transpose(2, 3, 0, 1) if row.kind == "depthwise" else value.transpose(2, 3, 1, 0)

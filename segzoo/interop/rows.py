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
# Kind of layer to its place among those that one linear layer there makes together, and their number.
_PIECES = {"keys": (0, 2), "values": (1, 2), "query": (0, 3), "key": (1, 3), "value": (2, 3)}
_EPSILON = 1e-5  # PyTorch's default
_PARTS = {
    "conv": {"weight": "kernel", "bias": "bias"},
    "depthwise": {"weight": "kernel", "bias": "bias"},
    # The two convolutions of a separable one, which is one layer here.
    "spread": {"weight": "depthwise_kernel"},
    "mix": {"weight": "pointwise_kernel"},
    "linear": {"weight": "kernel", "bias": "bias"},
    **{kind: {"weight": "kernel", "bias": "bias"} for kind in _PIECES},
    "excite": {"weight": "kernel", "bias": "bias"},
    "scale": {"": "gamma"},
    "class": {"": "class_token"},
    "registers": {"": "register_tokens"},
    "positions": {"": "position_embedding"},
    "grid": {"": "position_embedding"},
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
        folded: of a convolution, the name before the last dot of the batch normalisation behind it, of epsilon 1e-5,
            which becomes a part of its kernel and bias.
    """

    theirs: str
    ours: str
    kind: str = "conv"
    inputs: tuple[tuple[int, int], ...] = ()
    shift: str = ""
    folded: str = ""

    def name(self, part: str) -> str:
        """Return the name of a tensor; scales and tokens are one themselves."""
        return f"{self.theirs}.{part}" if part else self.theirs

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of tensors that tell whether a state dict has the layer: one for each layer there."""
        first = self.name(next(iter(_PARTS[self.kind])))
        return (first, f"{self.folded}.weight") if self.folded else (first,)

    @property
    def layers(self) -> tuple[str, ...]:
        """Names before the last dot of its tensors, or of the one that is a scale or token."""
        return (self.theirs, self.folded) if self.folded else (self.theirs,)


def table(*lines: str, **places: Any) -> list[Row]:
    """Parse rows from lines "kind theirs ours", in which `{name}` stands for a value of `places`."""
    return [Row(theirs, ours, kind) for kind, theirs, ours in (line.format(**places).split() for line in lines)]


def under(prefix: str, rows: Iterable[Row]) -> list[Row]:
    """Return rows whose tensors have a prefix."""

    def prefixed(name: str) -> str:
        return f"{prefix}{name}" if name else ""

    return [
        replace(row, theirs=prefixed(row.theirs), shift=prefixed(row.shift), folded=prefixed(row.folded))
        for row in rows
    ]


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
            variable, name = variables.get(f"{row.ours}/{own}"), row.name(part)
            if variable is None:
                continue
            needed = [name, *_normalization(row)]
            if lacking := [one for one in needed if one not in tensors]:
                raise WeightsError(f"{origin} lacks the tensor {lacking[0]}, which {row.ours} of {model.name} needs.")
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
            if row.folded:
                value = _fold(row, value, part, tensors, origin)
            if not np.isfinite(value).all():
                raise WeightsError(
                    f"{origin}: {name} holds infinite numbers or NaN, or so do the statistics folded into it; "
                    "the training that wrote it diverged, or half precision was too narrow. Take an earlier checkpoint."
                )
            variable.assign(value)
            used.update(needed)
            del missing[variable.path]
    if missing:
        raise WeightsError(f"{origin} holds nothing for {len(missing)} weights, first {next(iter(missing))}.")
    return [name for name in tensors if name not in used and not name.endswith("num_batches_tracked")]


def _normalization(row: Row) -> list[str]:
    """Return the names of the tensors of a batch normalisation that is folded into a convolution; none without."""
    return [f"{row.folded}.{part}" for part in _PARTS["norm"]] if row.folded else []


def _fold(row: Row, value: np.ndarray, part: str, tensors: Tensors, origin: str) -> np.ndarray:
    """Return the kernel `(h, w, C, D)` or bias `(D,)` of a convolution with its batch normalisation folded into it."""
    names = _normalization(row)
    for name in names:
        if tensors[name].shape != value.shape[-1:]:
            shape = tensors[name].shape
            raise WeightsError(f"{origin}: {name} has shape {shape}, {row.ours} needs {value.shape[-1:]}.")
    gamma, beta, mean, variance = (tensors[name].astype("float64") for name in names)
    if (variance < 0).any():
        raise WeightsError(f"{origin}: {names[-1]} holds variances below 0; it is no state of a trained network.")
    factor = gamma / np.sqrt(variance + _EPSILON)
    return value * factor if part == "weight" else (value - mean) * factor + beta


def _value(row: Row, name: str, tensors: Tensors, axes: int) -> np.ndarray:
    """Transpose a tensor to Keras's order of axes, of which there are `axes`, and segzoo's order of input channels."""
    value = tensors[name]
    if row.kind in _PIECES and value.ndim:
        place, count = _PIECES[row.kind]
        size = len(value) // count
        value = value[place * size : (place + 1) * size]
    if row.kind in ("linear", *_PIECES) and value.ndim == 2:
        return value.T[None, None] if axes == 4 else value.T
    if row.kind == "excite":  # its outputs are the channels that its map has as inputs
        value = np.concatenate([value[first:end] for first, end in row.inputs]) if row.inputs else value
    elif row.inputs and value.ndim == 4:
        value = np.concatenate([value[:, first:end] for first, end in row.inputs], axis=1)
    if row.kind == "scale":
        return value.reshape(-1)
    if row.kind == "grid":  # of the patches alone; the class token, which holds its own, gets none
        return np.concatenate([np.zeros_like(value[:, :1]), value], axis=1)
    if value.ndim != 4:
        return value
    return value.transpose(2, 3, 0, 1) if row.kind in ("depthwise", "spread") else value.transpose(2, 3, 1, 0)

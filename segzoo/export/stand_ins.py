"""Stand-ins for the weights of a graph: constants of their shape in a few bytes, to be filled in at the end.

TensorFlow and its converters copy a graph at every step, and each copy held all weights: networks took twenty to fifty
times their size. Hardly any step reads a large weight.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np

SMALLEST = 2**14  # bytes; smaller weights stay in the graph, where optimizers fold many of them
_STEP = 2.0**-20  # float32 holds the sums of 1 and its multiples exactly


class StandIns:
    """Weights by the numbers of their stand-ins.

    The stand-in of the k-th weight has the number 1 + k / 2^20 at every position, which TensorFlow stores once. The
    weight itself stays in the memory of its variable, and is copied when it is asked for.

    Args:
        taken: numbers that constants of the graph itself have.
    """

    def __init__(self, taken: Collection[float] = ()) -> None:
        self._weights: dict[float, Any] = {}
        self._free = (number for k in itertools.count(1) if (number := 1 + _STEP * k) not in taken)

    def __len__(self) -> int:
        return len(self._weights)

    def add(self, variable: Any, value: np.ndarray) -> float | None:
        """Return the number for a variable; None where its value has to be in the graph."""
        # Optimizers treat constants of zeros and of ones by themselves.
        if value.dtype != np.float32 or value.nbytes < SMALLEST or (value == value.flat[0]).all():
            return None
        number = next(self._free)
        if number >= 2:
            return None
        self._weights[number] = variable.read_value()
        return number

    @property
    def numbers(self) -> Collection[float]:
        """Numbers of all stand-ins."""
        return self._weights.keys()

    @property
    def size(self) -> int:
        """Size of all weights that have stand-ins, in bytes."""
        return sum(4 * math.prod(weight.shape) for weight in self._weights.values())

    def shape(self, number: float) -> tuple[int, ...]:
        """Return the shape of a weight."""
        return tuple(self._weights[number].shape)

    def value(self, number: float) -> np.ndarray:
        """Return a copy of a weight, float32."""
        return self._weights[number].numpy()

    def found(self, nodes: Iterable[Any]) -> Iterator[tuple[Any, float]]:
        """Iterate over the stand-ins among the nodes of a GraphDef: each node, and its number."""
        for node in nodes:
            if node.op != "Const":
                continue
            tensor = node.attr["value"].tensor
            shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim)
            number = tensor.float_val[0] if len(tensor.float_val) == 1 else 0
            if number in self._weights and shape == self.shape(number):
                yield node, number

    def fill(self, nodes: Iterable[Any], numbers: Collection[float] | None = None) -> None:
        """Put weights in the places of their stand-ins.

        Args:
            nodes: nodes of a GraphDef, changed in place.
            numbers: of the weights to put in; None: all.
        """
        for node, number in self.found(nodes):
            if numbers is None or number in numbers:
                tensor = node.attr["value"].tensor
                tensor.ClearField("float_val")
                tensor.tensor_content = self.value(number).tobytes()


def frozen(function: Any) -> tuple[Any, StandIns]:
    """Fold the variables of a tf.function's concrete function into its graph, large ones as stand-ins.

    Returns:
        The GraphDef, and the weights that its stand-ins stand for.
    """
    taken: set[float] = set()
    while True:
        nodes, weights, names = _frozen(function, taken)
        alike = {number for node, number in weights.found(nodes.node) if node.name not in names}
        if not alike:
            return nodes, weights
        taken |= alike


def _frozen(function: Any, taken: Collection[float]) -> tuple[Any, StandIns, set[str]]:
    """Fold variables into a graph; returns it, the weights that stand-ins stand for, and the names of these nodes."""
    import tensorflow as tf

    # No public function leaves the values out; tf2onnx takes this way for large networks, too.
    from tensorflow.python.framework import convert_to_constants as tools

    weights = StandIns(taken)
    names: set[str] = set()
    given: dict[int, tuple[np.ndarray, float]] = {}  # by id, unlike a weight that happens to be of the same value

    class Data(tools._FunctionConverterDataInEager):
        def _eval(self, tensor: Any) -> np.ndarray:
            value = tensor.numpy()
            number = weights.add(tensor, value) if isinstance(tensor, tf.Variable) else None
            if number is None:
                return value
            scalar = np.array(number, np.float32)
            given[id(scalar)] = scalar, number
            return scalar

    data = Data(func=function, lower_control_flow=True, aggressive_inlining=False)
    nodes, _ = tools._replace_variables_by_constants(data)
    for node in nodes.node:
        if node.name in data.tensor_data and (known := given.get(id(data.tensor_data[node.name].numpy))):
            names.add(node.name)
            for size in weights.shape(known[1]):
                node.attr["value"].tensor.tensor_shape.dim.add(size=size)
    return nodes, weights, names

"""Layer graph of a network for TensorBoard."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import keras

from segzoo.keras_compat import calls_of


def layer_graph(model: keras.Model) -> Any:
    """Return a TensorBoard `GraphDef` with a node for each layer call and the shape of its output.

    Not the graph of a traced step, whose 28,000 operations no one reads, and which only TensorFlow has. Layers whose
    names share a beginning, such as block2a_dwconv and block2a_bn, are folded into one scope.

    Args:
        model: a functional model.
    """
    from tensorboard.compat.proto.attr_value_pb2 import AttrValue
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    # Keras's own conceptual graph, which TensorBoard reads from JSON, has no edges to a layer that takes a dict.
    calls = calls_of(model)
    beginnings = Counter(call.operation.name.partition("_")[0] for call in calls)
    graph, names, taken = GraphDef(), {}, Counter[str]()
    for call in calls:
        layer = call.operation
        beginning, _, rest = layer.name.partition("_")
        name = f"{beginning}/{rest}" if rest and beginnings[beginning] > 1 else layer.name
        names[id(call)] = f"{name}_{taken[name]}" if taken[name] else name  # a layer may be called several times
        taken[name] += 1
        shapes = [
            TensorShapeProto(dim=[TensorShapeProto.Dim(size=-1 if size is None else size) for size in tensor.shape])
            for tensor in call.output_tensors
        ]
        node = graph.node.add(
            name=names[id(call)],
            op=type(layer).__name__,
            input=[names[id(parent)] for parent in call.parent_nodes],
        )
        node.attr["_output_shapes"].CopyFrom(AttrValue(list=AttrValue.ListValue(shape=shapes)))
        weights = getattr(layer, "weights", ())  # a bare operation has none
        node.attr["parameters"].i = sum(math.prod(weight.shape) for weight in weights)
    return graph

"""Conversion of a graph to ONNX by tf2onnx, with few copies of the weights.

tf2onnx copies its graph before each of a dozen optimizers, three times over, each copy held every constant twice, and
dropped ones waited for the garbage collector. Copies here share large constants.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from segzoo.export import stand_ins
from segzoo.export.folding import folded, lost
from segzoo.export.memory import quick_collections, release

if TYPE_CHECKING:
    from segzoo.export.graph import Graph
    from segzoo.export.stand_ins import StandIns

Handlers = Mapping[str, tuple[Callable[..., None], list[str]]]


def convert(graph: Graph, opset: int, handlers: Handlers) -> tuple[Any, dict[str, Any]]:
    """Convert a graph to ONNX.

    Args:
        graph: the traced model.
        opset: version of ONNX's operations.
        handlers: tf2onnx's `custom_op_handlers`.

    Returns:
        The ModelProto, whose large constants lack their values, and these by the constants' names; see `put_values`.
    """
    import tensorflow as tf
    from tf2onnx import optimizer, tfonnx

    with tf.device("/cpu:0"), quick_collections():
        nodes, name, ends = _optimized(graph)
        values = _Values(nodes, graph.weights)
        with tf.Graph().as_default() as tf_graph:
            tf.graph_util.import_graph_def(nodes, name="")
            converted = tfonnx.process_tf_graph(
                tf_graph,
                continue_on_error=True,
                opset=opset,
                custom_op_handlers=dict(handlers),
                const_node_values=values,
                **ends,
            )
        del tf_graph, nodes, values
        release(graph.weights.size)
        converted = _copied(converted, _detached)
        steps = {
            key: lambda factory=factory: _Step(factory(), graph.weights.size)
            for key, factory in optimizer._optimizers.items()
        }
        converted = optimizer.optimize_graph(converted, catch_errors=False, optimizers=steps)
        kept = {node.output[0]: node.attr["value"].t for node in _large(converted)}
        converted = _copied(converted, _without_value)
        release(graph.weights.size)
        return converted.make_model(f"converted from {name}"), kept


def _optimized(graph: Graph) -> tuple[Any, str, dict[str, Any]]:
    """Return the GraphDef after TensorFlow's optimizer, its name, and names of its ends as tf2onnx takes them."""
    from tf2onnx import convert, tf_loader

    inside = folded(graph.nodes.node, graph.weights)
    while True:
        function = graph.served(inside).serve.get_concrete_function()
        inputs, outputs = [tensor.name for tensor in function.inputs], [tensor.name for tensor in function.outputs]
        nodes = tf_loader.from_function(function, inputs, outputs)
        changed = lost(graph.nodes.node, nodes.node, graph.weights) - inside
        if not changed:
            renamed = convert.tensor_names_from_structed(function, inputs, outputs)
            return nodes, function.name, {"input_names": inputs, "output_names": outputs, "tensors_to_rename": renamed}
        inside |= changed


def put_values(model: Any, values: dict[str, Any]) -> None:
    """Put the values of large constants into a ModelProto, and out of `values`."""
    for constant in model.graph.initializer:
        if constant.name in values:
            constant.raw_data = values.pop(constant.name).raw_data
    values.clear()


class _Values(Mapping[str, bytes]):
    """Contents of large constants in a GraphDef by their nodes' names, as tf2onnx takes them.

    Args:
        nodes: the GraphDef, whose large constants are moved here.
        weights: weights of its stand-ins, which are read when they are asked for.
    """

    def __init__(self, nodes: Any, weights: StandIns):
        self._weights = weights
        self._numbers = {node.name: number for node, number in weights.found(nodes.node)}
        self._contents = {}
        for node in nodes.node:
            if node.op == "Const" and len(node.attr["value"].tensor.tensor_content) >= stand_ins.SMALLEST:
                self._contents[node.name] = node.attr["value"].tensor.tensor_content
                node.attr["value"].tensor.ClearField("tensor_content")

    def __getitem__(self, name: str) -> bytes:
        if name in self._contents:
            return self._contents[name]
        return self._weights.value(self._numbers[name]).tobytes()

    def __iter__(self) -> Iterator[str]:
        yield from self._numbers
        yield from self._contents

    def __len__(self) -> int:
        return len(self._numbers) + len(self._contents)


class _Step:
    """Optimizer that works on a copy, and leaves the graph as it was if it fails."""

    def __init__(self, optimizer: Any, weights: int):
        self._optimizer = optimizer
        self._weights = weights
        self.graph_been_opt = False

    def optimize(self, graph: Any, iteration: int) -> Any:
        """Return the optimized graph."""
        release(self._weights)  # the graph that the step before this one has copied
        try:
            found = self._optimizer.optimize(_copied(graph, lambda value: value), iteration) or graph
        except Exception:  # as tf2onnx itself does; what the file computes is compared with Keras anyway
            return graph
        self.graph_been_opt = self._optimizer.graph_been_opt
        return found


def _copied(graph: Any, of_value: Callable[[Any], Any]) -> Any:
    """Copy tf2onnx's graph with what a function returns for the attributes of its large constants."""
    from onnx import NodeProto

    known = {}
    for node in _large(graph):
        bare = NodeProto(name=node.name, op_type=node.type, domain=node.domain, input=node.input, output=node.output)
        known[id(node.op)] = bare  # without the value, of which the node's own copy is made anew when it is needed
        known[id(node.attr["value"])] = of_value(node.attr["value"])
    return copy.deepcopy(graph, known)


def _large(graph: Any) -> list[Any]:
    constants = (node for node in graph.get_nodes() if node.is_const())
    return [node for node in constants if len(node.attr["value"].t.raw_data) >= stand_ins.SMALLEST]


def _detached(value: Any) -> Any:
    """Copy an attribute, so that it does not keep alive the message that it was a part of."""
    alone = type(value)()
    alone.CopyFrom(value)
    return alone


def _without_value(value: Any) -> Any:
    bare = type(value)(name=value.name, type=value.type)
    bare.t.dims.extend(value.t.dims)
    bare.t.data_type, bare.t.name = value.t.data_type, value.t.name
    return bare

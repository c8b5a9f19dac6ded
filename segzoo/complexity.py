"""Computational cost of a model: GFLOPs for one image."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras

from segzoo.errors import SegzooError


def gflops(model: keras.Model, size: tuple[int, int]) -> float:
    """Count the GFLOPs for one image of `size` (height, width): two operations for each multiply-add.

    Counted are convolutions and matrix products, which are nearly all of it, as TensorFlow computes them at inference:
    in the traced graph, so whatever layers a model is made of.

    Raises:
        SegzooError: a backend other than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise SegzooError(f"GFLOPs are counted in TensorFlow's graph; the backend is {keras.backend.backend()}.")
    import tensorflow as tf

    image = tf.TensorSpec((1, *size, model.input.shape[-1]), "float32")
    graph = tf.function(lambda images: model(images, training=False)).get_concrete_function(image).graph
    return 2 * sum(_COUNTS[operation.type](operation) for operation in _flat(graph) if operation.type in _COUNTS) / 1e9


def _flat(graph: Any) -> Iterator[Any]:
    """Return the operations of a graph and of the functions that it calls, such as those of grouped convolutions."""
    for operation in graph.get_operations():
        if operation.type in ("PartitionedCall", "StatefulPartitionedCall"):
            yield from _flat(graph._get_function(operation.get_attr("f").name).graph)
        else:
            yield operation


def _of_convolution(operation: Any) -> int:
    height, width, channels, _ = operation.inputs[1].shape  # one group's channels
    return math.prod(operation.outputs[0].shape) * height * width * channels


def _of_depthwise(operation: Any) -> int:
    height, width, *_ = operation.inputs[1].shape
    return math.prod(operation.outputs[0].shape) * height * width


def _of_transposed(operation: Any) -> int:
    height, width, filters, _ = operation.inputs[1].shape
    return math.prod(operation.inputs[2].shape) * height * width * filters


def _of_product(operation: Any) -> int:
    transposed = operation.get_attr("transpose_a" if operation.type == "MatMul" else "adj_x")
    return math.prod(operation.outputs[0].shape) * operation.inputs[0].shape[-2 if transposed else -1]


def _of_einsum(operation: Any) -> int:
    terms = operation.get_attr("equation").decode().partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operation.inputs, strict=True):
        sizes.update(zip(term, operand.shape, strict=True))
    return math.prod(sizes.values())


_COUNTS: dict[str, Callable[[Any], int]] = {
    "Conv2D": _of_convolution,
    "DepthwiseConv2dNative": _of_depthwise,
    "Conv2DBackpropInput": _of_transposed,
    "MatMul": _of_product,
    "BatchMatMulV2": _of_product,
    "Einsum": _of_einsum,
}

"""Weights whose values TensorFlow's optimizer reads: those cannot be stand-ins while it works on a graph."""

from __future__ import annotations

import math
from collections.abc import Iterable
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

from segzoo.export import stand_ins

if TYPE_CHECKING:
    from segzoo.export.stand_ins import StandIns


def folded(nodes: Iterable[Any], weights: StandIns) -> set[float]:
    """Return the numbers of weights from which, and from other constants, an operation computes a constant.

    Args:
        nodes: nodes of a GraphDef.
        weights: weights of its stand-ins.
    """
    origins = _origins(nodes, weights)
    constant: set[str] = set()
    found: set[float] = set()
    by_name = {node.name: node for node in nodes}
    for name in TopologicalSorter({node.name: _inputs(node) for node in nodes}).static_order():
        node = by_name[name]
        inputs = _inputs(node)
        if node.op == "Const" or (inputs and constant.issuperset(inputs)):
            constant.add(name)
            if name not in origins:
                found.update(origins[each] for each in inputs if each in origins)
    return found


def lost(before: Iterable[Any], after: Iterable[Any], weights: StandIns) -> set[float]:
    """Return the numbers of weights whose stand-ins an optimizer has used up, or may have.

    Args:
        before: nodes of the GraphDef that it was given, with shorter names than afterwards where they were in a
            function that is inlined by now.
        after: nodes of what it returned.
        weights: weights of the stand-ins.
    """
    origins = _origins(before, weights)
    numbers = {number for _, number in weights.found(before)}
    known = {_repeated(node) for node in before}
    kept = set()
    for node, number in weights.found(after):
        parts = node.name.split("/")
        if not any(origins.get("/".join(parts[start:])) == number for start in range(len(parts))):
            return numbers  # of the shape of one, but another node: computed from it
        kept.add(number)
    if any(_repeated(node) not in known for node in after):
        return numbers  # computed from some of them
    return numbers - kept


def _origins(nodes: Iterable[Any], weights: StandIns) -> dict[str, float]:
    """Return the numbers of all nodes that are a stand-in or pass one on."""
    found = {node.name: number for node, number in weights.found(nodes)}
    passing = {node.name: _inputs(node)[0] for node in nodes if node.op == "Identity" and node.input}
    for name in passing:
        source = name
        while source in passing:
            source = passing[source]
        if source in found:
            found[name] = found[source]
    return found


def _inputs(node: Any) -> list[str]:
    """Return the names of the nodes whose outputs a node takes, not those that it only waits for."""
    return [name.partition(":")[0] for name in node.input if not name.startswith("^")]


def _repeated(node: Any) -> float | None:
    """Return the number that a constant as large as stand-ins has at every position; None for any other node."""
    if node.op != "Const":
        return None
    tensor = node.attr["value"].tensor
    size = 4 * math.prod(dimension.size for dimension in tensor.tensor_shape.dim)
    return tensor.float_val[0] if len(tensor.float_val) == 1 and size >= stand_ins.SMALLEST else None

"""Finds GELU written out: x/2 (1 + erf(x / sqrt 2)) in its usual orders, for TensorFlow Lite has GELU but no Erf."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

    from leanedge.graph.model import Graph

__all__ = ["Gelu", "find_gelus"]


@dataclass(frozen=True)
class Gelu:
    """A written-out GELU: its input, its output and the nodes between, the last one included."""

    source: str
    output: str
    nodes: frozenset[str]


def find_gelus(graph: Graph) -> Mapping[str, Gelu]:
    """Name of the last node -> the GELU it ends."""
    found = {}
    for node in graph.nodes:
        if node.op_type == "Erf" and not node.domain:
            chain = _match(graph, node)
            if chain is not None:
                last, gelu = chain
                found[last] = gelu
    return found


def _match(graph: Graph, erf: ir.Node) -> tuple[str, Gelu] | None:
    inner = graph.producer.get(_input(erf, 0))
    if inner is None:
        return None
    source = _times(graph, inner, 1 / math.sqrt(2))
    add = _reader(graph, erf)
    if source is None or add is None or not _alone(graph, inner, erf):
        return None
    if _times(graph, add, 0.5) == _output(erf):
        return _match_halved(graph, source, [inner, erf, add])
    if _plus(graph, add, _output(erf)) != 1.0:
        return None
    first = _reader(graph, add)
    if first is None or first.op_type != "Mul":
        return None
    nodes = [inner, erf, add, first]
    other = _other(first, _output(add))
    half = graph.producer.get(other)
    if half is not None and _times(graph, half, 0.5) == source and _alone(graph, half, first):
        return _gelu(source, [*nodes, half], first)
    second = _reader(graph, first)
    if second is None or second.op_type != "Mul":
        return None
    last = _other(second, _output(first))
    factors = {other, last}
    if source in factors and any(_number(graph, name) == 0.5 for name in factors - {source}):
        return _gelu(source, [*nodes, second], second)
    return None


def _match_halved(graph: Graph, source: str, nodes: list[ir.Node]) -> tuple[str, Gelu] | None:
    """The end of x (erf / 2 + 1/2)."""
    add = _reader(graph, nodes[-1])
    if add is None or _plus(graph, add, _output(nodes[-1])) != 0.5:
        return None
    last = _reader(graph, add)
    if last is None or last.op_type != "Mul" or _other(last, _output(add)) != source:
        return None
    return _gelu(source, [*nodes, add, last], last)


def _gelu(source: str, nodes: list[ir.Node], last: ir.Node) -> tuple[str, Gelu]:
    return str(last.name), Gelu(source, _output(last), frozenset(str(node.name) for node in nodes))


def _input(node: ir.Node, index: int) -> str:
    value = node.inputs[index] if len(node.inputs) > index else None
    return str(value.name) if value is not None else ""


def _output(node: ir.Node) -> str:
    return str(node.outputs[0].name)


def _other(node: ir.Node, name: str) -> str:
    return _input(node, 1) if _input(node, 0) == name else _input(node, 0)


def _number(graph: Graph, name: str) -> float | None:
    array = graph.constants.get(name)
    return float(np.asarray(array).reshape(())) if array is not None and array.size == 1 else None


def _times(graph: Graph, node: ir.Node, factor: float) -> str | None:
    """What the node multiplies by that factor, or None when it does something else."""
    for place in (0, 1):
        number = _number(graph, _input(node, place))
        if number is None or (node.op_type == "Div" and place == 0):
            continue
        product = number if node.op_type == "Mul" else 1 / number if node.op_type == "Div" and number else math.nan
        if math.isclose(product, factor, rel_tol=1e-4):
            return _input(node, 1 - place)
    return None


def _plus(graph: Graph, node: ir.Node, name: str) -> float | None:
    return _number(graph, _other(node, name)) if node.op_type == "Add" else None


def _reader(graph: Graph, node: ir.Node) -> ir.Node | None:
    """The node's only reader."""
    readers = graph.consumers.get(_output(node), ())
    return readers[0] if len(readers) == 1 and _output(node) not in graph.output_names else None


def _alone(graph: Graph, node: ir.Node, reader: ir.Node) -> bool:
    return _reader(graph, node) is reader

"""What each operator costs: multiply-accumulates, weights, and the activations alive while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from leanedge.graph.model import attribute, shape_of
from leanedge.graph.operators import Kind, find_operators

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

    from leanedge.graph.model import Graph

__all__ = ["Layer", "activation_bytes", "describe_layers", "macs", "peak_activation_bytes"]


@dataclass(frozen=True)
class Layer:
    """One operator in figures.

    Attributes:
        id: The operator's id.
        kind: Its kind; for ``other`` see `op_type`.
        op_type: ONNX type of its first node.
        output_shape: Of its first output; None where it depends on the data.
        macs: Multiply-accumulates of one inference in matrix products and convolutions (element-wise work counts
            as 0, a branch as its dearer side, a loop's body once); None where a shape is not known.
        weights: Float constants it reads, counted where they are first read.
        weight_bytes: Their bytes as stored.
    """

    id: str
    kind: Kind
    op_type: str
    output_shape: tuple[int, ...] | None
    macs: int | None
    weights: int
    weight_bytes: int


def describe_layers(graph: Graph) -> tuple[Layer, ...]:
    """Every operator of the graph, in execution order."""
    seen: set[str] = set()
    layers = []
    for operator in find_operators(graph):
        nodes = [graph.node_by_name[name] for name in operator.nodes]
        names = [name for node in nodes for name in _reads(node) if name in graph.constants and name not in seen]
        arrays = [graph.constants[name] for name in dict.fromkeys(names) if graph.constants[name].dtype.kind == "f"]
        seen.update(names)
        counts = [_macs(node) for node in nodes]
        layers.append(
            Layer(
                operator.id,
                operator.kind,
                nodes[0].op_type,
                graph.shape(operator.output),
                None if None in counts else sum(count for count in counts if count is not None),
                sum(array.size for array in arrays),
                sum(array.nbytes for array in arrays),
            )
        )
    return tuple(layers)


def macs(graph: Graph) -> int:
    """Multiply-accumulates of one inference, over the layers where they are known."""
    return sum(count for node in graph.nodes if (count := _macs(node)) is not None)


def activation_bytes(graph: Graph, bits: Mapping[str, int] | None = None) -> tuple[int, ...]:
    """Bytes of the values alive while each operator runs, in execution order.

    A value lives from the operator that makes it to the last that reads it; inputs from the start, outputs to the
    end. A reshape's result is its input. Values whose shape depends on the data count as 0. No sharing of a buffer
    within an operator is assumed.

    Args:
        graph: The model.
        bits: Value -> bits of an element where it is stored narrower than its type.
    """
    operators = find_operators(graph)
    stored: dict[str, str] = {}  # value -> the value whose buffer it is
    last: dict[str, int] = {info.name: 0 for info in graph.inputs}
    born: dict[str, int] = dict(last)
    for step, operator in enumerate(operators):
        for name in operator.inputs:
            last[stored.get(name, name)] = step
        for name in operator.outputs:
            if operator.kind == "reshape" and operator.inputs:
                stored[name] = stored.get(operator.inputs[0], operator.inputs[0])
            else:
                born[name] = last[name] = step
    for name in graph.output_names:
        last[stored.get(name, name)] = len(operators) - 1
    narrow = bits or {}
    sizes = {name: _bytes(graph, name, narrow.get(name)) for name in born}
    return tuple(
        sum(size for name, size in sizes.items() if born[name] <= step <= last[name]) for step in range(len(operators))
    )


def peak_activation_bytes(graph: Graph) -> int:
    """The largest of `activation_bytes`."""
    return max(activation_bytes(graph), default=0)


def _bytes(graph: Graph, name: str, bits: int | None) -> int:
    value = graph.values.get(name)
    shape = shape_of(value) if value is not None else None
    if value is None or not value.dtype or shape is None:
        return 0
    size = int(value.dtype.itemsize)
    return prod(shape) * (min(size, bits // 8) if bits else size)


def _reads(node: ir.Node) -> list[str]:
    names = [str(value.name) for value in node.inputs if value is not None]
    for inner in _branches(node):
        names += [name for nested in inner for name in _reads(nested)]
    return names


def _branches(node: ir.Node) -> list[Any]:
    return [attr.value for attr in node.attributes.values() if attr.type.name == "GRAPH"]


def _macs(node: ir.Node) -> int | None:
    branches = _branches(node)
    if branches:
        totals = [[_macs(inner) for inner in branch] for branch in branches]
        if any(count is None for branch in totals for count in branch):
            return None
        return max(sum(count for count in branch if count is not None) for branch in totals)
    shapes = [shape_of(value) if value is not None else None for value in node.inputs]
    made = shape_of(node.outputs[0])
    kind = node.op_type if node.domain in ("", "ai.onnx", "com.microsoft") else ""
    if kind in ("Conv", "ConvInteger", "FusedConv"):
        weight = shapes[1]
        return None if made is None or weight is None else prod(made) * prod(weight[1:])
    if kind == "ConvTranspose":
        entering, weight = shapes[0], shapes[1]
        return None if entering is None or weight is None else prod(entering) * prod(weight[1:])
    if kind in ("MatMul", "MatMulInteger", "Gemm", "FusedMatMul", "FusedGemm"):
        depth = None if shapes[0] is None else shapes[0][-2 if attribute(node, "transA", 0) else -1]
        return None if made is None or depth is None else prod(made) * depth
    if kind in ("LSTM", "GRU", "RNN"):
        sequence, weight, recurrent = shapes[:3]
        if sequence is None or weight is None or recurrent is None:
            return None
        return sequence[0] * sequence[1] * (prod(weight) + prod(recurrent))
    return 0

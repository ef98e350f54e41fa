"""The graph's operators: nodes grouped as a device runs them, activation and bias fused. The skeleton of every plan.

An operator's id is the name of its first node; the plan, quantization, cost, exporters and mismatch reports all use it.

    Conv -> Relu                 conv,   activation (0, inf)
    MatMul(x, constant) -> Add   linear, bias
    Add(x, y) -> Clip(0, 6)      add,    activation (0, 6)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from leanedge.graph.model import Graph, attribute

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir

__all__ = ["KIND_OF_NODE", "Kind", "Operator", "find_operators"]

Kind = Literal[
    "conv",
    "conv_transpose",
    "linear",
    "matmul",
    "add",
    "sub",
    "mul",
    "div",
    "clip",
    "max_pool",
    "average_pool",
    "mean",
    "softmax",
    "sigmoid",
    "tanh",
    "hard_swish",
    "hard_sigmoid",
    "leaky_relu",
    "prelu",
    "reshape",
    "transpose",
    "concat",
    "split",
    "slice",
    "pad",
    "resize",
    "gather",
    "other",
]

KIND_OF_NODE: Mapping[str, Kind] = {
    "Conv": "conv",
    "ConvTranspose": "conv_transpose",
    "Gemm": "linear",
    "MatMul": "matmul",
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Relu": "clip",
    "Clip": "clip",
    "MaxPool": "max_pool",
    "AveragePool": "average_pool",
    "GlobalAveragePool": "mean",
    "ReduceMean": "mean",
    "Softmax": "softmax",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "HardSwish": "hard_swish",
    "HardSigmoid": "hard_sigmoid",
    "LeakyRelu": "leaky_relu",
    "PRelu": "prelu",
    "Reshape": "reshape",
    "Flatten": "reshape",
    "Squeeze": "reshape",
    "Unsqueeze": "reshape",
    "Transpose": "transpose",
    "Concat": "concat",
    "Split": "split",
    "Slice": "slice",
    "Pad": "pad",
    "Resize": "resize",
    "Gather": "gather",
}
"""What each ONNX node is, before fusion. Anything else is ``other``: it runs in float, in runtimes that have it."""

_FUSES_ACTIVATION = frozenset({"conv", "conv_transpose", "linear", "add", "sub", "mul"})


@dataclass(frozen=True)
class Operator:
    """One operator of the skeleton.

    Attributes:
        id: Name of its first node.
        kind: What it computes.
        nodes: Names of the graph nodes it came from, in order.
        inputs: Graph values it reads that are not constants, in the order of the first node (a residual added
            by a later node of a ``linear`` is no input: only constants are fused as bias).
        outputs: Graph values it makes; the last node's.
        weight: Initializer of a ``conv``, ``conv_transpose`` or ``linear``; or the constant operand of an
            element-wise kind; else None.
        bias: Initializer of the bias, or None.
        channel_axis: Axis of the output channel in `weight` (conv 0, conv_transpose 1, linear 0 or 1), or None.
        activation: Fused clamp as (low, high) in real units, infinite where open; None without one.
    """

    id: str
    kind: Kind
    nodes: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weight: str | None = None
    bias: str | None = None
    channel_axis: int | None = None
    activation: tuple[float, float] | None = None

    @property
    def output(self) -> str:
        """Its first output."""
        return self.outputs[0]

    @property
    def has_channels(self) -> bool:
        """True where a weight matrix makes output channels: conv, conv_transpose, linear."""
        return self.kind in ("conv", "conv_transpose", "linear") and self.weight is not None


def find_operators(graph: Graph) -> tuple[Operator, ...]:
    """Groups the nodes of the graph, in execution order. Every node is in exactly one operator."""
    taken: set[str] = set()
    found = []
    for node in graph.nodes:
        if node.name not in taken:
            operator = _operator(graph, node)
            taken.update(operator.nodes)
            found.append(operator)
    return tuple(found)


def _operator(graph: Graph, node: ir.Node) -> Operator:
    names = [str(value.name) if value is not None else "" for value in node.inputs]
    constant = [name in graph.constants for name in names]
    kind: Kind = KIND_OF_NODE.get(node.op_type, "other") if node.domain in ("", "ai.onnx") else "other"
    nodes, output = [str(node.name)], str(node.outputs[0].name)
    weight = bias = None
    axis: int | None = None
    if kind in ("conv", "conv_transpose"):
        if not constant[1] or (len(names) > 2 and names[2] and not constant[2]):
            kind = "other"
        else:
            weight, bias = names[1], (names[2] if len(names) > 2 and names[2] else None)
            axis = 0 if kind == "conv" else 1
    elif node.op_type == "Gemm":
        plain = attribute(node, "alpha", 1.0) == 1.0 == attribute(node, "beta", 1.0) and not attribute(
            node, "transA", 0
        )
        flat_bias = len(names) < 3 or not names[2] or (constant[2] and graph.constants[names[2]].ndim == 1)
        if plain and constant[1] and flat_bias:
            weight, bias = names[1], (names[2] if len(names) > 2 and names[2] else None)
            axis = 0 if attribute(node, "transB", 0) else 1
        else:
            kind = "other"
    elif node.op_type == "MatMul" and constant[1] and graph.constants[names[1]].ndim == 2:
        kind, weight, axis = "linear", names[1], 1
        bias, output = _fuse_bias(graph, output, graph.constants[names[1]].shape[1], nodes)
    elif kind in ("add", "sub", "mul", "div", "prelu") and any(constant[:2]):
        if all(constant[:2]):
            kind = "other"
        else:
            weight = names[0] if constant[0] else names[1]
    activation: tuple[float, float] | None = None
    if kind == "clip":
        activation = _clamp(graph, node)
        if activation is None:
            kind = "other"
    elif kind in _FUSES_ACTIVATION:
        following = _only_reader(graph, output)
        clamp = _clamp(graph, following) if following is not None else None
        if (
            following is not None
            and clamp is not None
            and str(following.inputs[0].name if following.inputs[0] else "") == output
        ):
            activation, output = clamp, str(following.outputs[0].name)
            nodes.append(str(following.name))
    outputs = (output,) if len(nodes) > 1 else tuple(str(v.name) for v in node.outputs if v.name)
    return Operator(
        id=str(node.name),
        kind=kind,
        nodes=tuple(nodes),
        inputs=_activations(graph, node),
        outputs=outputs,
        weight=weight,
        bias=bias,
        channel_axis=axis,
        activation=activation,
    )


def _activations(graph: Graph, node: ir.Node) -> tuple[str, ...]:
    """Values the node reads that are no constants; for a node with nested graphs, what those capture too."""
    direct = [str(v.name) for v in node.inputs if v is not None and str(v.name) not in graph.constants]
    captured = (
        [
            name
            for name, readers in graph.consumers.items()
            if node in readers and name not in direct and name not in graph.constants and name in graph.values
        ]
        if any(attr.type.name in ("GRAPH", "GRAPHS") for attr in node.attributes.values())
        else []
    )
    return tuple(direct + captured)


def _only_reader(graph: Graph, value: str) -> ir.Node | None:
    readers = graph.consumers.get(value, ())
    return readers[0] if len(readers) == 1 and value not in graph.output_names else None


def _fuse_bias(graph: Graph, output: str, channels: int, nodes: list[str]) -> tuple[str | None, str]:
    """The constant that the only reader of a matrix product adds to its last axis."""
    reader = _only_reader(graph, output)
    if reader is None or reader.op_type != "Add" or reader.domain:
        return None, output
    other = next((str(v.name) for v in reader.inputs if v is not None and str(v.name) != output), "")
    if other not in graph.constants or graph.constants[other].shape != (channels,):
        return None, output
    nodes.append(str(reader.name))
    return other, str(reader.outputs[0].name)


def _clamp(graph: Graph, node: ir.Node) -> tuple[float, float] | None:
    """(low, high) of a Relu, or of a Clip with constant bounds."""
    if node.domain:
        return None
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.op_type != "Clip":
        return None
    bounds = [-math.inf, math.inf]
    for index in (1, 2):
        value = node.inputs[index] if len(node.inputs) > index else None
        if value is not None:
            if str(value.name) not in graph.constants:
                return None
            bounds[index - 1] = float(np.asarray(graph.constants[str(value.name)]).reshape(()))
    return bounds[0], bounds[1]

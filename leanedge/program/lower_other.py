"""Lowering of nodes that `graph.operators` calls ``other``: they run in float (or on indices), as they stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.graph.model import attribute
from leanedge.graph.operators import KIND_OF_NODE
from leanedge.program.arrangement import Arrangement, like
from leanedge.program.lower_elementwise import reduce_to
from leanedge.program.types import ElementwiseOptions, GeluOptions, ReduceOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from leanedge.graph.operators import Operator
    from leanedge.program.builder import Builder
    from leanedge.program.types import Kind

__all__ = ["OTHER_NODES", "lower_gelu", "lower_other"]

_UNARY: Mapping[str, Kind] = {
    "Neg": "neg",
    "Abs": "abs",
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
    "Not": "logical_not",
    "Cast": "cast",
}
_NARY: Mapping[str, Kind] = {
    "Max": "maximum",
    "Min": "minimum",
    "Sum": "add",
    "Add": "add",
    "Sub": "sub",
    "Mul": "mul",
    "Div": "div",
    "Pow": "pow",
    "Equal": "equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
    "And": "logical_and",
    "Or": "logical_or",
    "Where": "select",
}
_REDUCE: Mapping[str, Kind] = {
    "ReduceSum": "sum",
    "ReduceMax": "reduce_max",
    "ReduceMin": "reduce_min",
    "GlobalMaxPool": "reduce_max",
}


def lower_other(builder: Builder, operator: Operator) -> None:
    """Lowers by the node's own type; refuses what has no counterpart."""
    node = builder.graph.node_by_name[operator.id]
    lower = OTHER_NODES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if lower is None:
        raise builder.unsupported(operator, "LeanEdge has no counterpart for it", _ALLOWED)
    lower(builder, operator)


def _operands(builder: Builder, operator: Operator) -> list[str]:
    """The node's inputs, laid out as its output."""
    layout, rank = builder.layout(operator.output), len(builder.shape(operator.output))
    tensors = []
    for value in builder.graph.node_by_name[operator.id].inputs:
        name = str(value.name) if value is not None else ""
        shape = builder.shape(name)
        tensors.append(builder.read(name, like(layout, (1,) * (rank - len(shape)) + shape)))
    return tensors


def _unary(builder: Builder, operator: Operator) -> None:
    kind = _UNARY[builder.graph.node_by_name[operator.id].op_type]
    tensors = _operands(builder, operator)[:1]
    builder.emit(kind, tensors, [builder.write(operator.output)])


def _nary(builder: Builder, operator: Operator) -> None:
    """Two operands at a time; `select` takes its three at once."""
    kind = _NARY[builder.graph.node_by_name[operator.id].op_type]
    tensors = _operands(builder, operator)
    output = builder.write(operator.output)
    if len(tensors) == 1:
        builder.emit("reshape", tensors, [output])
        return
    if kind == "select":
        builder.emit(kind, tensors, [output])
        return
    options = ElementwiseOptions() if kind in ("add", "sub", "mul", "div") else None
    left = tensors[0]
    for place, right in enumerate(tensors[1:], 2):
        made = (
            output if place == len(tensors) else builder.inner(operator.output, builder.tensors[output].shape, "part")
        )
        builder.emit(kind, [left, right], [made], options)
        left = made


def _reciprocal(builder: Builder, operator: Operator) -> None:
    tensor = _operands(builder, operator)[0]
    output = builder.write(operator.output)
    ones = np.ones((1,) * len(builder.tensors[output].shape), np.float32)
    one = builder.made_up(f"{operator.output}.one", ones)
    builder.emit("div", [one, tensor], [output], ElementwiseOptions())


def _reduce(builder: Builder, operator: Operator) -> None:
    reduce_to(builder, operator, _REDUCE[builder.graph.node_by_name[operator.id].op_type])


def _gelu(builder: Builder, operator: Operator) -> None:
    tensor = _operands(builder, operator)[0]
    tanh = attribute(builder.graph.node_by_name[operator.id], "approximate", "none") == "tanh"
    builder.emit("gelu", [tensor], [builder.write(operator.output)], GeluOptions(tanh))


def lower_gelu(builder: Builder, source: str, output: str) -> None:
    """GELU that the Graph writes out by Erf (`gelu.find_gelus`)."""
    tensor = builder.read(source, builder.layout(output))
    builder.emit("gelu", [tensor], [builder.write(output)], GeluOptions())


def _layer_norm(builder: Builder, operator: Operator) -> None:
    """(x - mean) / sqrt(variance + epsilon) x scale + bias over the trailing axes."""
    node = builder.graph.node_by_name[operator.id]
    value = operator.inputs[0]
    shape = builder.shape(value)
    if any(output.uses() for output in node.outputs[1:] if output is not None):
        raise builder.unsupported(operator, "its mean or deviation is used", "the normalized values alone")
    names = [str(part.name) if part is not None else "" for part in node.inputs[1:]]
    if any(name and name not in builder.graph.constants for name in names):
        raise builder.unsupported(operator, "its scale or bias is computed", "constant scale and bias")
    axes = tuple(range(int(attribute(node, "axis", -1)) % len(shape), len(shape)))
    tensor = builder.read(value, Arrangement.same(shape))
    output, finish = builder.write_as(operator.output, Arrangement.same(shape))
    kept = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    ones = (1,) * len(shape)

    def made(suffix: str, size: tuple[int, ...]) -> str:
        return builder.inner(operator.output, size, suffix)

    mean, variance = made("mean", kept), made("variance", kept)
    squares, stable, inverse = made("squares", shape), made("stable", kept), made("inverse", kept)
    builder.emit("mean", [tensor], [mean], ReduceOptions(axes, True))
    builder.emit("squared_difference", [tensor, mean], [squares])
    builder.emit("mean", [squares], [variance], ReduceOptions(axes, True))
    epsilon = np.full(ones, attribute(node, "epsilon", 1e-5), np.float32)
    builder.emit(
        "add", [variance, builder.made_up(f"{operator.output}.epsilon", epsilon)], [stable], ElementwiseOptions()
    )
    builder.emit("rsqrt", [stable], [inverse])
    steps: list[tuple[Kind, str, str]] = [("sub", tensor, mean), ("mul", "", inverse)]
    kinds: tuple[Kind, Kind] = ("mul", "add")
    for kind, name in zip(kinds, names, strict=False):
        if name:
            size = builder.graph.constants[name].shape
            padded = (1,) * (len(shape) - len(size)) + size
            steps.append((kind, "", builder.constant(name, Arrangement.same(padded), "operand")))
    last = ""
    for place, (kind, left, right) in enumerate(steps, 1):
        target = output if place == len(steps) else made("step", shape)
        builder.emit(kind, [left or last, right], [target], ElementwiseOptions())
        last = target
    finish()


OTHER_NODES: Mapping[str, Callable[[Builder, Operator], Any]] = {
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_NARY, _nary),
    **dict.fromkeys(_REDUCE, _reduce),
    "Reciprocal": _reciprocal,
    "Gelu": _gelu,
    "LayerNormalization": _layer_norm,
}
"""ONNX node type -> how it is lowered."""

_ALLOWED = ", ".join(dict.fromkeys([*KIND_OF_NODE, *OTHER_NODES]))

"""Lowering of element-wise kinds, activations, linear layers, matrix products, means and softmax."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.graph.model import attribute
from leanedge.program.arrangement import Arrangement, like, same_order
from leanedge.program.layouts import reduced_axes
from leanedge.program.types import (
    BatchMatmulOptions,
    ElementwiseOptions,
    FullyConnectedOptions,
    LeakyReluOptions,
    ReduceOptions,
    SoftmaxOptions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from leanedge.graph.operators import Operator
    from leanedge.program.builder import Builder
    from leanedge.program.types import Activation, Kind

__all__ = [
    "bias_of",
    "lower_binary",
    "lower_clip",
    "lower_hard_sigmoid",
    "lower_hard_swish",
    "lower_linear",
    "lower_matmul",
    "lower_mean",
    "lower_prelu",
    "lower_softmax",
    "lower_unary",
    "reduce_to",
    "with_activation",
]

Array = np.ndarray[Any, Any]

_ACTIVATIONS: Mapping[tuple[float, float], Activation] = {
    (0.0, math.inf): "relu",
    (0.0, 6.0): "relu6",
    (-1.0, 1.0): "relu_n1_to_1",
    (-math.inf, math.inf): "none",
}
_NOTHING = np.zeros(0, np.bool_)
_UNARY: Mapping[str, Kind] = {"sigmoid": "logistic", "tanh": "tanh", "hard_swish": "hard_swish"}


def with_activation(
    builder: Builder, operator: Operator, value: str, arrangement: Arrangement | None = None
) -> tuple[Activation, str, Callable[[], None]]:
    """The fused activation of an operator, the tensor it writes, and what to call when it is emitted.

    A clamp that TensorFlow Lite can't fuse follows as maximum and minimum; in int8 it has the result's own scale.
    """
    output, finish = builder.write_as(value, arrangement or builder.layout(value))
    if operator.activation is None:
        return "none", output, finish
    found = _ACTIVATIONS.get(operator.activation)
    if found is not None:
        return found, output, finish
    low, high = operator.activation
    free = builder.part(value, builder.tensors[output].shape, "unclamped")

    def clamp() -> None:
        _clamp(builder, value, free, output, low, high)
        finish()

    return "none", free, clamp


def _clamp(builder: Builder, value: str, tensor: str, output: str, low: float, high: float) -> None:
    shape = builder.tensors[output].shape
    bounds: list[tuple[Kind, float]] = [("maximum", low), ("minimum", high)]
    bounds = [(kind, bound) for kind, bound in bounds if math.isfinite(bound)]
    for number, (kind, bound) in enumerate(bounds):
        constant = builder.made_up(f"{value}.{kind}", np.full((1,) * len(shape), bound, np.float32), value=value)
        target = output if number == len(bounds) - 1 else builder.part(value, shape, "clamped")
        builder.emit(kind, [tensor, constant], [target])
        tensor = target


def lower_clip(builder: Builder, operator: Operator) -> None:
    """Relu or Clip that nothing could fuse."""
    tensor = builder.read(operator.inputs[0])
    output = builder.write(operator.output)
    low, high = operator.activation or (-math.inf, math.inf)
    found = _ACTIVATIONS.get((low, high))
    if found is None:
        _clamp(builder, operator.output, tensor, output, low, high)
    elif found == "none":
        builder.emit("reshape", [tensor], [output])
    else:
        builder.emit(found, [tensor], [output])


def lower_binary(builder: Builder, operator: Operator) -> None:
    """Add, Sub, Mul, Div; a division by a constant is a product with its reciprocal."""
    kinds: Mapping[str, Kind] = {"add": "add", "sub": "sub", "mul": "mul", "div": "div"}
    kind = kinds[operator.kind]
    node = builder.graph.node_by_name[operator.id]
    activation, output, finish = with_activation(builder, operator, operator.output)
    layout = builder.layout(operator.output)
    rank = len(builder.shape(operator.output))
    tensors = []
    for index, value in enumerate(node.inputs[:2]):
        name = str(value.name) if value is not None else ""
        shape = builder.shape(name)
        arrangement = like(layout, (1,) * (rank - len(shape)) + shape)
        if kind == "div" and index == 1 and builder.graph.constants.get(name, _NOTHING).dtype == np.float32:
            kind = "mul"
            reciprocal = arrangement.apply((1.0 / builder.graph.constants[name]).astype(np.float32))
            tensors.append(builder.made_up(f"{name}.reciprocal", reciprocal))
        else:
            tensors.append(builder.read(name, arrangement))
    builder.emit(kind, tensors, [output], ElementwiseOptions(activation))
    finish()


def lower_unary(builder: Builder, operator: Operator) -> None:
    """Sigmoid, Tanh, LeakyRelu; HardSwish as one operator."""
    tensor = builder.read(operator.inputs[0], builder.layout(operator.output))
    output = builder.write(operator.output)
    if operator.kind == "leaky_relu":
        alpha = float(attribute(builder.graph.node_by_name[operator.id], "alpha", 0.01))
        builder.emit("leaky_relu", [tensor], [output], LeakyReluOptions(alpha))
    else:
        builder.emit(_UNARY[operator.kind], [tensor], [output])


def lower_hard_sigmoid(builder: Builder, operator: Operator) -> None:
    """HardSigmoid(x) = alpha clamp(x + beta / alpha, 0, 1 / alpha): an add with a fused clamp, and a product."""
    node = builder.graph.node_by_name[operator.id]
    alpha, beta = float(attribute(node, "alpha", 0.2)), float(attribute(node, "beta", 0.5))
    if alpha <= 0:
        raise builder.unsupported(operator, f"alpha {alpha}", "alpha above 0")
    tensor = builder.read(operator.inputs[0], builder.layout(operator.output))
    output = builder.write(operator.output)
    _emit_gate(builder, tensor, output, operator.output, alpha, beta)


def lower_hard_swish(builder: Builder, operator: Operator) -> None:
    """HardSwish(x) = x HardSigmoid(x) with alpha 1/6 and beta 1/2: one operator, or three where the target gains."""
    if not builder.split_hard_swish:
        lower_unary(builder, operator)
        return
    tensor = builder.read(operator.inputs[0], builder.layout(operator.output))
    output = builder.write(operator.output)
    gate = builder.inner(operator.output, builder.tensors[output].shape, "gate", (0.0, 1.0))
    _emit_gate(builder, tensor, gate, operator.output, 1 / 6, 0.5)
    builder.emit("mul", [tensor, gate], [output], ElementwiseOptions())


def _emit_gate(builder: Builder, tensor: str, output: str, value: str, alpha: float, beta: float) -> None:
    shape = builder.tensors[output].shape
    ones = (1,) * len(shape)
    limit = float(np.float32(1.0 / alpha))
    limit = 6.0 if math.isclose(limit, 6.0, rel_tol=1e-6) else limit
    offset = builder.made_up(f"{value}.offset", np.full(ones, beta / alpha, np.float32))
    factor = builder.made_up(f"{value}.factor", np.full(ones, alpha, np.float32))
    clamped = builder.inner(value, shape, "clamped", (0.0, limit))
    if limit == 6.0:
        builder.emit("add", [tensor, offset], [clamped], ElementwiseOptions("relu6"))
    else:
        above = builder.inner(value, shape, "above", (0.0, limit))
        bound = builder.new(
            f"{value}.limit",
            ones,
            data=np.full(ones, limit, np.float32),
            role="operand",
            limits=(0.0, limit),
        )
        builder.emit("add", [tensor, offset], [above], ElementwiseOptions("relu"))
        builder.emit("minimum", [above, bound], [clamped])
    builder.emit("mul", [clamped, factor], [output], ElementwiseOptions())


def lower_prelu(builder: Builder, operator: Operator) -> None:
    """PRelu with constant slopes."""
    if operator.weight is None:
        raise builder.unsupported(operator, "its slopes are computed", "constant slopes")
    layout = builder.layout(operator.output)
    rank = len(builder.shape(operator.output))
    slopes = builder.graph.constants[operator.weight]
    padded = like(layout, (1,) * (rank - slopes.ndim) + slopes.shape)
    if padded.shape[0] != 1:
        raise builder.unsupported(operator, "a slope for each sample", "a slope for each channel")
    arrangement = Arrangement(padded.split, padded.order, padded.shape[1:])
    slope = builder.constant(operator.weight, arrangement, "operand")
    tensor = builder.read(operator.inputs[0], layout)
    builder.emit("prelu", [tensor, slope], [builder.write(operator.output)])


def bias_of(builder: Builder, operator: Operator, channels: int) -> str:
    """The bias of a layer as a tensor: zeros where it has none."""
    if operator.bias is None:
        return builder.made_up(f"{operator.id}.bias", np.zeros(channels, np.float32), "bias")
    array = builder.graph.constants[operator.bias]
    if array.size != channels:
        return builder.made_up(operator.bias, np.broadcast_to(array.reshape(-1), (channels,)).copy(), "bias")
    return builder.constant(operator.bias, Arrangement.same((channels,)), "bias")


def lower_linear(builder: Builder, operator: Operator) -> None:
    """Gemm and MatMul with constant weights; those of a flattened image follow the order of its columns."""
    if operator.weight is None or operator.channel_axis is None:
        raise builder.unsupported(operator, "its weights are computed", "constant weights")
    value = operator.inputs[0]
    shape = builder.graph.constants[operator.weight].shape
    outputs, inputs = shape[operator.channel_axis], shape[1 - operator.channel_axis]
    layout = builder.layout(value)
    columns = layout.moves and len(layout.shape) == 2
    if not columns:
        layout = Arrangement.same(builder.shape(value))
    split = layout.split[1:] if columns else (inputs,)
    order = tuple(axis - 1 for axis in layout.order[1:]) if columns else (0,)
    if operator.channel_axis == 0:
        arrangement = Arrangement((outputs, *split), (0, *(axis + 1 for axis in order)), (outputs, inputs))
    else:
        arrangement = Arrangement((*split, outputs), (len(split), *order), (outputs, inputs))
    weight = builder.constant(operator.weight, arrangement, "weight", channel_axis=0)
    bias = bias_of(builder, operator, outputs)
    tensor = builder.read(value, layout)
    plain = Arrangement.same(builder.shape(operator.output))
    activation, output, finish = with_activation(builder, operator, operator.output, plain)
    builder.emit("fully_connected", [tensor, weight, bias], [output], FullyConnectedOptions(activation))
    finish()


def lower_matmul(builder: Builder, operator: Operator) -> None:
    """MatMul of computed values, or with a constant of rank above 2."""
    node = builder.graph.node_by_name[operator.id]
    names = [str(value.name) for value in node.inputs if value is not None]
    shapes = [builder.shape(name) for name in names]
    rank = max(len(shape) for shape in shapes)
    if min(len(shape) for shape in shapes) < 2:
        raise builder.unsupported(operator, "an operand of rank 1", "operands of rank 2 to 5")
    tensors = [
        builder.read(name, Arrangement.same((1,) * (rank - len(shape)) + shape))
        for name, shape in zip(names, shapes, strict=True)
    ]
    output, finish = builder.write_as(operator.output, Arrangement.same(builder.shape(operator.output)))
    builder.emit("batch_matmul", tensors, [output], BatchMatmulOptions())
    finish()


def lower_mean(builder: Builder, operator: Operator) -> None:
    """GlobalAveragePool and ReduceMean."""
    reduce_to(builder, operator, "mean")


def reduce_to(builder: Builder, operator: Operator, kind: Kind) -> None:
    """A reduction over axes, which are dropped by a reshape where they are not kept."""
    value, node = operator.inputs[0], builder.graph.node_by_name[operator.id]
    shape, layout = builder.shape(value), builder.layout(value)
    if layout.moves and len(layout.shape) == 2:
        layout = Arrangement.same(shape)
    tensor = builder.read(value, layout)
    axes = reduced_axes(builder.graph, operator)
    kept_shape = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
    kept = like(layout, kept_shape)
    places = tuple(sorted(layout.axis(axis) for axis in axes))
    keep = node.op_type in ("GlobalAveragePool", "GlobalMaxPool") or bool(attribute(node, "keepdims", 1))
    if keep:
        output, finish = builder.write_as(operator.output, kept)
        builder.emit(kind, [tensor], [output], ReduceOptions(places, True))
        finish()
        return
    reduced = builder.part(operator.output, kept.shape, "kept")
    builder.emit(kind, [tensor], [reduced], ReduceOptions(places, True))
    # Dropping axes of 1 moves nothing, unless the rest lies in another order.
    result, shape = builder.layout(operator.output), builder.shape(operator.output)
    if same_order(kept, kept_shape, result, shape):
        builder.emit("reshape", [reduced], [builder.write(operator.output)])
        return
    plain = builder.part(operator.output, kept_shape, "plain")
    builder.move(operator.output, reduced, kept, kept_shape, Arrangement.same(kept_shape), plain)
    output, finish = builder.write_as(operator.output, Arrangement.same(shape))
    builder.emit("reshape", [plain], [output])
    finish()


def lower_softmax(builder: Builder, operator: Operator) -> None:
    """Softmax over any axis: TensorFlow Lite's runs over the last, so another is moved there and back."""
    value = operator.inputs[0]
    shape, layout = builder.shape(value), builder.layout(value)
    axis = int(attribute(builder.graph.node_by_name[operator.id], "axis", -1)) % len(shape)
    if (layout.moves and len(layout.shape) == 2) or layout.axis(axis) != len(layout.shape) - 1:
        order = (*(other for other in range(len(shape)) if other != axis), axis)
        layout = Arrangement.permuted(shape, order)
    tensor = builder.read(value, layout)
    output, finish = builder.write_as(operator.output, layout)
    builder.emit("softmax", [tensor], [output], SoftmaxOptions())
    finish()

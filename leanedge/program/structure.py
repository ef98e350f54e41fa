"""structure(graph) -> Skeleton: fusion, layout and order; no scales."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanedge.graph.operators import find_operators
from leanedge.program.arrangement import Arrangement, channels_last
from leanedge.program.builder import Builder
from leanedge.program.gelu import find_gelus
from leanedge.program.layouts import choose_layouts
from leanedge.program.lower_elementwise import (
    lower_binary,
    lower_clip,
    lower_hard_sigmoid,
    lower_hard_swish,
    lower_linear,
    lower_matmul,
    lower_mean,
    lower_prelu,
    lower_softmax,
    lower_unary,
)
from leanedge.program.lower_movement import (
    lower_concat,
    lower_gather,
    lower_pad,
    lower_reshape,
    lower_slice,
    lower_split,
    lower_transpose,
)
from leanedge.program.lower_other import lower_gelu, lower_other
from leanedge.program.lower_spatial import lower_conv, lower_conv_transpose, lower_pool, lower_resize
from leanedge.program.skeleton import Skeleton
from leanedge.program.types import Port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from leanedge.graph.model import Graph
    from leanedge.graph.operators import Kind, Operator

__all__ = ["structure"]

_LOWER: Mapping[Kind, Callable[[Builder, Operator], None]] = {
    "conv": lower_conv,
    "conv_transpose": lower_conv_transpose,
    "linear": lower_linear,
    "matmul": lower_matmul,
    "add": lower_binary,
    "sub": lower_binary,
    "mul": lower_binary,
    "div": lower_binary,
    "clip": lower_clip,
    "max_pool": lower_pool,
    "average_pool": lower_pool,
    "mean": lower_mean,
    "softmax": lower_softmax,
    "sigmoid": lower_unary,
    "tanh": lower_unary,
    "hard_swish": lower_hard_swish,
    "leaky_relu": lower_unary,
    "hard_sigmoid": lower_hard_sigmoid,
    "prelu": lower_prelu,
    "reshape": lower_reshape,
    "transpose": lower_transpose,
    "concat": lower_concat,
    "split": lower_split,
    "slice": lower_slice,
    "pad": lower_pad,
    "resize": lower_resize,
    "gather": lower_gather,
    "other": lower_other,
}


def structure(graph: Graph, separate_pads: bool = True, split_hard_swish: bool = False) -> Skeleton:
    """Lowers a Graph to channels-last operators in execution order.

    Args:
        graph: Static shapes, batch 1.
        separate_pads: Pads that are neither TensorFlow's SAME nor VALID become operators of their own, as TensorFlow
            Lite needs; else they stay in the convolution or pool.
        split_hard_swish: HardSwish becomes x times its gate: XNNPACK has int8 kernels for sums and products, and none
            for hard_swish, whose own takes four times as long.

    Raises:
        UnsupportedOperator: An operator has no counterpart.
    """
    operators = find_operators(graph)
    builder = Builder(graph, choose_layouts(graph, operators), separate_pads, split_hard_swish)
    inputs = tuple(_input(builder, info.name) for info in graph.inputs)
    gelus = {
        last: gelu
        for last, gelu in find_gelus(graph).items()
        if all(gelu.nodes.issuperset(op.nodes) for op in operators if not gelu.nodes.isdisjoint(op.nodes))
    }
    inside = {name for gelu in gelus.values() for name in gelu.nodes}
    for operator in operators:
        builder.source = operator.id
        gelu = gelus.get(operator.nodes[-1])
        if gelu is not None:
            lower_gelu(builder, gelu.source, gelu.output)
            continue
        if inside.issuperset(operator.nodes):
            continue
        if any(graph.shape(name) is None for name in (*operator.inputs, *operator.outputs)):
            raise builder.unsupported(operator, "a shape depends on the data", "static shapes")
        _LOWER[operator.kind](builder, operator)
    outputs = tuple(_output(builder, info.name) for info in graph.outputs)
    return Skeleton(builder.tensors, tuple(builder.operators), inputs, outputs, builder.constants)


def _input(builder: Builder, name: str) -> Port:
    """An input comes with its axes permuted already; one of rank 3 gets its height of 1 by a reshape."""
    builder.source = name
    layout = builder.layout(name)
    shape = builder.shape(name)
    flat = _flat(layout, shape)
    if flat is None:
        return Port(name, builder.write(name), layout.order if layout.moves else None)
    tensor, add_height = builder.write_as(name, flat)
    add_height()
    return Port(name, tensor, flat.order)


def _output(builder: Builder, name: str) -> Port:
    builder.source = name
    layout = builder.layout(name)
    flat = _flat(layout, builder.shape(name))
    tensor = builder.read(name, flat or layout)
    return Port(name, tensor, layout.order if layout.moves else None)


def _flat(layout: Arrangement, shape: tuple[int, ...]) -> Arrangement | None:
    """For a rank-3 value with a height of 1: the same without it, so that ports keep their rank."""
    if len(shape) == 3 and layout == channels_last(shape):
        return Arrangement.permuted(shape, layout.order)
    return None

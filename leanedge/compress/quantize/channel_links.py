"""Which layers share channels in such a way that each channel may be scaled at its sources and back in its readers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.quantize.placement import spatial_mean
from leanedge.graph.model import attribute

if TYPE_CHECKING:
    from leanedge.compress.quantize.placement import Placement
    from leanedge.graph.model import Graph
    from leanedge.graph.operators import Operator

__all__ = ["Link", "Reader", "Source", "along", "links", "spread"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Source:
    """An operator that makes the channels.

    Attributes:
        operator: A layer with weights, or a LayerNormalization.
        constants: Those to divide by s, each with its channel axis; a layer's weight first.
    """

    operator: Operator
    constants: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Reader:
    """A layer that reads the channels: its weight is multiplied by s along its input channels."""

    operator: Operator
    weight: str


@dataclass(frozen=True)
class Link:
    """Values whose channel c is scaled alike.

    Attributes:
        channels: How many there are.
        axis: Their axis in the values: 1 after convolutions, else the last.
        sources: All operators that make them.
        values: All values between sources and readers.
        readers: All layers that read them.
    """

    channels: int
    axis: int
    sources: tuple[Source, ...]
    values: tuple[str, ...]
    readers: tuple[Reader, ...]


def links(graph: Graph, placement: Placement) -> tuple[Link, ...]:
    """Every link of the graph, in execution order; no value is in two."""
    found: list[Link] = []
    taken: set[str] = set()
    for operator in placement.operators:
        source = _source(graph, placement, operator)
        if source is not None and operator.output not in taken:
            link = _follow(graph, placement, source)
            if link is not None:
                found.append(link)
                taken.update(link.values)
    return tuple(found)


def _follow(graph: Graph, placement: Placement, first: Source) -> Link | None:
    """All that is tied to the channels of `first`, or None where something there can't be scaled."""
    name, axis_of_channel = first.constants[0]
    channels = graph.constants[name].shape[axis_of_channel]
    shape = graph.shape(first.operator.output)
    if shape is None:
        return None
    axis = 1 if first.operator.kind in ("conv", "conv_transpose") else len(shape) - 1
    values, todo = {first.operator.output: None}, [first.operator.output]
    sources: dict[str, Source] = {}
    readers: dict[str, Reader] = {}

    def tie(value: str) -> None:
        if value not in values:
            values[value] = None
            todo.append(value)

    while todo:
        value = todo.pop()
        shape = graph.shape(value)
        maker = placement.producer.get(value)
        if value in graph.output_names or maker is None or shape is None or shape[axis] != channels:
            return None
        source = _source(graph, placement, maker)
        on_axis = axis == (1 if maker.kind in ("conv", "conv_transpose") else len(shape) - 1)
        if source is not None and on_axis:
            sources[maker.id] = source
        elif _passes(graph, maker, axis, channels):
            for before in maker.inputs:
                tie(before)
        else:
            return None
        for operator in placement.readers.get(value, ()):
            if _passes(graph, operator, axis, channels):
                tie(operator.output)
            elif _reads(graph, placement, operator, axis, len(shape), channels) and operator.weight is not None:
                readers[operator.id] = Reader(operator, operator.weight)
            else:
                return None
    if not readers:
        return None
    return Link(channels, axis, tuple(sources.values()), tuple(values), tuple(readers.values()))


def _source(graph: Graph, placement: Placement, operator: Operator) -> Source | None:
    node = graph.node_by_name[operator.id]
    if node.op_type == "LayerNormalization" and not node.domain and len(operator.outputs) == 1:
        shape = graph.shape(operator.output)
        names = [str(value.name) for value in node.inputs[1:] if value is not None]
        last = shape is not None and attribute(node, "axis", -1) in (-1, len(shape) - 1)
        if not last or not names or not all(_own(graph, name) and graph.constants[name].ndim == 1 for name in names):
            return None
        return Source(operator, tuple((name, 0) for name in names))
    if not operator.has_channels or operator.id not in placement.integer or operator.weight is None:
        return None
    if operator.activation is not None and operator.activation != (0.0, math.inf):
        return None
    if operator.kind == "conv_transpose" and attribute(node, "group", 1) != 1:
        return None
    assert operator.channel_axis is not None
    constants = [(operator.weight, operator.channel_axis)] + ([(operator.bias, 0)] if operator.bias else [])
    return Source(operator, tuple(constants)) if all(_own(graph, name) for name, _ in constants) else None


def _own(graph: Graph, name: str) -> bool:
    return name in graph.constants and len(graph.consumers[name]) == 1


def _passes(graph: Graph, operator: Operator, axis: int, channels: int) -> bool:
    """Whether channel c scaled by s in all inputs gives channel c of its output scaled by s, on the same axis."""
    if operator.activation is not None and operator.activation != (0.0, math.inf):
        return False
    if operator.kind == "add":
        shapes = {graph.shape(value) for value in (*operator.inputs, operator.output)}
        return operator.weight is None and len(operator.inputs) == 2 and len(shapes) == 1
    if operator.kind in ("max_pool", "average_pool"):
        return axis == 1 and len(operator.outputs) == 1
    if operator.kind == "mean":
        return axis == 1 and spatial_mean(graph, operator)
    if operator.kind == "clip":
        return True
    if operator.kind == "reshape":
        before, after = graph.shape(operator.inputs[0]), graph.shape(operator.output)
        return axis == 1 and before is not None and after == (1, channels) and math.prod(before) == channels
    return False


def _reads(graph: Graph, placement: Placement, operator: Operator, axis: int, rank: int, channels: int) -> bool:
    """Whether the operator is a layer whose input channels are these."""
    if not operator.has_channels or operator.id not in placement.integer or operator.weight is None:
        return False
    if not _own(graph, operator.weight):
        return False
    if axis != (rank - 1 if operator.kind == "linear" else 1):
        return False
    shape = graph.constants[operator.weight].shape
    if operator.kind == "linear":
        return bool(shape[1 - (operator.channel_axis or 0)] == channels)
    if operator.kind == "conv_transpose":
        return bool(shape[0] == channels)
    return bool(shape[1] * attribute(graph.node_by_name[operator.id], "group", 1) == channels)


def along(scale: Array, axis: int, rank: int) -> Array:
    """`scale` shaped to broadcast along one axis of a tensor of that rank."""
    shape = [1] * rank
    shape[axis] = -1
    return scale.reshape(shape)


def spread(graph: Graph, reader: Reader, scale: Array) -> Array:
    """`scale`, one an input channel, broadcast to the layout of the reader's weight."""
    operator, shape = reader.operator, graph.constants[reader.weight].shape
    if operator.kind == "linear":
        return along(scale, 1 - (operator.channel_axis or 0), 2)
    if operator.kind == "conv_transpose":
        return along(scale, 0, len(shape))
    group = int(attribute(graph.node_by_name[operator.id], "group", 1))
    # Output channel o of group g reads input channels g * shape[1] ... of it.
    rows = np.repeat(scale.reshape(group, shape[1]), shape[0] // group, axis=0)
    return rows.reshape(*rows.shape, *[1] * (len(shape) - 2))

"""Layers as regressions: rows of inputs (patches, for a convolution) times a matrix of weights gives the outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.graph.model import Graph, attribute
from leanedge.graph.operators import Operator, find_operators
from leanedge.graph.patterns import add_constant
from leanedge.graph.shapes import infer_shapes

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

__all__ = ["Regression", "find_regressions", "give_biases"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Regression:
    """An operator that sums over channels, seen as ``rows @ matrix + bias``.

    Of a transposed convolution a row is one input pixel and the matrix makes what it adds to its neighbourhood.

    Attributes:
        operator: Operator id.
        source: Value it reads.
        kind: ``conv`` (of one group), ``linear`` or ``conv_transpose``.
        weight: Initializer.
        bias: Initializer that belongs to this layer alone, or None: then no constant can be fitted.
        input_axis: Axis of `weight` that goes over input channels.
        kernel: Spatial shape of the kernel; () for ``linear``.
        strides: For each spatial axis.
        dilations: For each spatial axis.
        pads: (begin, end) for each spatial axis.
        outside: Spatial shape of the output: positions that a row can stand for.
        skip: Value that is added to the output before anything else reads it, and that is known before this layer
            runs: what goes wrong there can be made good here (He et al., 2017). Or None.
        clamp: Of what is made, the skip included: the activation that follows, infinite where open.
    """

    operator: str
    source: str
    kind: str
    weight: str
    bias: str | None
    input_axis: int
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[tuple[int, int], ...] = ()
    outside: tuple[int, ...] = ()
    skip: str | None = None
    clamp: tuple[float, float] = (-inf, inf)

    @property
    def taps(self) -> int:
        """Consecutive columns of a row that belong to one input channel."""
        return int(np.prod(self.kernel)) if self.kind == "conv" else 1

    def positions(self, shape: tuple[int, ...]) -> int:
        """How many rows an input of that shape holds."""
        if self.kind == "conv":
            return int(np.prod(self.outside))
        return int(np.prod(shape[:-1] if self.kind == "linear" else shape[2:]))

    def rows(self, x: Array, positions: Array) -> Array:
        """(len(positions), channels x taps) rows of one input, channel by channel."""
        if self.kind == "linear":
            flat: Array = x.reshape(-1, x.shape[-1])
            return flat[positions]
        if self.kind == "conv_transpose":
            pixels: Array = x.reshape(x.shape[1], -1).T
            return pixels[positions]
        image = x[0]
        if any(side for pad in self.pads for side in pad):
            image = np.pad(image, ((0, 0), *self.pads))
        starts = np.unravel_index(positions, self.outside)
        taps = []
        for tap in product(*(range(size) for size in self.kernel)):
            places = zip(starts, tap, self.strides, self.dilations, strict=True)
            at = (slice(None), *(s * stride + t * spread for s, t, stride, spread in places))
            taps.append(image[at])
        rows: Array = np.stack(taps, axis=-1).transpose(1, 0, 2).reshape(len(positions), -1)
        return rows

    def skip_rows(self, value: Array, positions: Array) -> Array:
        """(len(positions), outputs) of what is added to the rows' outputs."""
        flat: Array = (
            value.reshape(-1, value.shape[-1]) if self.kind == "linear" else value.reshape(value.shape[1], -1).T
        )
        return flat[positions]

    def matrix(self, weight: Array) -> Array:
        """The weights as (channels x taps, outputs)."""
        flat: Array = weight.reshape(weight.shape[0], -1)
        turned = self.kind == "conv" or (self.kind == "linear" and self.input_axis == 1)
        return flat.T if turned else flat

    def weight_of(self, matrix: Array, shape: tuple[int, ...]) -> Array:
        """The inverse of `matrix`, for weights of that shape."""
        turned: Array = matrix.T if self.kind == "conv" or (self.kind == "linear" and self.input_axis == 1) else matrix
        weight: Array = turned.reshape(shape).astype(np.float32)
        return weight

    def outputs(self, kept: Array, shape: tuple[int, ...]) -> Array:
        """Columns of the matrix that belong to these output channels, for weights of that (cut) shape."""
        if self.kind != "conv_transpose":
            return kept
        taps = int(np.prod(shape[2:]))
        columns: Array = (kept[:, None] * taps + np.arange(taps)).ravel()
        return columns

    def columns(self, channels: Array) -> Array:
        """(units, channels a unit) input channels -> (units, columns a unit) columns of a row."""
        columns: Array = (channels[:, :, None] * self.taps + np.arange(self.taps)).reshape(len(channels), -1)
        return columns


def give_biases(graph: Graph) -> Graph:
    """The graph with a bias of zeros in every convolution and Gemm that has none, so that one can be fitted."""
    model = graph.editable()
    for node in model.graph:
        lacks = len(node.inputs) < 3 or node.inputs[2] is None
        weight = graph.constants.get(str(node.inputs[1].name)) if len(node.inputs) > 1 and node.inputs[1] else None
        if node.op_type in ("Conv", "Gemm") and not node.domain and lacks and weight is not None:
            outputs = weight.shape[1 if node.op_type == "Gemm" and not attribute(node, "transB", 0) else 0]
            node.resize_inputs(3)
            node.replace_input_with(2, add_constant(model, f"{node.name}.bias", np.zeros(outputs, weight.dtype)))
    return Graph(infer_shapes(model))


def find_regressions(graph: Graph) -> tuple[Regression, ...]:
    """Every operator of the graph that can be refitted, in execution order."""
    found = []
    operators = find_operators(graph)
    made_at = {name: index for index, operator in enumerate(operators) for name in operator.outputs}
    read_at: dict[str, int] = {}
    for index, operator in enumerate(operators):
        for name in operator.inputs:
            read_at.setdefault(name, index)
    for operator in operators:
        node = graph.node_by_name[operator.id]
        alone = operator.weight is not None and len(graph.consumers.get(operator.weight, ())) == 1
        if operator.has_channels and alone and graph.constants[str(operator.weight)].dtype == np.float32:
            regression = _regression(graph, operator, node)
            if regression is not None:
                shared = regression.bias is not None and len(graph.consumers.get(regression.bias, ())) > 1
                regression = replace(regression, clamp=operator.activation or (-inf, inf))
                add = _only_reader(graph, operators, operator)
                if add is not None and operator.activation is None and regression.kind != "conv_transpose":
                    skip = next(name for name in add.inputs if name != operator.output)
                    # All layers before the skip are settled only if it is made before anyone reads the source.
                    if made_at.get(skip, -1) < read_at[regression.source]:
                        regression = replace(regression, skip=skip, clamp=add.activation or (-inf, inf))
                found.append(replace(regression, bias=None) if shared else regression)
    return tuple(found)


def _only_reader(graph: Graph, operators: Sequence[Operator], operator: Operator) -> Operator | None:
    """The addition of two values of one shape that alone reads the operator's output."""
    readers = graph.consumers.get(operator.output, ())
    if len(readers) != 1 or operator.output in graph.output_names:
        return None
    add = next((o for o in operators if o.kind == "add" and str(readers[0].name) == o.nodes[0]), None)
    if add is None or len(set(add.inputs)) != 2:
        return None
    shapes = [graph.shape(name) for name in add.inputs]
    return add if shapes[0] == shapes[1] else None


def _regression(graph: Graph, operator: Operator, node: ir.Node) -> Regression | None:
    weight, source = str(operator.weight), operator.inputs[0] if operator.inputs else ""
    before, after = graph.shape(source), graph.shape(str(node.outputs[0].name))
    if before is None or after is None or (operator.kind != "linear" and attribute(node, "group", 1) != 1):
        return None
    if operator.kind == "linear":
        return Regression(operator.id, source, "linear", weight, operator.bias, 1 - (operator.channel_axis or 0))
    if operator.kind == "conv_transpose":
        return Regression(operator.id, source, "conv_transpose", weight, None, 0)
    kernel = graph.constants[weight].shape[2:]
    strides = tuple(attribute(node, "strides", [1] * len(kernel)))
    dilations = tuple(attribute(node, "dilations", [1] * len(kernel)))
    given = attribute(node, "pads", [0] * 2 * len(kernel))
    pads = tuple(zip(given[: len(kernel)], given[len(kernel) :], strict=True))
    if attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return None  # canonical graphs state their padding
    return Regression(
        operator.id, source, "conv", weight, operator.bias, 1, kernel, strides, dilations, pads, after[2:]
    )

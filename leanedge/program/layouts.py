"""Which values lie channels last: those that a convolution, pool or resize touches, and all that must lie alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.graph.model import attribute
from leanedge.program.arrangement import Arrangement, channels_last, same_order

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.graph.model import Graph
    from leanedge.graph.operators import Operator

__all__ = ["ELEMENTWISE", "UNARY", "choose_layouts", "chosen_along_axis", "reduced_axes"]

ELEMENTWISE = frozenset({"add", "sub", "mul", "div"})
UNARY = frozenset({"clip", "sigmoid", "tanh", "hard_swish", "hard_sigmoid", "leaky_relu"})
_ANCHORS = frozenset({"conv", "conv_transpose", "max_pool", "average_pool", "resize"})
# fmt: off
_OTHERS_THAT_KEEP = frozenset({
    "Neg", "Abs", "Exp", "Log", "Sqrt", "Reciprocal", "Not", "Cast", "Max", "Min", "Sum", "Add", "Sub", "Mul",
    "Div", "Pow", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "And", "Or", "Where",
    "ReduceSum", "ReduceMax", "ReduceMin", "GlobalMaxPool", "Gelu", "Erf",
})
# fmt: on
_KEEPS_LAYOUT = ELEMENTWISE | UNARY | {"prelu", "concat", "split", "slice", "pad", "mean"}


def choose_layouts(graph: Graph, operators: Sequence[Operator]) -> dict[str, Arrangement]:
    """An arrangement for each value that does not lie as the Graph has it.

    Values that must lie alike (operands and results of element-wise kinds, concatenation, ...) form a class; a class
    with a spatial operator is channels last. A flattened image that only linear layers read keeps the order of its
    columns: the linear layers' weights are permuted instead.
    """
    classes = _Classes()
    anchored: set[str] = set()
    for operator in operators:
        values = _spatial(graph, (*operator.inputs, *operator.outputs))
        if operator.kind in _ANCHORS or _pools_globally(graph, operator):
            anchored.update(values)
        if operator.kind in _ANCHORS or operator.kind in _KEEPS_LAYOUT or _keeps_here(graph, operator):
            for value in values[1:]:
                if len(graph.shape(value) or ()) == len(graph.shape(values[0]) or ()):
                    classes.join(values[0], value)
        elif operator.kind == "reshape" and len(values) == 2 and _only_ones_change(graph, *values):
            classes.join(*values)
    roots = {classes.root(value) for value in anchored}
    chosen = {
        value: channels_last(shape)
        for value in graph.values
        if (shape := graph.shape(value)) is not None
        and len(shape) in (3, 4)
        and value not in graph.constants
        and classes.root(value) in roots
    }
    for operator in operators:
        if operator.kind == "reshape":
            chosen.update(_flattened(graph, operators, operator, chosen))
    return chosen


class _Classes:
    """Union-find."""

    def __init__(self) -> None:
        self.parent: dict[str, str] = {}

    def root(self, value: str) -> str:
        while self.parent.get(value, value) != value:
            value = self.parent[value]
        return value

    def join(self, left: str, right: str) -> None:
        self.parent[self.root(left)] = self.root(right)


def _spatial(graph: Graph, values: Sequence[str]) -> list[str]:
    return [value for value in values if len(graph.shape(value) or ()) in (3, 4)]


def _pools_globally(graph: Graph, operator: Operator) -> bool:
    return graph.node_by_name[operator.id].op_type in ("GlobalAveragePool", "GlobalMaxPool")


def _keeps_here(graph: Graph, operator: Operator) -> bool:
    """A softmax over the channels (the last axis then), or a constant choice along an axis."""
    node = graph.node_by_name[operator.id]
    if operator.kind == "softmax":
        return bool(attribute(node, "axis", -1) == 1)
    if operator.kind == "other":
        return node.op_type in _OTHERS_THAT_KEEP
    return operator.kind == "gather" and chosen_along_axis(graph, operator) is not None


def chosen_along_axis(graph: Graph, operator: Operator) -> np.ndarray[Any, Any] | None:
    """The indices of a gather that picks along an axis of a computed value, so that the rank stays; else None."""
    data, indices = (str(value.name) for value in graph.node_by_name[operator.id].inputs if value is not None)
    found = graph.constants.get(indices)
    return found if found is not None and found.ndim == 1 and data not in graph.constants else None


def _only_ones_change(graph: Graph, before: str, after: str) -> bool:
    """A reshape that adds or drops axes of size 1, and leaves channels-last memory as it is."""
    shapes = graph.shape(before) or (), graph.shape(after) or ()
    if [d for d in shapes[0] if d != 1] != [d for d in shapes[1] if d != 1]:
        return False
    return same_order(channels_last(shapes[0]), shapes[0], channels_last(shapes[1]), shapes[1])


def _flattened(
    graph: Graph, operators: Sequence[Operator], reshape: Operator, chosen: Mapping[str, Arrangement]
) -> dict[str, Arrangement]:
    """Arrangements of the flattened image and what is computed from it element by element, if only linears read it."""
    before, after = reshape.inputs[0] if reshape.inputs else "", reshape.output
    shape, flat = graph.shape(before), graph.shape(after)
    layout = chosen.get(before)
    if layout is None or shape is None or flat is None or len(flat) != 2 or flat[0] != shape[0]:
        return {}
    if same_order(layout, shape, Arrangement.same(flat), flat):
        return {}
    found: dict[str, Arrangement] = {}
    waiting = [after]
    while waiting:
        value = waiting.pop()
        if value in graph.output_names or graph.shape(value) != flat:
            return {}
        found[value] = Arrangement(shape, layout.order, flat)
        for reader in (op for op in operators if value in op.inputs):
            if reader.kind == "linear":
                continue
            with_constant = reader.kind in ELEMENTWISE and reader.weight is not None
            if reader.kind not in UNARY and not with_constant:
                return {}
            waiting.append(reader.output)
    return found


def reduced_axes(graph: Graph, operator: Operator) -> tuple[int, ...]:
    """Axes that a mean runs over, not negative, in the Graph's layout."""
    node = graph.node_by_name[operator.id]
    rank = len(graph.shape(operator.inputs[0]) or ())
    if node.op_type in ("GlobalAveragePool", "GlobalMaxPool"):
        return tuple(range(2, rank))
    axes = attribute(node, "axes", None)
    if axes is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        name = str(node.inputs[1].name)
        axes = np.atleast_1d(graph.constants[name]).tolist() if name in graph.constants else None
    if not axes:
        axes = () if attribute(node, "noop_with_empty_axes", 0) else range(rank)
    return tuple(sorted(int(axis) % rank for axis in axes))

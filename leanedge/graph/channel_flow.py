"""Which channels are one and the same: every channel of every value gets a label, and coupled ones share it.

A convolution makes new labels; an activation or pool hands them on; an addition merges those of its operands; a
concatenation lays them side by side; what is not understood, and the model's inputs and outputs, fix them for good.
The idea of coupling is DepGraph's (Fang et al., CVPR 2023); here it is one walk over the graph with a union-find.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from leanedge.graph.model import attribute

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import onnx_ir as ir

    from leanedge.graph.model import Graph

__all__ = ["FROZEN", "ChannelFlow", "Channels", "Claim", "Role", "follow_channels"]

Array = np.ndarray[Any, Any]
Role = Literal["producer", "through", "consumer"]

FROZEN = 0
"""The label of channels that can't be cut."""


@dataclass(frozen=True)
class Channels:
    """The labels along one axis of a value."""

    axis: int
    labels: Array


@dataclass(frozen=True)
class Claim:
    """One axis of a constant that follows the channels of a value.

    Attributes:
        node: The node that reads the constant.
        constant: Initializer.
        axis: Its axis, as long as `labels`.
        labels: Label of each index.
        role: ``producer``: the node makes these channels anew. ``through``: it works on each channel alone
            (depthwise, bias, slope). ``consumer``: it sums over them.
    """

    node: str
    constant: str
    axis: int
    labels: Array
    role: Role


@dataclass(frozen=True)
class ChannelFlow:
    """Labels of values and constants, merged: equal labels are cut together, `FROZEN` never.

    Attributes:
        values: Value -> its labelled axis. A value without an entry has no channels that could be cut.
        claims: What follows them, in execution order.
        frozen_by: Where and why labels were frozen: (node, output or constant; reason).
    """

    values: Mapping[str, Channels]
    claims: tuple[Claim, ...]
    frozen_by: tuple[tuple[str, str], ...]


def follow_channels(graph: Graph) -> ChannelFlow:
    """Walks the graph once, in execution order."""
    walk = _Walk(graph)
    for node in graph.nodes:
        rule = _RULES.get(node.op_type, _unknown) if node.domain in ("", "ai.onnx") else _unknown
        rule(walk, node)
    for name in graph.output_names:
        walk.freeze(name, name, "is a model output")
    walk.settle_constants()
    root = walk.roots()
    return ChannelFlow(
        {name: Channels(found.axis, root[found.labels]) for name, found in walk.values.items()},
        tuple(Claim(c.node, c.constant, c.axis, root[c.labels], c.role) for c in walk.claims),
        tuple(dict.fromkeys(walk.reasons)),
    )


class _Walk:
    """The state of one walk: a union-find over labels, and what they are attached to."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.parent = [FROZEN]
        self.values: dict[str, Channels] = {}
        self.claims: list[Claim] = []
        self.reasons: list[tuple[str, str]] = []
        self.read_by: dict[str, list[str]] = {}
        for name, nodes in graph.consumers.items():
            for node in nodes:
                self.read_by.setdefault(str(node.name), []).append(name)

    def fresh(self, count: int) -> Array:
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        return np.arange(first, first + count)

    def find(self, label: int) -> int:
        while self.parent[label] != label:
            self.parent[label] = label = self.parent[self.parent[label]]
        return label

    def merge(self, first: Iterable[int], second: Iterable[int]) -> None:
        for a, b in zip(first, second, strict=True):
            one, other = self.find(int(a)), self.find(int(b))
            # The smaller label leads, so that FROZEN always does.
            self.parent[max(one, other)] = min(one, other)

    def roots(self) -> Array:
        return np.array([self.find(label) for label in range(len(self.parent))])

    def freeze(self, value: str, where: str, reason: str) -> None:
        found = self.values.get(value)
        if found is not None:
            for label in found.labels:
                self.merge([int(label)], [FROZEN])
            self.reasons.append((where, reason))

    def of(self, node: ir.Node, index: int = 0) -> Channels | None:
        return self.values.get(_name(node, index))

    def on_axis(self, node: ir.Node, axis: int, index: int = 0) -> Channels | None:
        """The input's channels when they lie on that axis; frozen when on another."""
        found = self.of(node, index)
        if found is not None and found.axis != axis:
            self.freeze(_name(node, index), str(node.name), f"{node.op_type} reads another axis of it")
            return None
        return found

    def constant(self, node: ir.Node, index: int) -> Array | None:
        return self.graph.constants.get(_name(node, index))

    def claim(self, node: ir.Node, index: int, axis: int, labels: Array, role: Role) -> None:
        self.claims.append(Claim(str(node.name), _name(node, index), axis, labels, role))

    def give(self, node: ir.Node, axis: int, labels: Array, output: int = 0) -> None:
        self.values[str(node.outputs[output].name)] = Channels(axis, labels)

    def settle_constants(self) -> None:
        """A constant axis that several nodes read is cut for all of them or for none."""
        claimed: dict[tuple[str, int], list[Claim]] = {}
        for claim in self.claims:
            claimed.setdefault((claim.constant, claim.axis), []).append(claim)
        for (constant, _), claims in claimed.items():
            for other in claims[1:]:
                self.merge(claims[0].labels, other.labels)
            readers = {str(node.name) for node in self.graph.consumers.get(constant, ())}
            if constant in self.graph.output_names or readers != {claim.node for claim in claims}:
                for label in claims[0].labels:
                    self.merge([int(label)], [FROZEN])
                self.reasons.append((constant, "is a constant that other nodes read as well"))


def _name(node: ir.Node, index: int) -> str:
    value = node.inputs[index] if index < len(node.inputs) else None
    return str(value.name) if value is not None else ""


def _unknown(walk: _Walk, node: ir.Node) -> None:
    for name in walk.read_by.get(str(node.name), ()):
        walk.freeze(name, str(node.name), f"no rule says how channels pass {node.op_type}")


def _unary(walk: _Walk, node: ir.Node) -> None:
    others = [walk.constant(node, index) for index in range(1, len(node.inputs)) if _name(node, index)]
    if any(other is None or other.size != 1 for other in others):
        return _unknown(walk, node)
    found = walk.of(node)
    if found is not None:
        walk.give(node, found.axis, found.labels)
    return None


def _elementwise(walk: _Walk, node: ir.Node) -> None:
    made = walk.graph.shape(str(node.outputs[0].name))
    named = [(index, walk.graph.shape(_name(node, index))) for index in range(len(node.inputs))]
    known = [(index, walk.of(node, index), shape) for index, shape in named if shape is not None]
    # The operand with the most channels leads: one channel may be broadcast over many.
    leader = max(known, key=lambda k: len(k[1].labels) if k[1] is not None else 0, default=None)
    if made is None or leader is None or leader[1] is None or leader[2] is None or len(known) < len(named):
        return _unknown(walk, node)
    lead, from_end = leader[1], leader[1].axis - len(leader[2])
    axis, size = len(made) + from_end, len(lead.labels)
    if axis < 0 or made[axis] != size:
        return _unknown(walk, node)
    for index, channels, shape in known:
        assert shape is not None
        width = shape[from_end] if -from_end <= len(shape) else 1
        constant = walk.constant(node, index)
        if constant is not None:
            if width != 1:
                walk.claim(node, index, len(shape) + from_end, lead.labels, "through")
        elif channels is not None and channels.axis - len(shape) == from_end:
            if width == size:
                walk.merge(lead.labels, channels.labels)
        else:
            walk.freeze(_name(node, index), str(node.name), f"{node.op_type} along another axis")
            if width != 1:
                walk.freeze(_name(node, leader[0]), str(node.name), f"{node.op_type} with what can't be cut")
    walk.give(node, axis, lead.labels)
    return None


def _conv(walk: _Walk, node: ir.Node) -> None:
    weight = walk.constant(node, 1)
    if weight is None or (_name(node, 2) and walk.constant(node, 2) is None):
        return _unknown(walk, node)
    groups, found = attribute(node, "group", 1), walk.on_axis(node, 1)
    outputs, inputs = weight.shape[0], weight.shape[1] * groups
    entering = found.labels if found is not None else np.full(inputs, FROZEN)
    role: Role = "producer"
    if groups == 1:
        walk.claim(node, 1, 1, entering, "consumer")
        leaving = walk.fresh(outputs)
    elif groups == inputs:
        leaving, role = np.repeat(entering, outputs // inputs), "through"
    else:
        # Each group of a grouped convolution goes whole, with all that enters and leaves it.
        whole = walk.fresh(groups)
        walk.merge(entering, np.repeat(whole, inputs // groups))
        leaving = np.repeat(whole, outputs // groups)
    walk.claim(node, 1, 0, leaving, role)
    if _name(node, 2):
        walk.claim(node, 2, 0, leaving, "through")
    walk.give(node, 1, leaving)
    return None


def _conv_transpose(walk: _Walk, node: ir.Node) -> None:
    weight = walk.constant(node, 1)
    groups = attribute(node, "group", 1)
    if weight is None or (_name(node, 2) and walk.constant(node, 2) is None) or groups not in (1, weight.shape[0]):
        return _unknown(walk, node)
    found = walk.on_axis(node, 1)
    entering = found.labels if found is not None else np.full(weight.shape[0], FROZEN)
    if groups == 1:
        walk.claim(node, 1, 0, entering, "consumer")
        leaving = walk.fresh(weight.shape[1])
        walk.claim(node, 1, 1, leaving, "producer")
    else:
        walk.claim(node, 1, 0, entering, "through")
        leaving = np.repeat(entering, weight.shape[1])
    if _name(node, 2):
        walk.claim(node, 2, 0, leaving, "through")
    walk.give(node, 1, leaving)
    return None


def _gemm(walk: _Walk, node: ir.Node) -> None:
    weight, bias = walk.constant(node, 1), walk.constant(node, 2)
    if weight is None or attribute(node, "transA", 0) or (_name(node, 2) and bias is None):
        return _unknown(walk, node)
    across = 1 if attribute(node, "transB", 0) else 0
    _linear(walk, node, across, 1, weight.shape)
    leaving = walk.values[str(node.outputs[0].name)].labels
    if bias is not None and bias.ndim and bias.shape[-1] == len(leaving):
        walk.claim(node, 2, bias.ndim - 1, leaving, "through")
    return None


def _matmul(walk: _Walk, node: ir.Node) -> None:
    weight, shape = walk.constant(node, 1), walk.graph.shape(_name(node, 0))
    if weight is None or weight.ndim != 2 or shape is None or walk.constant(node, 0) is not None:
        return _unknown(walk, node)
    return _linear(walk, node, 0, len(shape) - 1, weight.shape)


def _linear(walk: _Walk, node: ir.Node, across: int, axis: int, shape: tuple[int, ...]) -> None:
    found = walk.on_axis(node, axis)
    entering = found.labels if found is not None else np.full(shape[across], FROZEN)
    walk.claim(node, 1, across, entering, "consumer")
    leaving = walk.fresh(shape[1 - across])
    walk.claim(node, 1, 1 - across, leaving, "producer")
    walk.give(node, axis, leaving)


def _per_channel(walk: _Walk, node: ir.Node) -> None:
    """Pools; and normalisations that have a constant for each channel and look at no other channel."""
    found = walk.on_axis(node, 1)
    constants = range(1, len(node.inputs))
    if any(walk.constant(node, index) is None for index in constants) or len(node.outputs) > 1:
        return _unknown(walk, node)
    if found is not None:
        for index in constants:
            walk.claim(node, index, 0, found.labels, "through")
        walk.give(node, 1, found.labels)
    return None


def _reduce(walk: _Walk, node: ir.Node) -> None:
    found, shape = walk.of(node), walk.graph.shape(_name(node, 0))
    axes = attribute(node, "axes", None)
    if axes is None and _name(node, 1):
        given = walk.constant(node, 1)
        axes = None if given is None else given.tolist()
    if found is None or shape is None or not axes:
        return _unknown(walk, node)
    reduced = {axis % len(shape) for axis in axes}
    if found.axis in reduced:
        return _unknown(walk, node)
    gone = 0 if attribute(node, "keepdims", 1) else sum(axis < found.axis for axis in reduced)
    return walk.give(node, found.axis - gone, found.labels)


def _softmax(walk: _Walk, node: ir.Node) -> None:
    found, shape = walk.of(node), walk.graph.shape(_name(node, 0))
    if (
        found is None
        or shape is None
        or walk.graph.opset < 13
        or attribute(node, "axis", -1) % len(shape) == found.axis
    ):
        return _unknown(walk, node)
    return walk.give(node, found.axis, found.labels)


def _reshape(walk: _Walk, node: ir.Node) -> None:
    found = walk.of(node)
    before, after = walk.graph.shape(_name(node, 0)), walk.graph.shape(str(node.outputs[0].name))
    if found is None or before is None or after is None:
        return _unknown(walk, node)
    outer, inner, size = int(np.prod(before[: found.axis])), int(np.prod(before[found.axis + 1 :])), len(found.labels)
    for axis, length in enumerate(after):
        ahead, behind = int(np.prod(after[:axis])), int(np.prod(after[axis + 1 :]))
        if ahead and behind and outer % ahead == 0 and inner % behind == 0:
            tiles, repeats = outer // ahead, inner // behind
            if length == tiles * size * repeats:
                return walk.give(node, axis, np.tile(np.repeat(found.labels, repeats), tiles))
    return _unknown(walk, node)


def _transpose(walk: _Walk, node: ir.Node) -> None:
    found, shape = walk.of(node), walk.graph.shape(_name(node, 0))
    if found is None or shape is None:
        return _unknown(walk, node)
    order = list(attribute(node, "perm", range(len(shape))[::-1]))
    return walk.give(node, order.index(found.axis), found.labels)


def _concat(walk: _Walk, node: ir.Node) -> None:
    shapes = [walk.graph.shape(_name(node, index)) for index in range(len(node.inputs))]
    parts = [walk.of(node, index) for index in range(len(node.inputs))]
    axes = {part.axis for part in parts if part is not None}
    if any(shape is None for shape in shapes) or len(axes) != 1:
        return _unknown(walk, node)
    along, channel = attribute(node, "axis", 1) % len(shapes[0] or ()), axes.pop()
    labels = [
        part.labels if part is not None else np.full((shape or ())[channel], FROZEN)
        for part, shape in zip(parts, shapes, strict=True)
    ]
    if along == channel:
        return walk.give(node, channel, np.concatenate(labels))
    for other in labels[1:]:
        walk.merge(labels[0], other)
    return walk.give(node, channel, labels[0])


def _split(walk: _Walk, node: ir.Node) -> None:
    found, shape = walk.of(node), walk.graph.shape(_name(node, 0))
    shapes = [walk.graph.shape(str(output.name)) for output in node.outputs]
    if found is None or shape is None or (_name(node, 1) and walk.constant(node, 1) is None) or walk.graph.opset < 13:
        return _unknown(walk, node)
    along, start = attribute(node, "axis", 0) % len(shape), 0
    for index, part in enumerate(shapes):
        if part is None:
            return _unknown(walk, node)
        end = start + part[along]
        walk.give(node, found.axis, found.labels[start:end] if along == found.axis else found.labels, index)
        start = end
    return None


def _slice(walk: _Walk, node: ir.Node) -> None:
    found, shape = walk.of(node), walk.graph.shape(_name(node, 0))
    parameters = [walk.constant(node, index) for index in range(1, len(node.inputs)) if _name(node, index)]
    if found is None or shape is None or len(parameters) < 2 or any(array is None for array in parameters):
        return _unknown(walk, node)
    starts, ends, axes, steps = slice_parameters(walk.graph, node, len(shape))
    labels = found.labels
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis == found.axis:
            if step != 1:
                return _unknown(walk, node)
            labels = labels[slice(start, end)]
    return walk.give(node, found.axis, labels)


def slice_parameters(graph: Graph, node: ir.Node, rank: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """(starts, ends, axes not below 0, steps) of a Slice whose parameters are constants."""
    starts, ends = (graph.constants[_name(node, index)].tolist() for index in (1, 2))
    axes = graph.constants[_name(node, 3)].tolist() if _name(node, 3) else list(range(len(starts)))
    steps = graph.constants[_name(node, 4)].tolist() if _name(node, 4) else [1] * len(starts)
    return starts, ends, [axis % rank for axis in axes], steps


def _pad(walk: _Walk, node: ir.Node) -> None:
    found, amounts = walk.of(node), walk.constant(node, 1)
    if found is None or amounts is None or _name(node, 3) or (_name(node, 2) and walk.constant(node, 2) is None):
        return _unknown(walk, node)
    before, after = int(amounts[found.axis]), int(amounts[found.axis + len(amounts) // 2])
    if min(before, after) < 0 or (before + after and attribute(node, "mode", "constant") != "constant"):
        return _unknown(walk, node)
    parts: Sequence[Array] = [np.full(before, FROZEN), found.labels, np.full(after, FROZEN)]
    return walk.give(node, found.axis, np.concatenate(parts))


def _resize(walk: _Walk, node: ir.Node) -> None:
    found, after = walk.of(node), walk.graph.shape(str(node.outputs[0].name))
    constants = all(
        walk.constant(node, index) is not None for index in range(1, len(node.inputs)) if _name(node, index)
    )
    if found is None or after is None or not constants or attribute(node, "axes", None) is not None:
        return _unknown(walk, node)
    if after[found.axis] != len(found.labels):
        return _unknown(walk, node)
    return walk.give(node, found.axis, found.labels)


def _depth_to_space(walk: _Walk, node: ir.Node) -> None:
    found, block = walk.on_axis(node, 1), attribute(node, "blocksize", 1)
    if found is None:
        return _unknown(walk, node)
    if attribute(node, "mode", "DCR") == "DCR":
        sets = found.labels.reshape(block * block, -1)
    else:
        sets = found.labels.reshape(-1, block * block).T
    for other in sets[1:]:
        walk.merge(sets[0], other)
    return walk.give(node, 1, sets[0])


def _table() -> dict[str, Callable[[_Walk, ir.Node], None]]:
    rules: dict[str, Callable[[_Walk, ir.Node], None]] = {
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "Gemm": _gemm,
        "MatMul": _matmul,
        "Softmax": _softmax,
        "LogSoftmax": _softmax,
        "Transpose": _transpose,
        "Concat": _concat,
        "Split": _split,
        "Slice": _slice,
        "Pad": _pad,
        "Resize": _resize,
        "DepthToSpace": _depth_to_space,
    }
    unary = "Relu Clip Sigmoid Tanh HardSwish HardSigmoid LeakyRelu Elu Selu Softplus Softsign Gelu Erf Exp Log Neg Abs"
    unary += " Sqrt Reciprocal Identity Cast Dropout Mish Swish Celu ThresholdedRelu Floor Ceil Round Sign"
    rules.update(dict.fromkeys(unary.split(), _unary))
    rules.update(dict.fromkeys(["Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Max", "Min", "Sum", "Mean"], _elementwise))
    pools = "MaxPool AveragePool GlobalAveragePool GlobalMaxPool LpPool GlobalLpPool"
    rules.update(dict.fromkeys([*pools.split(), "InstanceNormalization", "BatchNormalization"], _per_channel))
    rules.update(dict.fromkeys(["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1", "ReduceL2"], _reduce))
    rules.update(dict.fromkeys(["Reshape", "Flatten", "Squeeze", "Unsqueeze"], _reshape))
    return rules


_RULES = _table()

"""How channels pass each operator: the table of rules that `channel_flow.follow_channels` walks by.

A rule reads the labels of its node's inputs, claims the constants that follow them, and labels the outputs. What it
does not understand it freezes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.graph.channel_labels import FROZEN, Role, Walk, input_name
from leanedge.graph.model import attribute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx_ir as ir

    from leanedge.graph.model import Graph

__all__ = ["RULES", "freeze_all", "slice_parameters"]

Array = np.ndarray[Any, Any]


def freeze_all(walk: Walk, node: ir.Node) -> None:
    """Fixes whatever the node reads: it is not known what it does with channels."""
    for name in walk.read_by.get(str(node.name), ()):
        walk.freeze(name, str(node.name), f"no rule says how channels pass {node.op_type}")


def _unary(walk: Walk, node: ir.Node) -> None:
    others = [walk.constant(node, index) for index in range(1, len(node.inputs)) if input_name(node, index)]
    if any(other is None or other.size != 1 for other in others):
        return freeze_all(walk, node)
    found = walk.of(node)
    if found is not None:
        walk.give(node, found.axis, found.labels)
    return None


def _elementwise(walk: Walk, node: ir.Node) -> None:
    made = walk.graph.shape(str(node.outputs[0].name))
    named = [(index, walk.graph.shape(input_name(node, index))) for index in range(len(node.inputs))]
    known = [(index, walk.of(node, index), shape) for index, shape in named if shape is not None]
    # The operand with the most channels leads: one channel may be broadcast over many.
    leader = max(known, key=lambda k: len(k[1].labels) if k[1] is not None else 0, default=None)
    if made is None or leader is None or leader[1] is None or leader[2] is None or len(known) < len(named):
        return freeze_all(walk, node)
    lead, from_end = leader[1], leader[1].axis - len(leader[2])
    axis, size = len(made) + from_end, len(lead.labels)
    if axis < 0 or made[axis] != size:
        return freeze_all(walk, node)
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
            walk.freeze(input_name(node, index), str(node.name), f"{node.op_type} along another axis")
            if width != 1:
                walk.freeze(input_name(node, leader[0]), str(node.name), f"{node.op_type} with what can't be cut")
    walk.give(node, axis, lead.labels)
    return None


def _conv(walk: Walk, node: ir.Node) -> None:
    weight = walk.constant(node, 1)
    if weight is None or (input_name(node, 2) and walk.constant(node, 2) is None):
        return freeze_all(walk, node)
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
    if input_name(node, 2):
        walk.claim(node, 2, 0, leaving, "through")
    walk.give(node, 1, leaving)
    return None


def _conv_transpose(walk: Walk, node: ir.Node) -> None:
    weight = walk.constant(node, 1)
    groups = attribute(node, "group", 1)
    if weight is None or (input_name(node, 2) and walk.constant(node, 2) is None) or groups not in (1, weight.shape[0]):
        return freeze_all(walk, node)
    found = walk.on_axis(node, 1)
    entering = found.labels if found is not None else np.full(weight.shape[0], FROZEN)
    if groups == 1:
        walk.claim(node, 1, 0, entering, "consumer")
        leaving = walk.fresh(weight.shape[1])
        walk.claim(node, 1, 1, leaving, "producer")
    else:
        walk.claim(node, 1, 0, entering, "through")
        leaving = np.repeat(entering, weight.shape[1])
    if input_name(node, 2):
        walk.claim(node, 2, 0, leaving, "through")
    walk.give(node, 1, leaving)
    return None


def _gemm(walk: Walk, node: ir.Node) -> None:
    weight, bias = walk.constant(node, 1), walk.constant(node, 2)
    if weight is None or attribute(node, "transA", 0) or (input_name(node, 2) and bias is None):
        return freeze_all(walk, node)
    across = 1 if attribute(node, "transB", 0) else 0
    _linear(walk, node, across, 1, weight.shape)
    leaving = walk.values[str(node.outputs[0].name)].labels
    if bias is not None and bias.ndim and bias.shape[-1] == len(leaving):
        walk.claim(node, 2, bias.ndim - 1, leaving, "through")
    return None


def _matmul(walk: Walk, node: ir.Node) -> None:
    weight, shape = walk.constant(node, 1), walk.graph.shape(input_name(node, 0))
    if weight is None or weight.ndim != 2 or shape is None or walk.constant(node, 0) is not None:
        return freeze_all(walk, node)
    return _linear(walk, node, 0, len(shape) - 1, weight.shape)


def _linear(walk: Walk, node: ir.Node, across: int, axis: int, shape: tuple[int, ...]) -> None:
    found = walk.on_axis(node, axis)
    entering = found.labels if found is not None else np.full(shape[across], FROZEN)
    walk.claim(node, 1, across, entering, "consumer")
    leaving = walk.fresh(shape[1 - across])
    walk.claim(node, 1, 1 - across, leaving, "producer")
    walk.give(node, axis, leaving)


def _per_channel(walk: Walk, node: ir.Node) -> None:
    """Pools; and normalisations that have a constant for each channel and look at no other channel."""
    found = walk.on_axis(node, 1)
    constants = range(1, len(node.inputs))
    if any(walk.constant(node, index) is None for index in constants) or len(node.outputs) > 1:
        return freeze_all(walk, node)
    if found is not None:
        for index in constants:
            walk.claim(node, index, 0, found.labels, "through")
        walk.give(node, 1, found.labels)
    return None


def _reduce(walk: Walk, node: ir.Node) -> None:
    found, shape = walk.of(node), walk.graph.shape(input_name(node, 0))
    axes = attribute(node, "axes", None)
    if axes is None and input_name(node, 1):
        given = walk.constant(node, 1)
        axes = None if given is None else given.tolist()
    if found is None or shape is None or not axes:
        return freeze_all(walk, node)
    reduced = {axis % len(shape) for axis in axes}
    if found.axis in reduced:
        return freeze_all(walk, node)
    gone = 0 if attribute(node, "keepdims", 1) else sum(axis < found.axis for axis in reduced)
    return walk.give(node, found.axis - gone, found.labels)


def _softmax(walk: Walk, node: ir.Node) -> None:
    found, shape = walk.of(node), walk.graph.shape(input_name(node, 0))
    if (
        found is None
        or shape is None
        or walk.graph.opset < 13
        or attribute(node, "axis", -1) % len(shape) == found.axis
    ):
        return freeze_all(walk, node)
    return walk.give(node, found.axis, found.labels)


def _reshape(walk: Walk, node: ir.Node) -> None:
    found = walk.of(node)
    before, after = walk.graph.shape(input_name(node, 0)), walk.graph.shape(str(node.outputs[0].name))
    if found is None or before is None or after is None:
        return freeze_all(walk, node)
    outer, inner, size = int(np.prod(before[: found.axis])), int(np.prod(before[found.axis + 1 :])), len(found.labels)
    for axis, length in enumerate(after):
        ahead, behind = int(np.prod(after[:axis])), int(np.prod(after[axis + 1 :]))
        if ahead and behind and outer % ahead == 0 and inner % behind == 0:
            tiles, repeats = outer // ahead, inner // behind
            if length == tiles * size * repeats:
                return walk.give(node, axis, np.tile(np.repeat(found.labels, repeats), tiles))
    for first in range(len(after)):
        for end in range(first + 2, len(after) + 1):
            around = int(np.prod(after[:first])), int(np.prod(after[end:]))
            if around == (outer, inner) and int(np.prod(after[first:end])) == size:
                return _unfold(walk, node, found.labels, first, after[first:end])
    return freeze_all(walk, node)


def _unfold(walk: Walk, node: ir.Node, labels: Array, first: int, parts: Sequence[int]) -> None:
    """Channels that become several axes (a channel shuffle): cut along the longest, in all the others at once."""
    longest = int(np.argmax(parts))
    sets = np.moveaxis(labels.reshape(parts), longest, 0).reshape(parts[longest], -1)
    for other in sets.T[1:]:
        walk.merge(sets[:, 0], other)
    walk.give(node, first + longest, sets[:, 0])


def _transpose(walk: Walk, node: ir.Node) -> None:
    found, shape = walk.of(node), walk.graph.shape(input_name(node, 0))
    if found is None or shape is None:
        return freeze_all(walk, node)
    order = list(attribute(node, "perm", range(len(shape))[::-1]))
    return walk.give(node, order.index(found.axis), found.labels)


def _concat(walk: Walk, node: ir.Node) -> None:
    shapes = [walk.graph.shape(input_name(node, index)) for index in range(len(node.inputs))]
    parts = [walk.of(node, index) for index in range(len(node.inputs))]
    axes = {part.axis for part in parts if part is not None}
    if any(shape is None for shape in shapes) or len(axes) != 1:
        return freeze_all(walk, node)
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


def _split(walk: Walk, node: ir.Node) -> None:
    found, shape = walk.of(node), walk.graph.shape(input_name(node, 0))
    shapes = [walk.graph.shape(str(output.name)) for output in node.outputs]
    if (
        found is None
        or shape is None
        or (input_name(node, 1) and walk.constant(node, 1) is None)
        or walk.graph.opset < 13
    ):
        return freeze_all(walk, node)
    along, start = attribute(node, "axis", 0) % len(shape), 0
    for index, part in enumerate(shapes):
        if part is None:
            return freeze_all(walk, node)
        end = start + part[along]
        walk.give(node, found.axis, found.labels[start:end] if along == found.axis else found.labels, index)
        start = end
    return None


def _slice(walk: Walk, node: ir.Node) -> None:
    found, shape = walk.of(node), walk.graph.shape(input_name(node, 0))
    parameters = [walk.constant(node, index) for index in range(1, len(node.inputs)) if input_name(node, index)]
    if found is None or shape is None or len(parameters) < 2 or any(array is None for array in parameters):
        return freeze_all(walk, node)
    starts, ends, axes, steps = slice_parameters(walk.graph, node, len(shape))
    labels = found.labels
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis == found.axis:
            if step != 1:
                return freeze_all(walk, node)
            labels = labels[slice(start, end)]
    return walk.give(node, found.axis, labels)


def slice_parameters(graph: Graph, node: ir.Node, rank: int) -> tuple[list[int], list[int], list[int], list[int]]:
    """(starts, ends, axes not below 0, steps) of a Slice whose parameters are constants."""
    starts, ends = (graph.constants[input_name(node, index)].tolist() for index in (1, 2))
    axes = graph.constants[input_name(node, 3)].tolist() if input_name(node, 3) else list(range(len(starts)))
    steps = graph.constants[input_name(node, 4)].tolist() if input_name(node, 4) else [1] * len(starts)
    return starts, ends, [axis % rank for axis in axes], steps


def _pad(walk: Walk, node: ir.Node) -> None:
    found, amounts = walk.of(node), walk.constant(node, 1)
    if (
        found is None
        or amounts is None
        or input_name(node, 3)
        or (input_name(node, 2) and walk.constant(node, 2) is None)
    ):
        return freeze_all(walk, node)
    before, after = int(amounts[found.axis]), int(amounts[found.axis + len(amounts) // 2])
    if min(before, after) < 0 or (before + after and attribute(node, "mode", "constant") != "constant"):
        return freeze_all(walk, node)
    parts: Sequence[Array] = [np.full(before, FROZEN), found.labels, np.full(after, FROZEN)]
    return walk.give(node, found.axis, np.concatenate(parts))


def _resize(walk: Walk, node: ir.Node) -> None:
    found, after = walk.of(node), walk.graph.shape(str(node.outputs[0].name))
    constants = all(
        walk.constant(node, index) is not None for index in range(1, len(node.inputs)) if input_name(node, index)
    )
    if found is None or after is None or not constants or attribute(node, "axes", None) is not None:
        return freeze_all(walk, node)
    if after[found.axis] != len(found.labels):
        return freeze_all(walk, node)
    return walk.give(node, found.axis, found.labels)


def _depth_to_space(walk: Walk, node: ir.Node) -> None:
    found, block = walk.on_axis(node, 1), attribute(node, "blocksize", 1)
    if found is None:
        return freeze_all(walk, node)
    if attribute(node, "mode", "DCR") == "DCR":
        sets = found.labels.reshape(block * block, -1)
    else:
        sets = found.labels.reshape(-1, block * block).T
    for other in sets[1:]:
        walk.merge(sets[0], other)
    return walk.give(node, 1, sets[0])


def _table() -> dict[str, Callable[[Walk, ir.Node], None]]:
    rules: dict[str, Callable[[Walk, ir.Node], None]] = {
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


RULES: Mapping[str, Callable[[Walk, ir.Node], None]] = _table()
"""ONNX operator -> its rule; without one: `freeze_all`."""

"""Lowering of what only moves numbers: reshape, transpose, concat, split, slice, pad, gather."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.graph.model import attribute
from leanedge.program.arrangement import Arrangement, like, same_order
from leanedge.program.layouts import chosen_along_axis
from leanedge.program.types import (
    ConcatenationOptions,
    GatherOptions,
    PadOptions,
    SplitOptions,
    StridedSliceOptions,
)

if TYPE_CHECKING:
    import onnx_ir as ir

    from leanedge.graph.operators import Operator
    from leanedge.program.builder import Builder

__all__ = [
    "constant_input",
    "lower_concat",
    "lower_gather",
    "lower_pad",
    "lower_reshape",
    "lower_slice",
    "lower_split",
    "lower_transpose",
]

Array = np.ndarray[Any, Any]


def lower_reshape(builder: Builder, operator: Operator) -> None:
    """Reshape, Flatten, Squeeze, Unsqueeze: by the inferred shape; nothing where the memory stays as it is."""
    before, after = operator.inputs[0], operator.output
    tensor = builder.read(before)
    source, target = builder.layout(before), builder.layout(after)
    shapes = builder.shape(before), builder.shape(after)
    if same_order(source, shapes[0], target, shapes[1]):
        builder.emit("reshape", [tensor], [builder.write(after)])
        return
    plain = builder.read(before, Arrangement.same(shapes[0]))
    output, finish = builder.write_as(after, Arrangement.same(shapes[1]))
    builder.emit("reshape", [plain], [output])
    finish()


def lower_transpose(builder: Builder, operator: Operator) -> None:
    """Transpose: often only another name for what already lies so."""
    before, after = operator.inputs[0], operator.output
    shape = builder.shape(before)
    permutation = attribute(builder.graph.node_by_name[operator.id], "perm", None) or range(len(shape))[::-1]
    wanted = builder.layout(after)
    if len(wanted.order) != len(shape):
        raise ValueError(f"{after} is flattened and transposed")
    as_input = Arrangement(shape, tuple(int(permutation[axis]) for axis in wanted.order), wanted.shape)
    tensor = builder.read(before)
    builder.move(after, tensor, builder.layout(before), shape, as_input, builder.write(after))


def lower_concat(builder: Builder, operator: Operator) -> None:
    """Concat; constants among its inputs lie as the others do."""
    node = builder.graph.node_by_name[operator.id]
    layout = builder.layout(operator.output)
    axis = int(attribute(node, "axis", 0)) % len(builder.shape(operator.output))
    tensors = []
    for value in node.inputs:
        name = str(value.name) if value is not None else ""
        shape = builder.shape(name)
        tensors.append(builder.read(name, like(layout, shape)))
    builder.emit("concatenation", tensors, [builder.write(operator.output)], ConcatenationOptions(layout.axis(axis)))


def lower_split(builder: Builder, operator: Operator) -> None:
    """Split: one operator where the parts are equal, else a slice for each."""
    node = builder.graph.node_by_name[operator.id]
    value = operator.inputs[0]
    layout = builder.layout(value)
    axis = layout.axis(int(attribute(node, "axis", 0)) % len(builder.shape(value)))
    tensor = builder.read(value)
    sizes = [like(layout, builder.shape(name)).shape[axis] for name in operator.outputs]
    whole = len(operator.outputs) == len(node.outputs) and sum(sizes) == layout.shape[axis]
    outputs = [builder.write_as(name, like(layout, builder.shape(name))) for name in operator.outputs]
    if whole and len(set(sizes)) == 1:
        builder.emit("split", [tensor], [name for name, _ in outputs], SplitOptions(axis))
    elif whole:
        start = 0
        for (name, _), size in zip(outputs, sizes, strict=True):
            begin, end = [0] * len(layout.shape), list(layout.shape)
            begin[axis], end[axis] = start, start + size
            start += size
            options = StridedSliceOptions(tuple(begin), tuple(end), (1,) * len(begin))
            builder.emit("strided_slice", [tensor], [name], options)
    else:
        raise builder.unsupported(operator, "an output of the Split is not named", "all outputs named")
    for _, finish in outputs:
        finish()


def constant_input(builder: Builder, operator: Operator, node: ir.Node, index: int, what: str) -> Array | None:
    """The constant at an input, None where it is absent; refuses one that is computed."""
    value = node.inputs[index] if len(node.inputs) > index else None
    if value is None or not value.name:
        return None
    if str(value.name) not in builder.graph.constants:
        raise builder.unsupported(operator, f"its {what} are computed", f"constant {what}")
    return builder.graph.constants[str(value.name)]


def lower_slice(builder: Builder, operator: Operator) -> None:
    """Slice with constant bounds; negative steps too."""
    node = builder.graph.node_by_name[operator.id]
    value = operator.inputs[0]
    shape, layout = builder.shape(value), builder.layout(value)
    starts, ends = (constant_input(builder, operator, node, index, "bounds") for index in (1, 2))
    if starts is None or ends is None:
        raise builder.unsupported(operator, "its bounds are missing", "constant bounds")
    given = constant_input(builder, operator, node, 3, "axes")
    axes = range(len(starts)) if given is None else [int(axis) % len(shape) for axis in given]
    given = constant_input(builder, operator, node, 4, "steps")
    steps = [1] * len(starts) if given is None else [int(step) for step in given]
    begin, end, strides = [0] * len(layout.shape), list(layout.shape), [1] * len(layout.shape)
    for axis, start, stop, step in zip(axes, starts.tolist(), ends.tolist(), steps, strict=True):
        place = layout.axis(axis)
        begin[place], end[place], strides[place] = slice(start, stop, step).indices(shape[axis])
    options = StridedSliceOptions(tuple(begin), tuple(end), tuple(strides))
    builder.emit("strided_slice", [builder.read(value)], [builder.write(operator.output)], options)


def lower_pad(builder: Builder, operator: Operator) -> None:
    """Pad with a constant, or by reflection."""
    node = builder.graph.node_by_name[operator.id]
    value = operator.inputs[0]
    shape, layout = builder.shape(value), builder.layout(value)
    mode = attribute(node, "mode", "constant")
    if mode not in ("constant", "reflect"):
        raise builder.unsupported(operator, f"mode {mode!r}", "mode constant or reflect")
    amounts = constant_input(builder, operator, node, 1, "pads")
    fill = constant_input(builder, operator, node, 2, "pad values")
    given = constant_input(builder, operator, node, 3, "axes")
    axes = range(len(shape)) if given is None else [int(axis) % len(shape) for axis in given]
    if amounts is None or (amounts < 0).any():
        raise builder.unsupported(operator, "pads are missing or negative", "constant pads, not negative")
    pads = [(0, 0)] * len(layout.shape)
    for index, axis in enumerate(axes):
        pads[layout.axis(axis)] = int(amounts[index]), int(amounts[index + len(axes)])
    number = 0.0 if fill is None or not fill.size else float(fill.reshape(()))
    options = PadOptions(tuple(pads), number if np.isfinite(number) else None, mode)
    if number == np.inf:
        raise builder.unsupported(operator, "it pads with infinity", "a finite value")
    builder.emit("pad", [builder.read(value)], [builder.write(operator.output)], options)


def lower_gather(builder: Builder, operator: Operator) -> None:
    """Gather: rows of a table by computed indices, or a constant choice along an axis."""
    node = builder.graph.node_by_name[operator.id]
    data, indices = (str(value.name) for value in node.inputs if value is not None)
    shape = builder.shape(data)
    axis = int(attribute(node, "axis", 0)) % len(shape)
    if indices in builder.graph.constants:
        chosen = builder.graph.constants[indices]
        chosen = np.where(chosen < 0, chosen + shape[axis], chosen).astype(np.int32)
        index = builder.made_up(f"{operator.output}.indices", chosen, "index")
    else:
        index = builder.read(indices, Arrangement.same(builder.shape(indices)))
    layout = builder.layout(data) if data not in builder.graph.constants else Arrangement.same(shape)
    if chosen_along_axis(builder.graph, operator) is None or (layout.moves and len(layout.shape) == 2):
        layout = Arrangement.same(shape)
    axis = layout.axis(axis)
    source = builder.read(data, layout)
    result = builder.shape(operator.output)
    target = like(layout, result) if len(result) == len(shape) else Arrangement.same(result)
    output, finish = builder.write_as(operator.output, target)
    builder.emit("gather", [source, index], [output], GatherOptions(axis))
    finish()

"""Exact rewrites that give one thing one form: what a training framework spelled out becomes the operator it is.

    x * clip(x + 3, 0, 6) / 6          HardSwish(x)
    Conv -> Mul(constant) -> Add       Conv
    Mul, Add, Mul, Add (constants)     Mul, Add
    Pad(zeros) -> Conv                 Conv
    Sum(x, y)                          Add(x, y)

Each holds in exact arithmetic; in float32 results move by a few units in the last place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from leanedge.graph.model import attribute

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["fill_constants", "simplify"]

Array = np.ndarray[Any, Any]

LARGEST_FILL = 1 << 26
"""Elements of a ConstantOfShape that is worth storing."""

_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def simplify(model: ir.Model) -> None:
    """Applies every rewrite in place until none fits any more."""
    named: list[Callable[[ir.Model, ir.Node], bool]] = [_sum, _hard_sigmoid]
    if model.opset_imports.get("", 0) >= 14:
        named.append(_hard_swish)
    _apply(model, named)  # first: folding would take the +3 out of a hard-sigmoid
    _apply(model, [_affine_into_layer, _merge_affine, _pad_into_conv])


def _apply(model: ir.Model, rules: Sequence[Callable[[ir.Model, ir.Node], bool]]) -> None:
    changed = True
    while changed:
        changed = False
        for node in tuple(model.graph):
            if node.graph is not None and node.domain in ("", "ai.onnx"):
                changed = any(rule(model, node) for rule in rules) or changed
        passes.RemoveUnusedNodesPass()(model)


def fill_constants(model: ir.Model) -> bool:
    """Stores what every ConstantOfShape of a known shape makes; True when there was one."""
    found = False
    for node in tuple(model.graph):
        shape = constant_of(node.inputs[0]) if node.op_type == "ConstantOfShape" and not node.domain else None
        if shape is None or np.prod(shape) > LARGEST_FILL or node.outputs[0] in model.graph.outputs:
            continue
        fill = node.attributes["value"].value.numpy() if "value" in node.attributes else np.zeros(1, np.float32)
        made = node.outputs[0]
        value = add_constant(model, str(made.name) + ".filled", np.full(shape, fill.reshape(())[()], fill.dtype))
        for use in tuple(made.uses()):
            use.node.replace_input_with(use.idx, value)
        model.graph.remove(node, safe=True)
        found = True
    return found


def constant_of(value: ir.Value | None) -> Array | None:
    """The array behind a value that is a constant."""
    return None if value is None or value.const_value is None else np.array(value.const_value.numpy())


def add_constant(model: ir.Model, name: str, array: Array) -> ir.Value:
    """Registers an initializer under `name`, or under the nearest name that is free."""
    while name in model.graph.initializers:
        name += "_"
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.from_numpy(array.dtype)))
    value.const_value = ir.tensor(np.array(array, order="C"), name=name)
    model.graph.register_initializer(value)
    return value


def replace_node(model: ir.Model, old: ir.Node, new: ir.Node) -> None:
    """Puts `new` (one output) in the place of `old`, keeping the value's name, type and role as an output."""
    before, after = old.outputs[0], new.outputs[0]
    after.shape, after.type = before.shape, before.type
    name = before.name
    model.graph.insert_before(old, new)
    for use in tuple(before.uses()):
        use.node.replace_input_with(use.idx, after)
    for index, output in enumerate(model.graph.outputs):
        if output is before:
            model.graph.outputs[index] = after
    model.graph.remove(old, safe=True)
    after.name = name


def _only_use(model: ir.Model, value: ir.Value | None) -> ir.Node | None:
    """The node that makes a value which nothing but one node reads."""
    if value is None or value.producer() is None or len(value.uses()) != 1 or value in model.graph.outputs:
        return None
    return value.producer()


def _operand(node: ir.Node) -> tuple[ir.Value, Array, bool] | None:
    """(the computed operand, the constant one, True when the constant is the second) of a two-operand node."""
    first, second = node.inputs[0], node.inputs[1]
    left, right = constant_of(first), constant_of(second)
    if (left is None) == (right is None):
        return None
    if right is not None and first is not None:
        return first, right, True
    return (second, left, False) if left is not None and second is not None else None


def _affine(node: ir.Node) -> tuple[ir.Value, Array, Array] | None:
    """(x, a, b) with ``node = x * a + b``, for Mul, Div, Add and Sub of a float constant; a and b in float64."""
    operand = _operand(node) if node.op_type in ("Mul", "Div", "Add", "Sub") else None
    if operand is None or operand[1].dtype not in (np.float32, np.float64):
        return None
    value, constant, second = operand[0], operand[1].astype(np.float64), operand[2]
    if not np.isfinite(constant).all():
        return None
    one, zero = np.ones_like(constant), np.zeros_like(constant)
    if node.op_type == "Add":
        return value, one, constant
    if node.op_type == "Sub":
        return (value, one, -constant) if second else (value, -one, constant)
    if node.op_type == "Mul":
        return value, constant, zero
    return (value, 1 / constant, zero) if second and constant.all() else None


def _per_channel(array: Array, rank: int, axis: int, channels: int) -> Array | None:
    """`array` as (channels,) when it broadcasts against a tensor of that rank along its channel axis alone."""
    if array.ndim > rank:
        return None
    full: Array = array.reshape([1] * (rank - array.ndim) + list(array.shape))
    if array.size != full.shape[axis]:
        return None
    return np.broadcast_to(full.reshape(-1), (channels,)) if full.shape[axis] in (1, channels) else None


def _affine_into_layer(model: ir.Model, node: ir.Node) -> bool:
    """Multiplication by and addition of channel constants, into the layer that alone feeds them."""
    found = _affine(node)
    layer = _only_use(model, found[0]) if found else None
    if found is None or layer is None or layer.op_type not in _WEIGHTED or layer.domain:
        return False
    shape = found[0].shape
    weight = constant_of(layer.inputs[1])
    bias_value = layer.inputs[2] if len(layer.inputs) > 2 else None
    bias = constant_of(bias_value)
    if weight is None or shape is None or (bias_value is not None and bias is None):
        return False
    rank = len(shape)
    axis = 1 if layer.op_type in ("Conv", "ConvTranspose") else rank - 1
    if layer.op_type == "ConvTranspose" and attribute(layer, "group", 1) != 1:
        return False
    if layer.op_type == "Gemm" and not (attribute(layer, "alpha", 1.0) == 1.0 == attribute(layer, "beta", 1.0)):
        return False
    if layer.op_type == "MatMul" and (weight.ndim != 2 or found[2].any()):
        return False  # its Add is the bias, and stays
    if layer.op_type == "Gemm" and bias is not None and bias.ndim != 1:
        return False
    channel_axis = 0 if layer.op_type == "Conv" or attribute(layer, "transB", 0) else 1
    channels = weight.shape[channel_axis]
    scale, shift = (_per_channel(array, rank, axis, channels) for array in found[1:])
    if scale is None or shift is None:
        return False
    spread = [1] * weight.ndim
    spread[channel_axis] = -1
    name = str(layer.name or found[0].name)
    inputs = [
        layer.inputs[0],
        add_constant(model, f"{name}.weight.folded", (weight * scale.reshape(spread)).astype(weight.dtype)),
    ]
    if layer.op_type != "MatMul":
        new_bias = (np.zeros(channels) if bias is None else np.broadcast_to(bias, (channels,))) * scale + shift
        inputs.append(add_constant(model, f"{name}.bias.folded", new_bias.astype(weight.dtype)))
    replace_node(model, node, ir.node(layer.op_type, inputs, dict(layer.attributes), name=layer.name))
    model.graph.remove(layer, safe=True)
    return True


def _merge_affine(model: ir.Model, node: ir.Node) -> bool:
    """Two affine steps in a row into one: at most a Mul, then an Add."""
    second = _affine(node)
    before = _only_use(model, second[0]) if second else None
    first = _affine(before) if before is not None and not before.domain else None
    if second is None or before is None or first is None:
        return False
    if (before.op_type, node.op_type) == ("Mul", "Add"):
        return False  # the form that is wanted
    scale = first[1] * second[1]
    shift = first[2] * second[1] + second[2]
    # An outer product of two constants would store more than it saves.
    if max(scale.size, shift.size) > max(first[1].size, second[1].size) or not np.isfinite([scale, shift]).all():
        return False
    made = first[0]
    kind = made.dtype.numpy() if made.dtype is not None else np.dtype(np.float32)
    name = str(node.name or node.outputs[0].name)
    steps = [("Mul", scale)] * bool((scale != 1).any()) + [("Add", shift)] * bool(shift.any()) or [("Mul", scale)]
    nodes = []
    for op, constant in steps:
        step = ir.node(
            op,
            [made, add_constant(model, f"{name}.{op.lower()}.constant", constant.astype(kind))],
            name=name if op == steps[-1][0] else f"{name}.{op.lower()}",
        )
        step.outputs[0].shape, step.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
        nodes.append(step)
        made = step.outputs[0]
    for step in nodes[:-1]:
        model.graph.insert_before(node, step)
    replace_node(model, node, nodes[-1])
    model.graph.remove(before, safe=True)
    return True


def _sum(model: ir.Model, node: ir.Node) -> bool:
    if node.op_type != "Sum" or len(node.inputs) != 2:
        return False
    replace_node(model, node, ir.node("Add", list(node.inputs), name=node.name))
    return True


def _pad_into_conv(model: ir.Model, node: ir.Node) -> bool:
    """Zero padding of the spatial axes, into the convolution's own padding."""
    pad = _only_use(model, node.inputs[0]) if node.op_type == "Conv" and node.inputs else None
    if pad is None or pad.op_type != "Pad" or pad.domain or attribute(pad, "mode", "constant") != "constant":
        return False
    amounts = constant_of(pad.inputs[1]) if len(pad.inputs) > 1 else None
    fill = constant_of(pad.inputs[2]) if len(pad.inputs) > 2 and pad.inputs[2] is not None else np.zeros(())
    axes = len(pad.inputs) > 3 and pad.inputs[3] is not None
    if amounts is None or fill is None or fill.any() or axes or (amounts < 0).any() or pad.inputs[0] is None:
        return False
    rank = len(amounts) // 2
    begin, end = amounts[:rank], amounts[rank:]
    own: Sequence[int] = attribute(node, "pads", [0] * 2 * (rank - 2))
    automatic = attribute(node, "auto_pad", "NOTSET")
    if begin[:2].any() or end[:2].any() or automatic not in ("NOTSET", "VALID"):
        return False
    merged = [int(a + b) for a, b in zip((*begin[2:], *end[2:]), own, strict=True)]
    attributes = {key: value for key, value in node.attributes.items() if key not in ("pads", "auto_pad")}
    attributes["pads"] = ir.AttrInt64s("pads", merged)
    replace_node(model, node, ir.node("Conv", [pad.inputs[0], *node.inputs[1:]], attributes, name=node.name))
    model.graph.remove(pad, safe=True)
    return True


def _scalar(node: ir.Node, op: str, value: float) -> ir.Value | None:
    """The computed operand of `op` with that scalar constant (Add and Mul in either order)."""
    operand = _operand(node) if node.op_type == op else None
    if operand is None or operand[1].size != 1 or (op == "Div" and not operand[2]):
        return None
    if operand[0].shape is None or operand[1].ndim > len(operand[0].shape):
        return None
    return operand[0] if np.isclose(float(operand[1].reshape(())), value, rtol=1e-6, atol=0) else None


def _clip_of_shifted(model: ir.Model, value: ir.Value | None) -> ir.Value | None:
    """The x of ``Clip(x + 3, 0, 6)``, which nothing else reads."""
    clip = _only_use(model, value)
    if clip is None or clip.op_type != "Clip" or len(clip.inputs) != 3:
        return None
    low, high = constant_of(clip.inputs[1]), constant_of(clip.inputs[2])
    if low is None or high is None or float(low.reshape(())) != 0.0 or float(high.reshape(())) != 6.0:
        return None
    add = _only_use(model, clip.inputs[0])
    return _scalar(add, "Add", 3.0) if add is not None else None


def _hard_sigmoid(model: ir.Model, node: ir.Node) -> bool:
    """``Clip(x + 3, 0, 6) / 6``, and ``x * Clip(x + 3, 0, 6) / 6`` brought to ``x * HardSigmoid(x)``."""
    scaled = _scalar(node, "Div", 6.0) or _scalar(node, "Mul", 1 / 6)
    if scaled is None:
        return False
    source, factor = _clip_of_shifted(model, scaled), None
    if source is None:
        product = _only_use(model, scaled)
        if product is None or product.op_type != "Mul":
            return False
        for clip, other in (product.inputs[:2], product.inputs[1::-1]):
            source, factor = _clip_of_shifted(model, clip), other
            if source is not None:
                break
    if source is None:
        return False
    attributes = {"alpha": ir.AttrFloat32("alpha", 1 / 6), "beta": ir.AttrFloat32("beta", 0.5)}
    gate = ir.node("HardSigmoid", [source], attributes, name=f"{node.name or node.outputs[0].name}.gate")
    if factor is None:
        gate.name = node.name
        replace_node(model, node, gate)
        return True
    gate.outputs[0].shape, gate.outputs[0].type = source.shape, source.type
    model.graph.insert_before(node, gate)
    replace_node(model, node, ir.node("Mul", [factor, gate.outputs[0]], name=node.name))
    return True


def _hard_swish(model: ir.Model, node: ir.Node) -> bool:
    """``x * HardSigmoid(x)`` with slope 1/6 and offset 1/2 (ONNX HardSwish, opset 14)."""
    if node.op_type != "Mul":
        return False
    for gate_value, source in (node.inputs[:2], node.inputs[1::-1]):
        gate = _only_use(model, gate_value)
        if (
            gate is not None
            and gate.op_type == "HardSigmoid"
            and gate.inputs[0] is source
            and np.isclose(attribute(gate, "alpha", 0.2), 1 / 6, rtol=1e-4)
            and attribute(gate, "beta", 0.5) == 0.5
        ):
            replace_node(model, node, ir.node("HardSwish", [source], name=node.name))
            model.graph.remove(gate, safe=True)
            return True
    return False

"""From any ONNX model to a Graph: static shapes, batch 1, constants and batch norm folded, one name a node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
import onnxscript.optimizer

from leanedge.errors import ModelError, UnsupportedOperator, nearest
from leanedge.graph.model import Graph, attribute
from leanedge.graph.shapes import infer_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OPSET", "canonicalise"]

OPSET = 17
"""Older models are brought up to this operator set; newer ones keep theirs."""

Array = np.ndarray[Any, Any]


def canonicalise(
    model: onnx.ModelProto, where: str, input_shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Graph:
    """Makes a Graph of a checked ONNX model.

    Args:
        model: Not changed.
        where: File or module, for messages.
        input_shapes: Static shapes that fix dynamic axes other than batch: input -> whole shape, or the shape
            without the batch axis.

    Raises:
        ModelError: A dynamic axis is left, a weight is NaN or infinite, shapes contradict each other.
        UnsupportedOperator: ONNX Runtime can't run a node.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model)
    _fix_dynamic_axes(proto, where, input_shapes or {})
    proto = _upgrade(proto)
    del proto.graph.value_info[:]  # stale shapes of the dynamic model would contradict the static ones
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    proto.ClearField("metadata_props")
    loaded = ir.from_proto(proto)
    loaded = ir.passes.Sequential(
        passes.InlinePass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.RemoveInitializersFromInputsPass(),
        passes.IdentityEliminationPass(),
    )(loaded).model
    loaded = infer_shapes(loaded)
    onnxscript.optimizer.optimize_ir(loaded, input_size_limit=1 << 22, output_size_limit=1 << 24)
    _remove_dropout(loaded)
    _fold_batch_norm(loaded)
    _give_each_use_its_weight(loaded)
    loaded = ir.passes.Sequential(
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.IdentityEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.TopologicalSortPass(),
        passes.ClearMetadataAndDocStringPass(),
    )(loaded).model
    _name_nodes(loaded)
    loaded.producer_name, loaded.producer_version = "leanedge", ""
    graph = Graph(infer_shapes(loaded))
    _check_constants(graph, where)
    _check_runs(graph, where)
    return graph


def _fix_dynamic_axes(proto: onnx.ModelProto, where: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    for name in shapes:
        if name not in {value.name for value in inputs}:
            raise ModelError(
                f"inputs.{name}: the model has no such input",
                where=where,
                allowed=", ".join(value.name for value in inputs),
                hint=nearest(name, [value.name for value in inputs]),
            )
    # The batch axis: the symbol that stands first in the inputs. It is 1 wherever it stands.
    batch = {v.type.tensor_type.shape.dim[0].dim_param for v in inputs if v.type.tensor_type.shape.dim} - {""}
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        given = shapes.get(value.name)
        if given is not None and len(given) == len(dims) - 1:
            given = (1, *given)
        if given is not None and len(given) != len(dims):
            raise ModelError(
                f"inputs.{value.name}.shape has {len(given)} axes, the model's input {len(dims)}", where=where
            )
        for axis, dim in enumerate(dims):
            if given is not None:
                if dim.HasField("dim_value") and dim.dim_value > 0 and dim.dim_value != given[axis]:
                    raise ModelError(
                        f"inputs.{value.name}.shape says {given[axis]} on axis {axis}, the model {dim.dim_value}",
                        where=where,
                    )
                dim.dim_value = given[axis]
            elif not dim.HasField("dim_value") or dim.dim_value <= 0:
                if axis == 0 or dim.dim_param in batch:
                    dim.dim_value = 1
                    continue
                raise ModelError(
                    f"input {value.name} has a dynamic axis {axis} ({dim.dim_param or 'unnamed'})",
                    where=where,
                    allowed="static shapes (a dynamic batch axis is taken as 1)",
                    hint=f"fix it in leanedge.yaml:  inputs: {{{value.name}: {{shape: [...]}}}}",
                )


def _upgrade(proto: onnx.ModelProto) -> onnx.ModelProto:
    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), OPSET)
    if opset >= OPSET:
        return proto
    try:
        return onnx.version_converter.convert_version(proto, OPSET)
    except (RuntimeError, ValueError):
        # ONNX Runtime still runs the old operator set; what LeanEdge does not understand of it stays in float.
        return proto


def _remove_dropout(model: ir.Model) -> None:
    for node in tuple(model.graph):
        if node.op_type == "Dropout" and not node.domain:
            source, made = node.inputs[0], node.outputs[0]
            if source is None or made in model.graph.outputs:
                continue
            for use in tuple(made.uses()):
                use.node.replace_input_with(use.idx, source)
            model.graph.remove(node, safe=True)


def _constant(value: ir.Value | None) -> Array | None:
    return None if value is None or value.const_value is None else np.array(value.const_value.numpy())


def _fold_batch_norm(model: ir.Model) -> None:
    """Batch norm into the convolution, or linear layer, that alone feeds it; a lone one becomes Mul and Add."""
    for node in tuple(model.graph):
        if node.op_type != "BatchNormalization" or node.domain or attribute(node, "training_mode", 0):
            continue
        values = [_constant(value) for value in node.inputs[1:5]]
        source = node.inputs[0]
        if any(value is None for value in values) or source is None or source.shape is None:
            continue
        gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in values)
        scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        shift = beta - mean * scale
        if not _fold_into_producer(model, node, source, scale, shift):
            _batch_norm_as_multiply(model, node, source, scale, shift)


def _fold_into_producer(model: ir.Model, node: ir.Node, source: ir.Value, scale: Array, shift: Array) -> bool:
    producer = source.producer()
    if producer is None or producer.op_type not in ("Conv", "ConvTranspose", "Gemm") or len(source.uses()) != 1:
        return False
    weight, bias = _constant(producer.inputs[1]), _constant(producer.inputs[2] if len(producer.inputs) > 2 else None)
    if weight is None or (bias is None and len(producer.inputs) > 2 and producer.inputs[2] is not None):
        return False
    if source in model.graph.outputs:
        return False
    if producer.op_type == "Conv":
        folded = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
    elif producer.op_type == "ConvTranspose":
        if attribute(producer, "group", 1) != 1:
            return False
        folded = weight * scale.reshape(1, -1, *[1] * (weight.ndim - 2))
    elif attribute(producer, "alpha", 1.0) == 1.0 and attribute(producer, "beta", 1.0) == 1.0:
        folded = weight * (scale[:, None] if attribute(producer, "transB", 0) else scale[None, :])
    else:
        return False
    new_bias = shift + (np.asarray(bias, np.float64) * scale if bias is not None else 0.0)
    name = str(producer.name or source.name)
    inputs = [
        producer.inputs[0],
        _add_constant(model, f"{name}.weight.folded", folded.astype(weight.dtype)),
        _add_constant(model, f"{name}.bias.folded", new_bias.astype(weight.dtype)),
    ]
    merged = ir.node(producer.op_type, inputs=inputs, attributes=dict(producer.attributes), name=producer.name)
    _replace(model, node, merged)
    model.graph.remove(producer, safe=True)
    return True


def _batch_norm_as_multiply(model: ir.Model, node: ir.Node, source: ir.Value, scale: Array, shift: Array) -> None:
    rank = len(source.shape or ())
    shape = (-1, *[1] * (rank - 2)) if rank > 1 else (-1,)
    dtype = source.dtype.numpy() if source.dtype is not None else np.dtype(np.float32)
    name = str(node.name or node.outputs[0].name)
    factor = _add_constant(model, f"{name}.scale", scale.reshape(shape).astype(dtype))
    offset = _add_constant(model, f"{name}.shift", shift.reshape(shape).astype(dtype))
    multiply = ir.node("Mul", inputs=[source, factor], name=f"{name}.mul")
    model.graph.insert_before(node, multiply)
    _replace(model, node, ir.node("Add", inputs=[multiply.outputs[0], offset], name=name))


def _add_constant(model: ir.Model, name: str, array: Array) -> ir.Value:
    while name in model.graph.initializers:
        name += "_"
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.from_numpy(array.dtype)))
    value.const_value = ir.tensor(np.ascontiguousarray(array), name=name)
    model.graph.register_initializer(value)
    return value


def _replace(model: ir.Model, old: ir.Node, new: ir.Node) -> None:
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


def _give_each_use_its_weight(model: ir.Model) -> None:
    """A float weight read by several nodes is copied for each, so that a step may change one layer alone."""
    for name, value in tuple(model.graph.initializers.items()):
        uses = [use for use in value.uses() if use.node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")]
        if len(value.uses()) < 2 or value.dtype != ir.DataType.FLOAT:
            continue
        array = _constant(value)
        if array is None:
            continue
        for number, use in enumerate(uses[1:], 2):
            use.node.replace_input_with(use.idx, _add_constant(model, f"{name}.use{number}", array))


def _name_nodes(model: ir.Model) -> None:
    """Node names are ids everywhere after this: unique, and taken from the output where the file gave none."""
    seen: set[str] = set()
    for node in model.graph:
        base = node.name or f"{node.op_type}:{node.outputs[0].name}"
        name, number = base, 2
        while name in seen:
            name, number = f"{base}#{number}", number + 1
        node.name = name
        seen.add(name)


def _check_constants(graph: Graph, where: str) -> None:
    for name, array in graph.constants.items():
        if array.dtype.kind == "f" and array.size and np.isnan(array).any():
            users = ", ".join(str(node.name) for node in graph.consumers.get(name, ())) or "no node"
            raise ModelError(
                f"weight {name} of {users} holds {int(np.isnan(array).sum())} NaN values of {array.size}",
                where=where,
                hint="the training diverged or the file is damaged: export a good checkpoint",
            )


def _check_runs(graph: Graph, where: str) -> None:
    """ONNX Runtime is the reference of every step: what it can't open, LeanEdge can't judge."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        ort.InferenceSession(graph.bytes, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ORT raises a family of types without a public base; the message names the node
        reason = str(error).strip().splitlines()[0]
        raise UnsupportedOperator(
            f"ONNX Runtime can't run it: {reason}",
            where=where,
            allowed="operators of the ONNX standard sets and com.microsoft that ONNX Runtime has on CPU",
            hint="replace the named operator in the model, or export with another opset_version",
        ) from error

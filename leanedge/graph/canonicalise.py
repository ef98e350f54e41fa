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
from leanedge.graph.patterns import add_constant, constant_of, fill_constants, replace_node, simplify
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
    )(loaded).model
    loaded = infer_shapes(loaded)
    while True:
        onnxscript.optimizer.optimize_ir(loaded, input_size_limit=1 << 22, output_size_limit=1 << 24)
        if not fill_constants(loaded):
            break
    _remove_copies(loaded)
    _spell_out_batch_norm(loaded)
    simplify(loaded)
    _give_each_use_its_weight(loaded)
    loaded = ir.passes.Sequential(
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
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
    batch |= {"N", "batch", "batch_size"}  # time-major models have it second
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


def _remove_copies(model: ir.Model) -> None:
    """Removes Identity, and Dropout (which copies at inference), from the main graph.

    Not where the copy is a model output: outputs keep their names. Not onnx_ir's own pass, which fails on a nested
    graph that gives back a value of an outer one.
    """
    for node in tuple(model.graph):
        if node.op_type not in ("Identity", "Dropout") or node.domain not in ("", "ai.onnx"):
            continue
        source, made = node.inputs[0], node.outputs[0]
        if source is None or made in model.graph.outputs or any(value.uses() for value in node.outputs[1:]):
            continue
        if any(made in graph.outputs for graph in model.graph.subgraphs()):
            continue
        for use in tuple(made.uses()):
            use.node.replace_input_with(use.idx, source)
        model.graph.remove(node, safe=True)


def _spell_out_batch_norm(model: ir.Model) -> None:
    """Batch norm as Mul and Add, which `patterns.simplify` folds into the layer that feeds them."""
    for node in tuple(model.graph):
        if node.op_type != "BatchNormalization" or node.domain or attribute(node, "training_mode", 0):
            continue
        values = [constant_of(value) for value in node.inputs[1:5]]
        source = node.inputs[0]
        if any(value is None for value in values) or source is None or source.shape is None:
            continue
        gamma, beta, mean, variance = (np.asarray(value, np.float64) for value in values)
        scale = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        shift = beta - mean * scale
        _batch_norm_as_multiply(model, node, source, scale, shift)


def _batch_norm_as_multiply(model: ir.Model, node: ir.Node, source: ir.Value, scale: Array, shift: Array) -> None:
    rank = len(source.shape or ())
    shape = (-1, *[1] * (rank - 2)) if rank > 1 else (-1,)
    dtype = source.dtype.numpy() if source.dtype is not None else np.dtype(np.float32)
    name = str(node.name or node.outputs[0].name)
    factor = add_constant(model, f"{name}.scale", scale.reshape(shape).astype(dtype))
    offset = add_constant(model, f"{name}.shift", shift.reshape(shape).astype(dtype))
    multiply = ir.node("Mul", inputs=[source, factor], name=f"{name}.mul")
    model.graph.insert_before(node, multiply)
    replace_node(model, node, ir.node("Add", inputs=[multiply.outputs[0], offset], name=name))


def _give_each_use_its_weight(model: ir.Model) -> None:
    """A float weight read by several nodes is copied for each, so that a step may change one layer alone."""
    for name, value in tuple(model.graph.initializers.items()):
        uses = [use for use in value.uses() if use.node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul", "Add")]
        if len(value.uses()) < 2 or value.dtype != ir.DataType.FLOAT:
            continue
        array = constant_of(value)
        if array is None or array.ndim == 0:
            continue
        for number, use in enumerate(uses[1:], 2):
            use.node.replace_input_with(use.idx, add_constant(model, f"{name}.use{number}", array))


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
        if array.dtype.kind != "f":
            continue
        users = graph.consumers.get(name, ())
        layer = any(node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") for node in users)
        # Infinity is a bound of Clip or a mask in an Add; in a layer's weights it is damage.
        for bad, word in ((np.isnan(array), "NaN"), (np.isinf(array) & layer, "infinite")):
            if bad.any():
                raise ModelError(
                    f"weight {name} of {', '.join(str(node.name) for node in users) or 'no node'} holds "
                    f"{int(bad.sum())} {word} values of {array.size}",
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

"""Dynamically quantized ONNX: int8 weights, each input's range found as it comes. Fused to DynamicQuantizeMatMul."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from leanedge.compress.quantize.dynamic import table_of
from leanedge.graph.operators import find_operators

if TYPE_CHECKING:
    from collections.abc import Callable

    from leanedge.compress.types import QuantizedConstant, QuantSpec
    from leanedge.graph.model import Graph
    from leanedge.graph.operators import Operator

__all__ = ["dynamic_model", "table_lookup"]

Array = np.ndarray[Any, Any]


def dynamic_model(graph: Graph, spec: QuantSpec) -> onnx.ModelProto:
    """The graph with integer matrix products for `spec.dynamic_operators` and its embedding tables as int8."""
    source = {node.name: node for node in graph.proto.graph.node}
    nodes: list[onnx.NodeProto] = []
    initializers: dict[str, onnx.TensorProto] = {}
    quantized: set[str] = set()

    def constant(name: str, array: Array) -> str:
        if name not in initializers:
            initializers[name] = numpy_helper.from_array(np.array(array, order="C"), name)
        return name

    for operator in find_operators(graph):
        table = table_of(graph, operator)
        if operator.id in spec.dynamic_operators:
            nodes.extend(_product(graph, spec, operator, source, constant, quantized))
        elif table is not None and table in spec.constants:
            nodes.extend(table_lookup(source[operator.id], spec.constants[table], constant))
        else:
            nodes.extend(source[name] for name in operator.nodes)
    model = onnx.ModelProto()
    model.CopyFrom(graph.proto)
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(nodes)
    gone = {name for name in spec.constants if len(graph.consumers[name]) == 1}
    gone |= {
        o.bias
        for o in find_operators(graph)
        if o.id in spec.dynamic_operators and o.bias is not None and len(graph.consumers[o.bias]) == 0
    }
    model.graph.initializer.extend(t for t in graph.proto.graph.initializer if t.name not in gone)
    model.graph.initializer.extend(initializers.values())
    return model


def _product(
    graph: Graph,
    spec: QuantSpec,
    operator: Operator,
    source: dict[str, onnx.NodeProto],
    constant: Callable[[str, Array], str],
    quantized: set[str],
) -> list[onnx.NodeProto]:
    """The product x W + b as MatMulInteger on rounded x: scale(x) scale(W) integers + b, then the fused clamp."""
    assert operator.weight is not None
    value, weight = operator.inputs[0], operator.weight
    stored = spec.constants[weight]
    rows = stored.integers if operator.channel_axis == 1 else stored.integers.T
    made: list[onnx.NodeProto] = []
    if value not in quantized:
        quantized.add(value)
        names = [f"{value}:q", f"{value}:scale", f"{value}:zero"]
        made.append(helper.make_node("DynamicQuantizeLinear", [value], names, f"{value}/DynamicQuantizeLinear"))
    out = operator.output
    clamped = operator.activation is not None and len(operator.nodes) > 1
    final = f"{out}:unclamped" if clamped else out
    zero = np.zeros(stored.quant.zero_point.shape, np.int8)
    inputs = [
        f"{value}:q",
        constant(f"{weight}:q", rows),
        f"{value}:zero",
        constant(f"{weight}:zero", zero),
    ]
    scale = constant(f"{weight}:scale", np.asarray(stored.quant.scale, np.float32))
    real = f"{out}:real" if operator.bias is not None else final
    made += [
        helper.make_node("MatMulInteger", inputs, [f"{out}:int32"], f"{out}/MatMulInteger"),
        helper.make_node("Cast", [f"{out}:int32"], [f"{out}:cast"], f"{out}/Cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{value}:scale", scale], [f"{out}:product_scale"], f"{out}/scale"),
        helper.make_node("Mul", [f"{out}:cast", f"{out}:product_scale"], [real], f"{out}/Mul"),
    ]
    if operator.bias is not None:
        made.append(helper.make_node("Add", [real, operator.bias], [final], f"{out}/Add"))
    if clamped:
        clamp = onnx.NodeProto()
        clamp.CopyFrom(source[operator.nodes[-1]])
        clamp.input[0], clamp.output[0] = final, out
        made.append(clamp)
    return made


def table_lookup(
    node: onnx.NodeProto, table: QuantizedConstant, constant: Callable[[str, Array], str]
) -> list[onnx.NodeProto]:
    """Rows of an int8 table times the scale of each row; only the rows that are looked up become float."""
    name, ids, out = node.input[0], node.input[1], node.output[0]
    stored = constant(f"{name}:q", table.integers)
    scale = constant(f"{name}:scale", np.asarray(table.quant.scale, np.float32).reshape(-1, 1))
    return [
        helper.make_node("Gather", [stored, ids], [f"{out}:int8"], f"{out}/rows", axis=0),
        helper.make_node("Cast", [f"{out}:int8"], [f"{out}:cast"], f"{out}/Cast", to=TensorProto.FLOAT),
        helper.make_node("Gather", [scale, ids], [f"{out}:product_scale"], f"{out}/scales", axis=0),
        helper.make_node("Mul", [f"{out}:cast", f"{out}:product_scale"], [out], f"{out}/Mul"),
    ]

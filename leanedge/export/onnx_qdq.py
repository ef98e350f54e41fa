"""QDQ ONNX: QuantizeLinear and DequantizeLinear around float operators, arranged so that runtimes fuse integer kernels.

Activations are uint8 (the int8 of the QuantSpec + 128), weights int8, biases int32: what the literature calls U8S8.
Every value v of the graph keeps its name for float readers; beside it stand ``v:q`` (its integers) and, where v exists
in float without having been rounded, ``v:dq`` for integer readers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from leanedge.compress.quantize.dynamic import table_of
from leanedge.compress.quantize.placement import float_is_at_hand, place
from leanedge.compress.quantize.rules import rules_named
from leanedge.errors import UnsupportedOperator
from leanedge.export.onnx_dynamic import table_lookup
from leanedge.export.onnx_prefix import reads
from leanedge.graph.operators import find_operators

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.compress.types import QuantizedConstant, QuantSpec, TensorQuant
    from leanedge.graph.model import Graph
    from leanedge.graph.operators import Operator

__all__ = ["clamp_implied", "qdq_model"]

Array = np.ndarray[Any, Any]
_OLDEST_OPSET = 13


def qdq_model(graph: Graph, spec: QuantSpec) -> onnx.ModelProto:
    """The graph with quantizers around what `spec` runs in integers.

    Raises:
        UnsupportedOperator: Its operator set is older than per-channel DequantizeLinear.
    """
    if graph.opset < _OLDEST_OPSET:
        raise UnsupportedOperator(
            f"opset {graph.opset} has no per-channel DequantizeLinear",
            allowed=f"opset {_OLDEST_OPSET} or newer",
            hint="onnx could not convert the model: export it again with opset_version=17",
        )
    return _Writer(graph, spec).model()


def clamp_implied(quant: TensorQuant, activation: tuple[float, float] | None) -> bool:
    """True where saturation to the integers does the clamp: no code lies outside it by more than half a step."""
    if activation is None:
        return True
    low, high = quant.range
    half = float(quant.scale) * 0.5001
    return low >= activation[0] - half and high <= activation[1] + half


class _Writer:
    """Emits nodes and initializers in execution order."""

    def __init__(self, graph: Graph, spec: QuantSpec) -> None:
        self.graph, self.spec = graph, spec
        self.place = place(graph, rules_named(spec.rules), spec.float_operators)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.made: set[str] = set()
        self.source = {node.name: node for node in graph.proto.graph.node}
        self.at_hand = {
            value: float_is_at_hand(graph, rules_named(spec.rules), self.place, value) for value in spec.activations
        }

    def model(self) -> onnx.ModelProto:
        for info in self.graph.inputs:
            if info.name in self.spec.activations:
                self._quantizer(info.name, info.name)
        for operator in find_operators(self.graph):
            if operator.id in self.place.integer:
                self._integer(operator)
            else:
                self._float(operator)
        proto = onnx.ModelProto()
        proto.CopyFrom(self.graph.proto)
        del proto.graph.node[:], proto.graph.initializer[:], proto.graph.value_info[:]
        proto.graph.node.extend(self.nodes)
        read = {name for node in self.nodes for name in reads(node)} | self.graph.output_names
        proto.graph.initializer.extend(t for t in self.graph.proto.graph.initializer if t.name in read)
        proto.graph.initializer.extend(self.initializers.values())
        return proto

    # Constants.

    def _constant(self, name: str, array: Array) -> str:
        if name not in self.initializers:
            self.initializers[name] = numpy_helper.from_array(np.array(array, order="C"), name)
        return name

    def _scale(self, name: str, quant: TensorQuant, unsigned: bool) -> list[str]:
        """Names of scale and zero point of the tensor `name`."""
        zero: Array = quant.zero_point.astype(np.int64)
        integers = (zero + 128).astype(np.uint8) if unsigned else zero.astype(quant.dtype)
        return [
            self._constant(f"{name}:scale", np.asarray(quant.scale, np.float32)),
            self._constant(f"{name}:zero", integers),
        ]

    def _weight(self, name: str, unsigned: bool = False) -> str:
        """A constant of the spec as integers and a DequantizeLinear; the float name that its reader takes."""
        constant: QuantizedConstant = self.spec.constants[name]
        integers = (constant.integers.astype(np.int64) + 128).astype(np.uint8) if unsigned else constant.integers
        stored = self._constant(f"{name}:q", integers)
        scales = self._scale(name, constant.quant, unsigned)
        if constant.quant.dtype == "int32":
            scales = scales[:1]
            self.initializers.pop(f"{name}:zero", None)
        axis = {} if constant.quant.axis is None else {"axis": constant.quant.axis}
        self._node("DequantizeLinear", [stored, *scales], [f"{name}:dq"], **axis)
        return f"{name}:dq"

    # Nodes.

    def _node(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, outputs, f"{outputs[0]}/{kind}", **attributes))

    def _quantizer(self, real: str, value: str) -> None:
        """``value:q`` from its float `real`, and the float that readers of integers take."""
        scales = self._scale(value, self.spec.activations[value], True)
        self._node("QuantizeLinear", [real, *scales], [f"{value}:q"])
        self._dequantizer(value)

    def _dequantizer(self, value: str) -> None:
        scales = self._scale(value, self.spec.activations[value], True)
        self._node("DequantizeLinear", [f"{value}:q", *scales], [f"{value}:dq" if self.at_hand[value] else value])

    def _as_integers(self, value: str) -> str:
        """The float name under which a reader of integers takes a value."""
        return f"{value}:dq" if self.at_hand.get(value) else value

    def _float(self, operator: Operator) -> None:
        table = table_of(self.graph, operator)
        if table is not None and table in self.spec.constants:
            constant = self.spec.constants[table]
            self.nodes.extend(table_lookup(self.source[operator.id], constant, self._constant))
        else:
            first, *others = (self.source[name] for name in operator.nodes)
            self.nodes.extend(self._kept_float(first))
            self.nodes.extend(others)
        for value in operator.outputs:
            if value in self.spec.activations:
                self._quantizer(value, value)

    def _kept_float(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """A float layer between integers, so that ONNX Runtime leaves it in float.

        Between a DequantizeLinear and a QuantizeLinear it would quantize the layer's float weights by itself (its
        WeightBiasQuantization), one scale a tensor. A LeakyRelu of slope 1, which computes nothing and is fused into
        the layer, stands in the way.
        """
        rounded = node.input[0] in self.spec.activations and not self.at_hand[node.input[0]]
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or not rounded:
            return [node]
        layer = onnx.NodeProto()
        layer.CopyFrom(node)
        made = node.output[0]
        layer.output[0] = f"{made}:layer"
        return [layer, helper.make_node("LeakyRelu", [f"{made}:layer"], [made], f"{made}:kept", alpha=1.0)]

    def _integer(self, operator: Operator) -> None:
        if operator.kind == "clip":
            self._integer_clip(f"{operator.inputs[0]}:q", operator.output, operator.activation)
            return
        value = operator.output
        quantized = value in self.spec.activations
        raw = {out: out if self.at_hand.get(out, True) else f"{out}:raw" for out in operator.outputs}
        floats = not quantized or self.at_hand[value]  # the kernel hands out float
        keep_clamp = operator.activation is not None and floats
        target = f"{value}:unclamped" if keep_clamp else raw[value]
        self._kernel(operator, target, raw)
        if keep_clamp:
            clamp = onnx.NodeProto()
            clamp.CopyFrom(self.source[operator.nodes[-1]])
            clamp.input[0], clamp.output[0] = target, value
            self.nodes.append(clamp)
        if quantized and not floats and not clamp_implied(self.spec.activations[value], operator.activation):
            scales = self._scale(value, self.spec.activations[value], True)
            self._node("QuantizeLinear", [target, *scales], [f"{value}:unclamped"])
            self._integer_clip(f"{value}:unclamped", value, operator.activation)
            return
        for out in operator.outputs:
            if out in self.spec.activations:
                self._quantizer(raw[out], out)

    def _integer_clip(self, source: str, value: str, activation: tuple[float, float] | None) -> None:
        """A clamp on integers of one scale: exact, and one pass over bytes."""
        quant = self.spec.activations[value]
        low, high = activation or (-math.inf, math.inf)
        scale, zero = float(quant.scale), int(quant.zero_point) + 128
        bounds = [
            0 if math.isinf(low) else min(max(round(low / scale) + zero, 0), 255),
            255 if math.isinf(high) else min(max(round(high / scale) + zero, 0), 255),
        ]
        names = [
            self._constant(f"{value}:{which}", np.asarray(bound, np.uint8))
            for which, bound in zip(("low", "high"), bounds, strict=True)
        ]
        self._node("Clip", [source, *names], [f"{value}:q"])
        self._dequantizer(value)

    def _kernel(self, operator: Operator, target: str, raw: dict[str, str]) -> None:
        """The operator itself, between dequantized inputs and constants, its output named `target`."""
        node = onnx.NodeProto()
        node.CopyFrom(self.source[operator.nodes[0]])
        activations = set(operator.inputs)
        if operator.kind == "linear":
            self._linear(operator, node, target)
            return
        if operator.kind == "mean" and node.op_type == "ReduceMean":
            self._mean(operator, target)
            return
        for index, name in enumerate(node.input):
            if name in activations:
                node.input[index] = self._as_integers(name)
            elif name in self.spec.constants:
                node.input[index] = self._weight(name, unsigned=not operator.has_channels)
        if len(operator.outputs) == 1:
            node.output[0] = target
        else:
            for index, name in enumerate(node.output):
                node.output[index] = raw.get(name, name)
        self.nodes.append(node)

    def _linear(self, operator: Operator, node: onnx.NodeProto, target: str) -> None:
        """Gemm, which is fused to QGemm with its bias; other ranks than 2 by a Reshape of integers on both sides."""
        assert operator.weight is not None
        value, source = operator.output, operator.inputs[0]
        shape, made = self.graph.shape(source), self.graph.shape(value)
        assert shape is not None
        assert made is not None
        flat = len(shape) == 2
        taken = self._as_integers(source) if flat else self._flat(source, shape)
        inputs = [taken, self._weight(operator.weight)]
        if operator.bias is not None:
            inputs.append(self._weight(operator.bias))
        transposed = {a.name: a.i for a in node.attribute}.get("transB", 0) if node.op_type == "Gemm" else 0
        if flat:
            self._node("Gemm", inputs, [target], transB=transposed)
            return
        self._node("Gemm", inputs, [f"{target}:flat"], transB=transposed)
        quant = self.spec.activations.get(value)
        output_shape = self._constant(f"{value}:shape", np.asarray(made, np.int64))
        flat_made = f"{target}:flat"
        if quant is not None and not self.at_hand[value]:
            # Quantized right behind the product, so that one kernel does both; the Reshape then moves integers.
            scales = self._scale(value, quant, True)
            self._node("QuantizeLinear", [flat_made, *scales], [f"{value}:flat:q"])
            self._node("DequantizeLinear", [f"{value}:flat:q", *scales], [f"{value}:flat:dq"])
            flat_made = f"{value}:flat:dq"
        self._node("Reshape", [flat_made, output_shape], [target])

    def _flat(self, value: str, shape: tuple[int, ...]) -> str:
        """The dequantized matrix (rows, features) of a value of another rank."""
        if f"{value}:rows:dq" not in self.made:
            self.made.add(f"{value}:rows:dq")
            scales = self._scale(value, self.spec.activations[value], True)
            rows = self._constant(f"{value}:rows:shape", np.asarray([-1, shape[-1]], np.int64))
            self._node("Reshape", [f"{value}:q", rows], [f"{value}:rows:q"])
            self._node("DequantizeLinear", [f"{value}:rows:q", *scales], [f"{value}:rows:dq"])
        return f"{value}:rows:dq"

    def _mean(self, operator: Operator, target: str) -> None:
        """A mean over all spatial axes as GlobalAveragePool, which has an integer kernel, and a Reshape."""
        value = operator.output
        shape, before = self.graph.shape(value), self.graph.shape(operator.inputs[0])
        assert shape is not None
        assert before is not None
        source = self._as_integers(operator.inputs[0])
        if len(shape) == len(before):
            self._node("GlobalAveragePool", [source], [target])
            return
        scales = self._scale(value, self.spec.activations[value], True)
        self._node("GlobalAveragePool", [source], [f"{value}:pool"])
        self._node("QuantizeLinear", [f"{value}:pool", *scales], [f"{value}:pool:q"])
        self._node("DequantizeLinear", [f"{value}:pool:q", *scales], [f"{value}:pool:dq"])
        self._node(
            "Reshape", [f"{value}:pool:dq", self._constant(f"{value}:shape", np.asarray(shape, np.int64))], [target]
        )

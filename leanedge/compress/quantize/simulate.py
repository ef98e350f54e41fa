"""Runs a quantized graph in float with rounding put in: what it will lose, before any file is written.

Each quantized value is rounded where its integers are made, each weight is replaced by what its integers stand for.
Sums are float, so this is near the integer kernels and not bit for bit them: the truth is the exported file, run by its
runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from leanedge.compress.quantize.placement import float_is_at_hand, place
from leanedge.compress.quantize.rules import rules_named

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from leanedge.compress.types import QuantSpec
    from leanedge.graph.model import Graph

__all__ = ["output_noise", "simulated_runner"]

Array = np.ndarray[Any, Any]
Run = "Callable[[Mapping[str, Array]], dict[str, Array]]"


def simulated_runner(graph: Graph, spec: QuantSpec) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """Opens the graph with the rounding of a static `spec` (dynamic operators run in float)."""
    import onnxruntime as ort

    rules = rules_named(spec.rules)
    placement = place(graph, rules, spec.float_operators)
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    operator_of = {name: operator for operator in placement.operators for name in operator.nodes}
    at_hand = {value: float_is_at_hand(graph, rules, placement, value) for value in spec.activations}
    nodes: list[onnx.NodeProto] = []
    new: list[onnx.TensorProto] = []

    def round_value(value: str) -> None:
        quant = spec.activations[value]
        names = [f"{value}:scale", f"{value}:zero"]
        new.append(numpy_helper.from_array(np.asarray(quant.scale, np.float32), names[0]))
        new.append(numpy_helper.from_array(np.asarray(quant.zero_point, np.int8), names[1]))
        source, made = (value, f"{value}:dq") if at_hand[value] else (f"{value}:raw", value)
        nodes.append(helper.make_node("QuantizeLinear", [source, *names], [f"{value}:q"], f"{value}:q"))
        nodes.append(helper.make_node("DequantizeLinear", [f"{value}:q", *names], [made], f"{value}:dq"))

    for info in graph.inputs:
        if info.name in spec.activations:
            round_value(info.name)
    for node in proto.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        operator = operator_of[node.name]
        for place_in, name in enumerate(node.input):
            if operator.id in placement.integer and name in operator.inputs and at_hand.get(name, False):
                copy.input[place_in] = f"{name}:dq"
        made = [name for name in node.output if name in spec.activations and name in operator.outputs]
        for place_out, name in enumerate(node.output):
            if name in made and not at_hand[name]:
                copy.output[place_out] = f"{name}:raw"
        nodes.append(copy)
        for name in made:
            round_value(name)
    for tensor in proto.graph.initializer:
        constant = spec.constants.get(tensor.name)
        if constant is not None:
            real = constant.quant.dequantize(constant.integers)
            tensor.CopyFrom(numpy_helper.from_array(real, tensor.name))
    del proto.graph.node[:], proto.graph.value_info[:]
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(new)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [info.name for info in graph.outputs]

    def run(sample: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, session.run(names, dict(sample)), strict=True))

    return run


def output_noise(
    graph: Graph,
    wanted: Sequence[Mapping[str, Array]],
    run: Callable[[Mapping[str, Array]], dict[str, Array]],
    samples: Sequence[Mapping[str, Array]],
) -> float:
    """Energy of the error over energy of the output, the mean over the float outputs (0.01 is an SQNR of 20 dB).

    Args:
        graph: Names the outputs.
        wanted: Float outputs of each sample.
        run: What to judge.
        samples: One step each.
    """
    names = [info.name for info in graph.outputs if info.dtype.kind == "f"]
    noise, signal = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    for sample, reference in zip(samples, wanted, strict=True):
        found = run(sample)
        for name in names:
            real = reference[name].astype(np.float64)
            kept = np.isfinite(real)
            noise[name] += float(((found[name] - real)[kept] ** 2).sum())
            signal[name] += float((real[kept] ** 2).sum())
    parts = [noise[name] / signal[name] for name in names if signal[name] > 0]
    mean = float(np.mean(parts)) if parts else 0.0
    return mean if np.isfinite(mean) else float("inf")

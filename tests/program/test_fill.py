"""Skeletons become Programs: constants in the Program's layout, and integers where the spec and the kernels allow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from leanedge.compress.types import QuantizedConstant, QuantSpec, TensorQuant
from leanedge.graph.canonicalise import canonicalise
from leanedge.graph.model import Graph
from leanedge.graph.operators import find_operators
from leanedge.graph.run import float_runner
from leanedge.program.fill import FIXED_OUTPUTS, INTEGER_KINDS, TIED_KINDS, fill
from leanedge.program.simulate import simulate
from leanedge.program.structure import structure
from leanedge.program.types import Program

Array = np.ndarray[Any, Any]


def parsed(text: str, **constants: Array) -> Graph:
    """A graph from onnx's text form; `constants` are its initializers."""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> net {text}')
    for name, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
    return canonicalise(onnx.shape_inference.infer_shapes(model), "net")


def weights(*shape: int) -> Array:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[1:]))


def conv_pool_softmax() -> Graph:
    return parsed(
        """(float[1,3,6,6] x) => (float[1,4] y) {
            a = Conv <pads = [1,1,1,1]> (x, w, b)
            p = MaxPool <kernel_shape = [2,2], strides = [2,2]> (a)
            m = ReduceMean <axes = [2,3], keepdims = 0> (p)
            y = Softmax <axis = 1> (m)
        }""",
        w=weights(4, 3, 3, 3),
        b=np.array([0.1, -0.2, 0.3, 0.0]),
    )


def asymmetric(low: float, high: float) -> TensorQuant:
    scale = np.float32((high - low) / 255)
    return TensorQuant("int8", np.asarray(scale), np.asarray(round(-128 - low / float(scale)), np.int64))


def min_max_spec(graph: Graph, **changed: TensorQuant) -> QuantSpec:
    """Every value and weight quantized by its own range, biases by what goes with them."""
    sample = {info.name: np.random.default_rng(1).standard_normal(info.shape, np.float32) for info in graph.inputs}
    operators = find_operators(graph)
    values = [operator.output for operator in operators]
    seen = {**sample, **float_runner(graph, extra=values, exact=True)(sample)}
    activations = {
        name: asymmetric(min(float(seen[name].min()), 0), max(float(seen[name].max()), 0.01))
        for name in (*sample, *values)
    }
    activations.update(changed)
    constants = {}
    for operator in operators:
        if operator.weight is None or operator.channel_axis is None:
            continue
        array = graph.constants[operator.weight]
        others = tuple(axis for axis in range(array.ndim) if axis != operator.channel_axis)
        scale = (np.abs(array).max(axis=others) / 127).astype(np.float32)
        quant = TensorQuant("int8", scale, np.zeros(scale.shape, np.int64), operator.channel_axis)
        constants[operator.weight] = QuantizedConstant(quant.quantize(array), quant)
        if operator.bias is not None:
            own = TensorQuant(
                "int32", activations[operator.inputs[0]].scale * scale, np.zeros(scale.shape, np.int64), 0
            )
            constants[operator.bias] = QuantizedConstant(own.quantize(graph.constants[operator.bias]), own)
    return QuantSpec("w8a8", "tflite", activations, constants)


def kinds(program: Program) -> list[str]:
    return [operator.kind for operator in program.operators]


def test_weights_are_those_of_the_graph_in_another_order() -> None:
    graph = conv_pool_softmax()
    program = fill(structure(graph), None)
    conv = next(operator for operator in program.operators if operator.kind == "conv_2d")
    data = program.tensors[conv.inputs[1]].data
    assert data is not None
    np.testing.assert_array_equal(data.decode(), graph.constants["w"].transpose(0, 2, 3, 1))
    spec = min_max_spec(graph)
    integers = fill(structure(graph), spec)
    conv = next(operator for operator in integers.operators if operator.kind == "conv_2d")
    tensor = integers.tensors[conv.inputs[1]]
    assert tensor.data is not None
    np.testing.assert_array_equal(tensor.data.decode(), spec.constants["w"].integers.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(tensor.quant.scale, spec.constants["w"].quant.scale)  # type: ignore[union-attr]


def test_values_that_a_kernel_ties_are_requantized_where_the_spec_differs() -> None:
    graph = conv_pool_softmax()
    tied = min_max_spec(graph)
    tied = replace(tied, activations={**tied.activations, "p": tied.activations["a"], "y": FIXED_OUTPUTS["softmax"]})
    whole = ["quantize", "conv_2d", "max_pool", "mean", "reshape", "softmax", "dequantize"]
    assert kinds(fill(structure(graph), tied)) == whole
    free = replace(tied, activations={**tied.activations, "p": asymmetric(-5, 5)})
    program = fill(structure(graph), free)
    assert kinds(program) == [*whole[:2], "quantize", *whole[2:]]
    pool = next(operator for operator in program.operators if operator.kind == "max_pool")
    assert program.tensors[pool.inputs[0]].quant == program.tensors[pool.output].quant == free.activations["p"]


def test_a_fixed_output_is_requantized_to_what_the_spec_says() -> None:
    graph = conv_pool_softmax()
    spec = min_max_spec(graph, y=asymmetric(0.0, 0.5))
    program = fill(structure(graph), spec)
    assert kinds(program)[-3:] == ["softmax", "quantize", "dequantize"]
    softmax = next(operator for operator in program.operators if operator.kind == "softmax")
    quant = program.tensors[softmax.output].quant
    assert quant is not None
    assert (float(quant.scale), int(quant.zero_point)) == (1 / 256, -128)
    sample = {"x": np.random.default_rng(1).standard_normal((1, 3, 6, 6), np.float32)}
    expected = float_runner(graph)(sample)["y"]
    np.testing.assert_allclose(simulate(program, sample)["y"], expected, atol=0.02)


def test_operators_left_in_float_stand_between_dequantize_and_quantize() -> None:
    graph = conv_pool_softmax()
    pool = next(operator.id for operator in find_operators(graph) if operator.kind == "max_pool")
    spec = replace(min_max_spec(graph), float_operators=frozenset([pool]))
    program = fill(structure(graph), spec)
    places = kinds(program)
    at = places.index("max_pool")
    assert places[at - 1] == "dequantize"
    assert places[at + 1] == "quantize"
    assert not program.computes_in_integers(program.operators[at])
    assert program.operators[at - 1].source == pool


def test_a_value_is_converted_once_for_all_its_readers() -> None:
    graph = parsed(
        """(float[1,2,4,4] x) => (float[1,2,4,4] y, float[1,2,4,4] z) {
            a = Conv (x, w)
            y = Sigmoid (a)
            z = Tanh (a)
        }""",
        w=weights(2, 2, 1, 1),
    )
    ids = {operator.kind: operator.id for operator in find_operators(graph)}
    spec = replace(min_max_spec(graph), float_operators=frozenset([ids["sigmoid"], ids["tanh"]]))
    assert kinds(fill(structure(graph), spec)) == ["quantize", "conv_2d", "dequantize", "logistic", "tanh"]


def test_a_spec_without_an_operators_weight_is_an_error() -> None:
    graph = conv_pool_softmax()
    with pytest.raises(ValueError, match="no integers for the weight w"):
        fill(structure(graph), replace(min_max_spec(graph), constants={}))


def test_ports_carry_the_graphs_names_and_every_operator_its_source() -> None:
    graph = conv_pool_softmax()
    ids = {operator.id for operator in find_operators(graph)}
    for spec in (None, min_max_spec(graph)):
        program = fill(structure(graph), spec)
        assert [(port.name, port.tensor) for port in program.inputs] == [("x", "x")]
        assert [(port.name, port.tensor) for port in program.outputs] == [("y", "y")]
        assert program.tensors["x"].dtype == program.tensors["y"].dtype == "float32"
        assert {operator.source for operator in program.operators} <= ids
        assert all(name == tensor.name for name, tensor in program.tensors.items())
        placed = [tensor for tensor in program.tensors.values() if tensor.offset is not None]
        assert len(placed) == sum(tensor.data is None for tensor in program.tensors.values())
        assert program.arena_bytes == max(
            tensor.offset + tensor.nbytes for tensor in placed if tensor.offset is not None
        )


def test_pads_can_stay_in_the_convolution() -> None:
    """For devices whose kernels take any padding: no pad operator, no padded copy."""
    graph = parsed(
        "(float[1,3,8,8] x) => (float[1,4,4,4] y) { y = Conv <pads = [1,1,1,1], strides = [2,2]> (x, w) }",
        w=weights(4, 3, 3, 3),
    )
    apart, together = fill(structure(graph), None), fill(structure(graph, separate_pads=False), None)
    assert kinds(apart) == ["pad", "conv_2d"]
    assert kinds(together) == ["conv_2d"]
    assert together.arena_bytes < apart.arena_bytes
    sample = {"x": np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)}
    expected = float_runner(graph)(sample)["y"]
    for program in (apart, together):
        np.testing.assert_allclose(simulate(program, sample)["y"], expected, atol=1e-5)
    spec = min_max_spec(graph)
    integers = [
        simulate(fill(structure(graph, separate_pads=separate), spec), sample)["y"] for separate in (True, False)
    ]
    np.testing.assert_array_equal(integers[0], integers[1])


def test_the_sets_of_kinds_agree() -> None:
    assert TIED_KINDS <= INTEGER_KINDS
    assert set(FIXED_OUTPUTS) <= INTEGER_KINDS

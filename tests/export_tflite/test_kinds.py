"""Every way an operator can come: the float file equals the float graph, the int8 file equals the reference."""

from __future__ import annotations

import numpy as np
import pytest
from kind_models import KINDS, Net, graph_of, samples_of, spec_of
from lite import run_lite

from leanedge.errors import UnsupportedOperator
from leanedge.export.onnx_check import sqnr_db
from leanedge.graph.operators import KIND_OF_NODE
from leanedge.graph.run import float_runner
from leanedge.program.fill import fill
from leanedge.program.simulate import simulate
from leanedge.program.structure import structure

FLOAT_TOLERANCE = 1e-5
"""Sums of up to 100 float32 products of size 1, in another order."""

LEAST_DB = 20.0
"""An int8 operator behind another: 8 bits leave 30 to 45 dB; a global mean of small values least (22)."""

FLOAT_KINDS = {"mean width", "mean channels", "div by constant", "pad reflect"}
"""Not integer by the rules, so float between integers: equal up to the order of sums and one step of the next scale."""


@pytest.mark.parametrize("name", KINDS)
def test_float_equals_onnx_runtime(name: str) -> None:
    graph = graph_of(name)
    program = fill(structure(graph), None)
    sample = next(iter(samples_of(graph, 1, seed=5)))
    expected = float_runner(graph, exact=True)(sample)
    for found in (run_lite(program, sample), simulate(program, sample)):
        assert set(found) == set(expected)
        for output, array in expected.items():
            assert found[output].shape == array.shape
            np.testing.assert_allclose(found[output], array, atol=FLOAT_TOLERANCE, rtol=0)


@pytest.mark.parametrize("name", KINDS)
def test_int8_equals_the_reference(name: str) -> None:
    graph = graph_of(name)
    program = fill(structure(graph), spec_of(graph))
    sample = next(iter(samples_of(graph, 1, seed=5)))
    expected = simulate(program, sample, "litert")
    with_reference, with_xnnpack = run_lite(program, sample, reference=True), run_lite(program, sample)
    original = float_runner(graph, exact=True)(sample)
    for output, array in expected.items():
        if name in FLOAT_KINDS:
            np.testing.assert_allclose(with_reference[output], array, atol=2e-2 * np.abs(array).max(), rtol=0)
        else:
            np.testing.assert_array_equal(with_reference[output], array)
        assert sqnr_db(array, with_xnnpack[output]) > 30
        assert sqnr_db(original[output], array) > LEAST_DB


def test_split_hard_swish_is_the_same_function() -> None:
    graph = graph_of("hard swish")
    program = fill(structure(graph, split_hard_swish=True), None)
    for sample in samples_of(graph, 4, seed=5):
        wide = {name: 10 * array for name, array in sample.items()}  # beyond both ends of the gate
        for output, array in float_runner(graph, exact=True)(wide).items():
            np.testing.assert_allclose(simulate(program, wide)[output], array, atol=20 * FLOAT_TOLERANCE, rtol=0)


def test_split_hard_swish_is_integer_and_equals_the_reference() -> None:
    graph = graph_of("hard swish")
    program = fill(structure(graph, split_hard_swish=True), spec_of(graph))
    assert [op.kind for op in program.operators if op.kind in ("hard_swish", "add", "mul")] == ["add", "mul", "mul"]
    sample = next(iter(samples_of(graph, 1, seed=5)))
    expected = simulate(program, sample, "litert")
    found, original = run_lite(program, sample, reference=True), float_runner(graph, exact=True)(sample)
    for output, array in expected.items():
        np.testing.assert_array_equal(found[output], array)
        assert sqnr_db(original[output], array) > LEAST_DB


def test_integer_kinds_are_integer() -> None:
    """Between the first quantize and the last dequantize nothing is float, but where the rules say so."""
    for name in KINDS:
        graph = graph_of(name)
        program = fill(structure(graph), spec_of(graph))
        floats = {
            operator.kind
            for operator in program.operators
            if operator.kind not in ("quantize", "dequantize") and not program.computes_in_integers(operator)
        }
        assert bool(floats) == (name in FLOAT_KINDS), (name, floats)


def test_every_kind_of_the_graph_is_tried() -> None:
    made = {node.op_type for name in KINDS for node in graph_of(name).nodes}
    # The optimizer rewrites these to others on the tried ones' way: Squeeze and its kin are reshapes.
    assert set(KIND_OF_NODE) - made <= {"Flatten", "Squeeze", "Unsqueeze", "Sub", "Div"}


REFUSED = {
    "dilated pool": (
        lambda net: net.node("MaxPool", net.input((1, 2, 8, 8)), kernel_shape=[2, 2], dilations=[2, 2]),
        "MaxPool can't be expressed in TensorFlow Lite: dilation",
    ),
    "uncounted pads": (
        lambda net: net.node("AveragePool", net.input((1, 2, 8, 8)), kernel_shape=[2, 2], pads=[1, 1, 1, 1]),
        r"AveragePool can't be expressed .*: pads \(1, 1, 1, 1\) that are not counted",
    ),
    "grouped transpose": (
        lambda net: net.node("ConvTranspose", net.input((1, 4, 5, 5)), net.weight(4, 2, 3, 3), group=2),
        "ConvTranspose can't be expressed .* groups",
    ),
    "conv3d": (
        lambda net: net.node("Conv", net.input((1, 2, 4, 4, 4)), net.weight(3, 2, 3, 3, 3)),
        "Conv can't be expressed .*: 3 spatial axes",
    ),
    "cubic resize": (
        lambda net: net.node("Resize", net.input((1, 2, 4, 4)), "", net.constant([1, 1, 2, 2]), mode="cubic"),
        "Resize can't be expressed .* mode 'cubic'",
    ),
    "edge pad": (
        lambda net: net.node("Pad", net.input((1, 2, 4, 4)), net.constant([0, 0, 1, 1] * 2, np.int64), mode="edge"),
        "Pad can't be expressed .* mode 'edge'",
    ),
    "recurrent": (
        lambda net: net.node(
            "LSTM", net.input((3, 1, 4)), net.weight(1, 8, 4), net.weight(1, 8, 2), outputs=3, hidden_size=2
        )[0],
        "LSTM can't be expressed in TensorFlow Lite: LeanEdge has no counterpart",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_expressed_is_refused_by_name(name: str) -> None:
    make, message = REFUSED[name]
    net = Net()
    graph = net.graph(make(net))
    with pytest.raises(UnsupportedOperator, match=message) as refusal:
        structure(graph)
    assert refusal.value.where.startswith("node ")
    assert "onnxruntime" in refusal.value.hint


def test_float_operators_of_the_other_kinds_equal_onnx_runtime() -> None:
    """Those that run in float only: normalization, GELU in both spellings, comparisons, reductions."""
    net = Net(2)
    x = net.input((1, 6, 8))
    y = net.node("LayerNormalization", x, net.weight(8), net.weight(8, scale=0.1), axis=-1)
    erf = net.node("Erf", net.node("Div", y, net.constant(np.sqrt(2))))
    gelu = net.node("Mul", net.node("Mul", y, net.node("Add", erf, net.constant(1.0))), net.constant(0.5))
    root = net.node("Sqrt", net.node("Max", net.node("Abs", gelu), net.constant(0.01)))
    ratio = net.node("Div", gelu, net.node("Add", root, net.node("Reciprocal", net.node("Exp", x))))
    mask = net.node("Greater", ratio, net.constant(0.1))
    chosen = net.node("Where", mask, ratio, net.node("Neg", net.node("Min", x, ratio)))
    total = net.node("ReduceSum", chosen, net.constant([2], np.int64), keepdims=0)
    most = net.node("ReduceMax", chosen, axes=[1], keepdims=1)
    log = net.node("Log", net.node("Pow", net.node("Abs", most), net.constant(1.5)))
    cast = net.node("Cast", net.node("Not", mask), to=1)
    graph = net.graph(total, log, cast)
    program = fill(structure(graph), None)
    kinds = [operator.kind for operator in program.operators]
    assert kinds.count("gelu") == 1
    sample = next(iter(samples_of(graph, 1)))
    expected = float_runner(graph, exact=True)(sample)
    for found in (run_lite(program, sample), simulate(program, sample)):
        for output, array in expected.items():
            np.testing.assert_allclose(found[output], array, atol=FLOAT_TOLERANCE, rtol=1e-5)


@pytest.mark.parametrize("order", ["x (1 + erf) / 2", "(1 + erf) / 2 x", "x / 2 (1 + erf)"])
def test_gelu_is_found_in_each_order(order: str) -> None:
    net = Net()
    x = net.input((1, 5))
    inner = net.node("Add", net.node("Erf", net.node("Mul", x, net.constant(1 / np.sqrt(2)))), net.constant(1.0))
    half = net.constant(0.5)
    if order == "x (1 + erf) / 2":
        y = net.node("Mul", net.node("Mul", x, inner), half)
    elif order == "(1 + erf) / 2 x":
        y = net.node("Mul", net.node("Mul", inner, half), x)
    else:
        y = net.node("Mul", net.node("Mul", x, half), inner)
    graph = net.graph(y)
    program = fill(structure(graph), None)
    assert [operator.kind for operator in program.operators] == ["gelu"]
    sample = {"x": np.array([[-3, -0.5, 0, 0.7, 2]], np.float32)}
    np.testing.assert_allclose(run_lite(program, sample)[y], float_runner(graph)(sample)[y], atol=1e-6)


def test_erf_alone_is_refused() -> None:
    net = Net()
    graph = net.graph(net.node("Erf", net.input((1, 5))))
    with pytest.raises(UnsupportedOperator, match="Erf can't be expressed"):
        structure(graph)


def test_an_image_of_bytes_is_cast_and_laid_out() -> None:
    net = Net()
    x = net.node("Cast", net.input((1, 3, 6, 6), dtype=2), to=1)
    graph = net.graph(net.conv(net.node("Mul", x, net.constant(1 / 255)), 3, 4))
    program = fill(structure(graph), None)
    assert [operator.kind for operator in program.operators] == ["cast", "mul", "conv_2d"]
    assert program.tensors["x"].dtype == "uint8"
    sample = {"x": np.arange(108, dtype=np.uint8).reshape(1, 3, 6, 6)}
    for output, array in float_runner(graph)(sample).items():
        np.testing.assert_allclose(run_lite(program, sample)[output], array, atol=FLOAT_TOLERANCE)
        np.testing.assert_allclose(simulate(program, sample)[output], array, atol=FLOAT_TOLERANCE)


def test_a_type_that_no_device_has_is_refused_by_name() -> None:
    net = Net()
    graph = net.graph(net.node("Cast", net.input((1, 4), dtype=11), to=1))
    with pytest.raises(UnsupportedOperator, match="tensor x is float64"):
        structure(graph)

"""Channels last without stray transposes: whole small networks, drawn at random, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kind_models import Net, samples_of, spec_of
from lite import run_lite

from leanedge.graph.model import Graph
from leanedge.graph.run import float_runner
from leanedge.program.arrangement import Arrangement, channels_last, like, same_order
from leanedge.program.fill import fill
from leanedge.program.simulate import simulate
from leanedge.program.structure import structure
from leanedge.program.types import Program

FEW = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """Convolutions, residual sums, concatenations, pools and resizes, then a head over a flattened or pooled image."""
    net = Net(draw(st.integers(0, 1000)))
    size, channels = draw(st.sampled_from([(8, 8), (6, 10)])), draw(st.integers(2, 5))
    x = net.conv(net.input((1, 3, *size)), 3, channels)
    shape = [channels, *size]
    for _ in range(draw(st.integers(0, 3))):
        step = draw(st.sampled_from(["conv", "residual", "concat", "pool", "gate", "norm"]))
        if step == "conv":
            x = net.node("Relu", net.conv(x, shape[0], shape[0], kernel=draw(st.sampled_from([1, 3]))))
        elif step == "residual":
            x = net.node("Add", net.conv(x, shape[0], shape[0]), x)
        elif step == "concat":
            x = net.node("Concat", x, net.conv(x, shape[0], 2), axis=1)
            shape[0] += 2
        elif step == "pool":
            x = net.node("AveragePool", x, kernel_shape=[2, 2], strides=[1, 1])
            shape[1], shape[2] = shape[1] - 1, shape[2] - 1
        elif step == "gate":
            x = net.node("Mul", x, net.node("Sigmoid", net.node("GlobalAveragePool", x)))
        else:
            x = net.node("Mul", x, net.weight(shape[0], 1, 1))
    columns = int(np.prod(shape))
    head = draw(st.sampled_from(["flatten", "reshape", "pool", "mean", "flatten relu", "image"]))
    if head == "image":
        return net.graph(x)
    if head == "flatten":
        x = net.node("Flatten", x)
    elif head in ("reshape", "flatten relu"):
        x = net.node("Reshape", x, net.constant([1, -1], np.int64))
        x = net.node("Relu", net.node("Mul", x, net.weight(columns))) if head == "flatten relu" else x
    elif head == "pool":
        x, columns = net.node("Flatten", net.node("GlobalAveragePool", x)), shape[0]
    else:
        x, columns = net.node("ReduceMean", x, axes=[2, 3], keepdims=0), shape[0]
    if draw(st.booleans()):
        return net.graph(net.linear(x, columns, 4, transposed=draw(st.booleans())))
    return net.graph(net.node("MatMul", x, net.weight(columns, 4)))


def transposes(program: Program) -> list[str]:
    return [operator.source for operator in program.operators if operator.kind == "transpose"]


@FEW
@given(networks())
def test_convolutional_networks_have_no_transpose_and_the_same_result(graph: Graph) -> None:
    program = fill(structure(graph), None)
    assert transposes(program) == []
    sample = next(iter(samples_of(graph, 1)))
    expected = float_runner(graph, exact=True)(sample)
    for output, array in run_lite(program, sample).items():
        np.testing.assert_allclose(array, expected[output], atol=2e-5 * max(1, np.abs(expected[output]).max()))


@settings(FEW, max_examples=8)
@given(networks())
def test_their_int8_form_equals_the_reference_bit_for_bit(graph: Graph) -> None:
    program = fill(structure(graph), spec_of(graph))
    assert transposes(program) == []
    sample = next(iter(samples_of(graph, 1)))
    expected = simulate(program, sample, "litert")
    for output, array in run_lite(program, sample, reference=True).items():
        np.testing.assert_array_equal(array, expected[output])


def test_a_flattened_image_that_others_read_too_is_transposed_once() -> None:
    net = Net()
    flat = net.node("Flatten", net.conv(net.input((1, 3, 4, 4)), 3, 4))
    graph = net.graph(net.linear(flat, 64, 3), flat)
    program = fill(structure(graph), None)
    assert len(transposes(program)) == 1
    sample = next(iter(samples_of(graph, 1)))
    expected = float_runner(graph)(sample)
    for output, array in run_lite(program, sample).items():
        np.testing.assert_allclose(array, expected[output], atol=1e-5)


def test_conv1d_lies_with_a_height_of_one_and_keeps_its_rank_at_the_ports() -> None:
    net = Net()
    y = net.node("Conv", net.input((1, 6, 32)), net.weight(8, 6, 5), pads=[2, 2])
    program = fill(structure(net.graph(y)), None)
    assert [(port.name, port.tensor, port.permutation) for port in program.inputs] == [("x", "x", (0, 2, 1))]
    assert program.tensors["x"].shape == (1, 32, 6)
    assert [(port.tensor, port.inverse) for port in program.outputs] == [(y, (0, 2, 1))]
    conv = next(operator for operator in program.operators if operator.kind == "conv_2d")
    assert program.tensors[conv.inputs[0]].shape == (1, 1, 32, 6)
    assert program.tensors[conv.inputs[1]].shape == (8, 1, 5, 6)
    assert transposes(program) == []


def test_a_network_of_conv1d_after_unsqueeze_has_no_transpose() -> None:
    net = Net()
    x = net.node("Unsqueeze", net.input((1, 40)), net.constant([1], np.int64))
    y = net.node("Conv", x, net.weight(4, 1, 5), pads=[2, 2])
    y = net.node("Squeeze", net.node("Conv", y, net.weight(1, 4, 1)), net.constant([1], np.int64))
    graph = net.graph(y)
    program = fill(structure(graph), None)
    assert transposes(program) == []
    sample = next(iter(samples_of(graph, 1)))
    np.testing.assert_allclose(run_lite(program, sample)[y], float_runner(graph)(sample)[y], atol=1e-5)


def test_a_transpose_to_channels_last_and_back_moves_nothing() -> None:
    net = Net()
    x = net.node("Transpose", net.conv(net.input((1, 3, 6, 5)), 3, 4), perm=[0, 2, 3, 1])
    x = net.node("MatMul", x, net.weight(4, 4))
    x = net.conv(net.node("Transpose", x, perm=[0, 3, 1, 2]), 4, 2)
    graph = net.graph(x)
    program = fill(structure(graph), None)
    assert transposes(program) == []
    sample = next(iter(samples_of(graph, 1)))
    np.testing.assert_allclose(run_lite(program, sample)[x], float_runner(graph)(sample)[x], atol=1e-5)


SHAPES = st.tuples(*[st.integers(1, 4)] * 4)


@given(SHAPES)
@settings(deadline=None)
def test_an_arrangement_is_undone_exactly(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    arrangement = channels_last(shape)
    np.testing.assert_array_equal(arrangement.apply(array), array.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(arrangement.undo(arrangement.apply(array), shape), array)
    assert [arrangement.axis(axis) for axis in range(4)] == [0, 3, 1, 2]


@given(SHAPES)
@settings(deadline=None)
def test_a_reshape_is_free_just_where_the_memory_agrees(shape: tuple[int, ...]) -> None:
    flat = (shape[0], int(np.prod(shape[1:])))
    array = np.arange(np.prod(shape)).reshape(shape)
    moved = array.transpose(0, 2, 3, 1).ravel()
    free = same_order(channels_last(shape), shape, Arrangement.same(flat), flat)
    assert free == np.array_equal(moved, array.ravel())


def test_an_operand_lies_as_the_result_it_is_broadcast_to() -> None:
    layout = channels_last((1, 4, 5, 6))
    assert like(layout, (1, 4, 1, 1)).shape == (1, 1, 1, 4)
    flattened = Arrangement((1, 4, 5, 6), (0, 2, 3, 1), (1, 120))
    row = np.arange(120.0).reshape(1, 120)
    expected = row.reshape(4, 5, 6).transpose(1, 2, 0).reshape(1, 120)
    np.testing.assert_array_equal(like(flattened, (1, 120)).apply(row), expected)
    np.testing.assert_array_equal(like(flattened, (1, 1)).apply(np.ones((1, 1))), [[1]])
    with pytest.raises(ValueError, match="merged"):
        flattened.axis(1)

"""Simplified Programs give the same numbers from less work."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from int8_cases import quant
from program_nets import Net, random_net

from leanedge.errors import ModelError
from leanedge.program.simplify import simplify, without_final_softmax
from leanedge.program.simplify.borders import border_sums
from leanedge.program.simplify.intervals import find_intervals
from leanedge.program.simulate import simulate, simulate_tensors
from leanedge.program.simulate.windows import convolve
from leanedge.program.tflite_file import load_tflite
from leanedge.program.types import (
    ConvOptions,
    ElementwiseOptions,
    PadOptions,
    PoolOptions,
    Program,
    ProgramTensor,
    ResizeOptions,
    SoftmaxOptions,
    TransposeOptions,
)
from leanedge.program.weighted import weighted_layer

Array = np.ndarray[Any, Any]

SHARED = Path(os.environ.get("LEANEDGE_SHARED", "")) / "models" / "mlperf_tiny"

MANY = settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def work(program: Program) -> tuple[int, int]:
    """MACs, and parameters with biases."""
    layers = [weighted_layer(program, operator) for operator in program.operators if len(operator.inputs) == 3]
    return sum(layer.macs for layer in layers), sum(layer.weights.size + layer.bias.size for layer in layers)


def some_inputs(program: Program, seed: int = 0) -> list[dict[str, Array]]:
    random = np.random.default_rng(seed)
    shapes = {port.name: program.tensors[port.tensor].shape for port in program.inputs}
    makers: list[Any] = [
        lambda shape: random.integers(-128, 128, shape),
        lambda shape: random.choice([-128, 127], shape),
        lambda shape: np.full(shape, -128),
        lambda shape: np.full(shape, 127),
    ]
    return [{name: make(shape).astype(np.int8) for name, shape in shapes.items()} for make in makers]


def assert_same(before: Program, after: Program) -> None:
    for inputs in some_inputs(before):
        for arithmetic in ("tflm", "litert"):
            old, new = (simulate(program, inputs, arithmetic) for program in (before, after))  # type: ignore[arg-type]
            assert old.keys() == new.keys()
            for name in old:
                np.testing.assert_array_equal(old[name], new[name])


@MANY
@given(st.integers(0, 10**6))
def test_a_simplified_network_gives_the_same_numbers_from_no_more_work(seed: int) -> None:
    before = random_net(seed)
    found = simplify(before)
    assert_same(before, found.program)
    assert work(found.program)[0] <= work(before)[0]
    assert len(found.program.operators) <= len(before.operators)
    assert simplify(found.program).notes == ()


@MANY
@given(st.integers(0, 10**6))
def test_no_number_is_outside_of_its_interval(seed: int) -> None:
    program = random_net(seed)
    intervals = find_intervals(program)
    for inputs in some_inputs(program, seed):
        for name, array in simulate_tensors(
            program, {port.tensor: inputs[port.name] for port in program.inputs}
        ).items():
            channels = array.reshape(-1, array.shape[-1])
            assert (channels.min(axis=0) >= intervals[name].low).all(), name
            assert (channels.max(axis=0) <= intervals[name].high).all(), name


def test_most_drawn_networks_lose_work() -> None:
    pairs = [(random_net(seed), simplify(random_net(seed)).program) for seed in range(30)]
    assert sum(work(after)[0] < work(before)[0] for before, after in pairs) > 25


def constant_channel(zero_shift: int, pad: int) -> tuple[Program, int]:
    """A channel that holds its zero point + `zero_shift`, read by a convolution with that padding."""
    net = Net(1)
    image = net.input((1, 5, 5, 2))
    weights = np.ones((3, 1, 1, 2), np.int8)
    weights[1] = 0
    first = net.emit("conv_2d", [image, *net.constants(image, weights, np.zeros(3, np.int32), 0)], (1, 5, 5, 3))
    source = net.tensors[image].quant
    assert source is not None
    net.tensors[first] = replace(net.tensors[first], quant=quant(0.05, -100))
    net.operators[0] = replace(net.operators[0], options=ConvOptions((1, 1), (1, 1), (0, 0, 0, 0)))
    # A scale of 1 in all: the bias is what comes out.
    name = net.operators[0].inputs[1]
    net.tensors[name] = replace(net.tensors[name], quant=quant(np.full(3, 0.05 / source.scale), np.zeros(3), 0))
    bias = net.tensors[net.operators[0].inputs[2]].data
    assert bias is not None
    bias.array[1] = zero_shift
    size = 5 + 2 * pad - 2
    constants = net.constants(first, np.full((2, 3, 3, 3), 3, np.int8), np.zeros(2, np.int32), 0)
    last = net.emit("conv_2d", [first, *constants], (1, size, size, 2), ConvOptions((1, 1), (1, 1), (pad,) * 4))
    return net.program(last), net.tensors[last].shape[1]


@pytest.mark.parametrize(
    ("zero_shift", "pad", "left"),
    [(0, 0, 2), (9, 0, 2), (0, 1, 2), (9, 1, 3)],
    ids=["zero point", "in the bias", "zero point in padding", "not one number at the border"],
)
def test_a_constant_channel_goes_only_where_it_adds_one_number(zero_shift: int, pad: int, left: int) -> None:
    before, _ = constant_channel(zero_shift, pad)
    assert find_intervals(before)[before.operators[0].output].constant.tolist() == [False, True, False]
    after = simplify(before).program
    assert after.tensors[after.operators[0].output].shape[-1] == left
    assert_same(before, after)


def test_a_channel_that_no_weight_reads_is_not_made() -> None:
    net = Net(3)
    image = net.input((1, 4, 4, 2))
    random = np.random.default_rng(0)
    first_weights = random.integers(1, 127, (4, 1, 1, 2)).astype(np.int8)
    options = ConvOptions((1, 1), (1, 1), (0, 0, 0, 0))
    biases = np.zeros(4, np.int32)
    first = net.emit("conv_2d", [image, *net.constants(image, first_weights, biases, 0)], (1, 4, 4, 4), options)
    second_weights = random.integers(1, 127, (4, 1, 1, 4)).astype(np.int8)
    second_weights[..., 1] = 0
    last = net.emit("conv_2d", [first, *net.constants(first, second_weights, biases, 0)], (1, 4, 4, 4), options)
    before = net.program(last)
    after = simplify(before).program
    assert after.tensors[first].shape == (1, 4, 4, 3)
    assert work(before)[0] - work(after)[0] == 16 * 2 + 16 * 4
    assert_same(before, after)


def chain(*links: tuple[str, tuple[int, ...], Any, Any], scale: float = 0.1, zero: int = 4) -> Program:
    """An input, then kinds in a row, each with (kind, shape of its output, its quantization or None, options)."""
    net = Net(0)
    net.tensors["t0"] = ProgramTensor("t0", (1, 4, 4, 3), "int8", quant(scale, zero))
    net.inputs.append("t0")
    last = "t0"
    for kind, shape, scales, options in links:
        source, last = last, net.emit(kind, [last], shape, options, last)
        net.tensors[last] = replace(net.tensors[last], quant=scales or net.tensors[source].quant)
    return net.program(last)


IMAGE = (1, 4, 4, 3)
PIXELS = PoolOptions((1, 1), (1, 1), (0, 0, 0, 0))


@pytest.mark.parametrize(
    ("program", "left"),
    [
        (chain(("relu", IMAGE, None, None), ("reshape", (1, 48), None, None), ("reshape", (1, 3, 16), None, None)), 2),
        (chain(("relu", IMAGE, None, None), ("reshape", (16, 3), None, None), ("reshape", IMAGE, None, None)), 1),
        (chain(("relu", IMAGE, None, None), ("transpose", IMAGE, None, TransposeOptions((0, 1, 2, 3)))), 1),
        (chain(("relu", IMAGE, None, None), ("pad", IMAGE, None, PadOptions(((0, 0),) * 4))), 1),
        (chain(("relu", IMAGE, None, None), ("relu", IMAGE, None, None)), 1),
        (chain(("relu", IMAGE, None, None), ("quantize", IMAGE, None, None)), 1),
        (chain(("relu", IMAGE, None, None), ("quantize", IMAGE, quant(0.05, 8), None)), 2),
        (chain(("quantize", IMAGE, quant(0.1, 4), None), ("quantize", IMAGE, quant(0.2, 0), None)), 1),
        (chain(("quantize", IMAGE, quant(0.2, 0), None), ("quantize", IMAGE, quant(0.1, 4), None)), 2),
        (chain(("reshape", IMAGE, None, None)), 1),
        (chain(("relu", IMAGE, None, None), ("average_pool", IMAGE, None, PIXELS)), 1),
        (chain(("relu", IMAGE, None, None), ("max_pool", IMAGE, None, PoolOptions((3, 3), (1, 1), (1, 1, 1, 1)))), 2),
        (chain(("relu", IMAGE, None, None), ("resize_nearest", IMAGE, None, ResizeOptions(True, False))), 1),
        (chain(("relu", IMAGE, None, None), ("resize_bilinear", IMAGE, None, ResizeOptions(False, True))), 1),
    ],
    ids=[
        "reshapes",
        "back",
        "transpose",
        "pad",
        "relus",
        "copy",
        "requantize",
        "first",
        "lossy",
        "ports",
        "pool",
        "wider",
        "nearest",
        "bilinear",
    ],
)
def test_operators_that_change_nothing_go(program: Program, left: int) -> None:
    after = simplify(program).program
    assert len(after.operators) == left
    assert_same(program, after)


def test_outputs_before_a_softmax_are_the_logits() -> None:
    whole = chain(
        ("reshape", (1, 48), None, None), ("softmax", (1, 48), quant(1 / 256, -128), SoftmaxOptions()), zero=-128
    )
    logits = without_final_softmax(whole)
    assert [operator.kind for operator in logits.operators] == ["reshape"]
    [name] = [port.name for port in whole.outputs]
    inputs = some_inputs(whole)[0]
    [reshaped] = [operator.output for operator in whole.operators if operator.kind == "reshape"]
    before = simulate_tensors(whole, {"t0": inputs["t0"]})[reshaped]
    np.testing.assert_array_equal(simulate(logits, inputs)[name], before)
    with pytest.raises(ModelError, match="no output is a softmax"):
        without_final_softmax(logits)


@pytest.mark.skipif(not SHARED.is_dir(), reason="LEANEDGE_SHARED holds no MLPerf Tiny models")
def test_half_of_the_visual_wake_words_model_is_dead() -> None:
    before = load_tflite(SHARED / "vww.tflite")
    intervals = find_intervals(before)
    layers = [operator for operator in before.operators if len(operator.inputs) == 3]
    assert sum(len(intervals[layer.output].low) for layer in layers) == 2738
    assert sum(int(intervals[layer.output].constant.sum()) for layer in layers) >= 1651
    found = simplify(before)
    assert work(before) == (7_489_664, 210_850)
    assert work(found.program) == (3_727_313, 30_080)
    assert_same(before, found.program)


@pytest.mark.parametrize("forked", [False, True])
def test_a_relu_goes_into_the_layer_before_where_nothing_else_reads_that(forked: bool) -> None:
    net = Net(5)
    image = net.input((1, 4, 4, 2))
    first = net.conv_same(image, 3)
    net.operators[0] = replace(net.operators[0], options=ConvOptions((1, 1), (1, 1), (0, 0, 0, 0)))
    last = net.emit("relu", [first], (1, 4, 4, 3), None, first)
    if forked:
        last = net.emit("add", [first, last], (1, 4, 4, 3), ElementwiseOptions())
    before = net.program(last)
    after = simplify(before).program
    assert [operator.kind for operator in after.operators] == (["conv_2d", "relu", "add"] if forked else ["conv_2d"])
    assert_same(before, after)


@MANY
@given(st.data())
def test_sums_at_the_borders_are_those_of_the_convolution(data: st.DataObject) -> None:
    draw = data.draw
    pads = tuple(draw(st.integers(0, 5)) for _ in range(4))
    kernel, strides = (
        (draw(st.integers(1, 4)), draw(st.integers(1, 4))),
        (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
    )
    dilation = draw(st.integers(1, 2))
    spans = [(size - 1) * dilation + 1 for size in kernel]
    height, width = (draw(st.integers(max(1, span - pads[2 * axis]), 14)) for axis, span in enumerate(spans))
    rows = (height + pads[0] + pads[1] - spans[0]) // strides[0] + 1
    columns = (width + pads[2] + pads[3] - spans[1]) // strides[1] + 1
    options = ConvOptions(strides, (dilation, dilation), pads)  # type: ignore[arg-type]
    taps = np.random.default_rng(0).integers(-99, 99, (3, *kernel))
    source = ProgramTensor("x", (1, height, width, 1), "int8")
    out = ProgramTensor("y", (1, rows, columns, 3), "int8")
    whole = convolve(np.ones(source.shape, np.int64), taps[..., None], options, out.shape).reshape(-1, 3)
    np.testing.assert_array_equal(np.unique(border_sums(taps, options, source, out), axis=0), np.unique(whole, axis=0))

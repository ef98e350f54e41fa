"""The numpy reference equals TensorFlow Lite Micro and LiteRT's reference kernels bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from int8_cases import CASES, program, quant
from oracles import NOT_IN_TFLM, litert, tflm
from program_nets import random_net

from leanedge.compress.types import TensorQuant
from leanedge.export.tflite_file import tflite_bytes
from leanedge.program.fill import INTEGER_KINDS
from leanedge.program.fixed_point import quantized_multiplier, quantized_multipliers, rounding_shift, scale_by
from leanedge.program.simulate import simulate, simulate_samples, simulate_tensors
from leanedge.program.simulate.real import quantize
from leanedge.program.types import (
    ConvOptions,
    Dense,
    ElementwiseOptions,
    FullyConnectedOptions,
    Port,
    Program,
    ProgramOperator,
    ProgramTensor,
    StridedSliceOptions,
    TransposeOptions,
)

Array = np.ndarray[Any, Any]

FEW = settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def fed(drawn: Program, seed: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {
        port.tensor: random.integers(-128, 128, drawn.tensors[port.tensor].shape).astype(np.int8)
        for port in drawn.inputs
    }


def test_every_integer_kind_is_tried() -> None:
    assert set(CASES) == (INTEGER_KINDS - {"reshape"}) | {"quantize"}


@pytest.mark.parametrize("kind", CASES)
def test_an_operator_equals_both_oracles(kind: Any) -> None:
    @FEW
    @given(CASES[kind], st.integers(0, 2**32))
    def equal(drawn: Program, seed: int) -> None:
        arrays = fed(drawn, seed)
        if kind not in NOT_IN_TFLM:
            ours = simulate_tensors(drawn, arrays, "tflm")
            for port, theirs in zip(drawn.outputs, tflm(tflite_bytes(drawn), arrays, len(drawn.outputs)), strict=True):
                np.testing.assert_array_equal(ours[port.tensor], theirs)
        ours = simulate_tensors(drawn, arrays, "litert")
        for port, theirs in zip(drawn.outputs, litert(tflite_bytes(drawn), arrays), strict=True):
            np.testing.assert_array_equal(ours[port.tensor], theirs)

    equal()


@pytest.mark.parametrize("kind", ["add", "sub", "mul"])
@pytest.mark.parametrize("scales", [(0.02, 0.031, 0.05), (0.5, 0.003, 0.4), (0.1, 0.1, 0.1)])
def test_element_wise_arithmetic_equals_both_oracles_on_all_pairs(
    kind: Any, scales: tuple[float, float, float]
) -> None:
    left, right, out = (quant(scale, zero) for scale, zero in zip(scales, (3, -7, 11), strict=True))
    shape = (1, 16, 16, 256)
    drawn = program(kind, [(shape, left), (shape, right)], [(shape, out)], ElementwiseOptions())
    numbers = np.arange(-128, 128, dtype=np.int8)
    arrays = {
        "i0": np.broadcast_to(numbers, shape).copy(),
        "i1": np.broadcast_to(numbers.reshape(16, 16, 1), shape).copy(),
    }
    np.testing.assert_array_equal(simulate_tensors(drawn, arrays)["o0"], tflm(tflite_bytes(drawn), arrays, 1)[0])
    np.testing.assert_array_equal(
        simulate_tensors(drawn, arrays, "litert")["o0"], litert(tflite_bytes(drawn), arrays)[0]
    )


def test_fully_connected_is_rounded_once_in_litert_and_twice_in_tflm() -> None:
    weights = (np.array([[1]], np.int8), quant(1.0, 0))
    bias = (np.array([-3151 + 1], np.int32), quant(1.0, 0, None, "int32"))
    scale = 2.0**37 / 1199154462  # so that -3151 becomes -27.4925, whose doubling high product is exactly -27.5
    one = program(
        "fully_connected",
        [((1, 1), quant(1.0, 0))],
        [((1, 1), quant(scale, 0))],
        FullyConnectedOptions(),
        [weights, bias],
    )
    arrays = {"i0": np.array([[-1]], np.int8)}
    assert simulate_tensors(one, arrays, "tflm")["o0"].item() == tflm(tflite_bytes(one), arrays, 1)[0].item() == -28
    assert simulate_tensors(one, arrays, "litert")["o0"].item() == litert(tflite_bytes(one), arrays)[0].item() == -27


@given(st.floats(1e-9, 1e4))
@settings(deadline=None)
def test_a_quantized_multiplier_is_within_half_a_unit_of_31_bits(real: float) -> None:
    integer, power = quantized_multiplier(real)
    assert 1 << 30 <= integer < 1 << 31
    assert abs(integer * 2.0 ** (power - 31) / real - 1) <= 2.0**-31


@given(st.integers(-(2**30), 2**30), st.integers(0, 30))
@settings(deadline=None)
def test_a_rounding_shift_rounds_half_away_from_zero(number: int, bits: int) -> None:
    exact = abs(number) / 2**bits
    expected = int(np.floor(exact + 0.5)) * (1 if number >= 0 else -1)
    assert int(rounding_shift(np.array(number), bits)) == expected


@given(st.integers(-(2**20), 2**20), st.floats(1e-5, 4.0))
@settings(deadline=None)
def test_scaling_is_within_one_of_the_real_product(number: int, real: float) -> None:
    assert abs(int(scale_by(np.array(number), *quantized_multiplier(real))) - number * real) <= 1.0


def test_a_grouped_convolution_equals_both_oracles() -> None:
    random = np.random.default_rng(3)
    weights = (random.integers(-127, 128, (6, 3, 3, 2)).astype(np.int8), quant(np.full(6, 0.01), np.zeros(6), 0))
    bias = (random.integers(-500, 500, 6).astype(np.int32), quant(np.full(6, 0.0005), np.zeros(6), 0, "int32"))
    drawn = program(
        "conv_2d",
        [((1, 5, 5, 4), quant(0.05, -3))],
        [((1, 5, 5, 6), quant(0.2, 4))],
        ConvOptions((1, 1), (1, 1), (1, 1, 1, 1), "relu"),
        [weights, bias],
    )
    arrays = fed(drawn, 0)
    ours = simulate_tensors(drawn, arrays)["o0"]
    assert len(np.unique(ours)) > 20
    np.testing.assert_array_equal(ours, tflm(tflite_bytes(drawn), arrays, 1)[0])
    np.testing.assert_array_equal(ours, litert(tflite_bytes(drawn), arrays)[0])


def test_floats_become_integers_half_away_from_zero() -> None:
    tensors = {
        "i0": ProgramTensor("i0", (7,), "float32"),
        "o0": ProgramTensor("o0", (7,), "int8", quant(0.5, 3)),
    }
    quantize = Program(
        tensors, (ProgramOperator("op", "quantize", ("i0",), ("o0",)),), (Port("i0", "i0"),), (Port("o0", "o0"),)
    )
    arrays = {"i0": np.array([0.25, -0.25, 0.75, -0.75, np.float32(0.24999999), 1e9, -1e9], np.float32)}
    ours = simulate_tensors(quantize, arrays)["o0"]
    np.testing.assert_array_equal(ours, [4, 2, 5, 1, 3, 127, -128])
    np.testing.assert_array_equal(ours, litert(tflite_bytes(quantize), arrays)[0])


def test_an_operator_of_mixed_types_has_no_reference() -> None:
    tensors = {
        "i0": ProgramTensor("i0", (1, 4), "float32"),
        "c0": ProgramTensor("c0", (2, 4), "int8", quant(0.1, 0), Dense(np.ones((2, 4), np.int8))),
        "c1": ProgramTensor("c1", (2,), "float32", None, Dense(np.zeros(2, np.float32))),
        "o0": ProgramTensor("o0", (1, 2), "float32"),
    }
    hybrid = ProgramOperator("op", "fully_connected", ("i0", "c0", "c1"), ("o0",), FullyConnectedOptions())
    with pytest.raises(ValueError, match="no reference for fully_connected of float32, int8"):
        simulate(Program(tensors, (hybrid,), (Port("i0", "i0"),), (Port("o0", "o0"),)), {"i0": np.zeros((1, 4))})


def test_an_input_of_another_shape_is_refused() -> None:
    drawn = program("relu", [((1, 4), quant(0.1, 0))], [((1, 4), quant(0.1, 0))])
    with pytest.raises(ValueError, match=r"i0 has shape \(1, 4\), not \(1, 5\)"):
        simulate(drawn, {"i0": np.zeros((1, 5), np.int8)})


def test_a_tie_of_logistic_is_rounded_from_float_in_litert() -> None:
    scale = quant(10 ** (-1.5630345205883798), 0)
    one = program("logistic", [((1, 16, 16), scale)], [((1, 16, 16), quant(1 / 256, -128))])
    arrays = {"i0": np.arange(-128, 128, dtype=np.int8).reshape(1, 16, 16)}
    micro, lite = (simulate_tensors(one, arrays, arithmetic)["o0"] for arithmetic in ("tflm", "litert"))
    assert np.argwhere(micro != lite).tolist() == [[0, 8, 2]]
    np.testing.assert_array_equal(micro, tflm(tflite_bytes(one), arrays, 1)[0])
    np.testing.assert_array_equal(lite, litert(tflite_bytes(one), arrays)[0])


@given(st.lists(st.floats(0, 1e30), min_size=1, max_size=20))
@settings(deadline=None)
def test_many_multipliers_are_each_as_one(reals: list[float]) -> None:
    integers, powers = quantized_multipliers(np.array(reals))
    assert list(zip(integers.tolist(), powers.tolist(), strict=True)) == [quantized_multiplier(real) for real in reals]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.integers(0, 10**6))
def test_samples_together_give_what_each_gives_alone(seed: int) -> None:
    net = random_net(seed)
    [port], [output] = net.inputs, net.outputs
    samples = np.random.default_rng(seed).integers(-128, 128, (5, *net.tensors[port.tensor].shape[1:])).astype(np.int8)
    together = simulate_samples(net, {port.name: samples})[output.name]
    alone = [simulate(net, {port.name: sample[None]})[output.name] for sample in samples]
    np.testing.assert_array_equal(together, np.concatenate(alone))


@pytest.mark.parametrize(
    ("kind", "shape", "out", "options"),
    [
        ("transpose", (1, 2, 3), (2, 1, 3), TransposeOptions((1, 0, 2))),
        ("reshape", (1, 4, 3), (4, 3), None),
        ("strided_slice", (1, 4, 3), (1, 2, 3), StridedSliceOptions((0, 0, 0), (1, 4, 3), (1, 2, 1))),
    ],
)
def test_operators_that_name_the_batch_run_one_by_one(kind: Any, shape: Any, out: Any, options: Any) -> None:
    scale = quant(0.1, 0)
    one = program(kind, [(shape, scale)], [(out, scale)], options)
    back = ProgramOperator("back", "reshape", ("o0",), ("end",))
    end = ProgramTensor("end", (1, int(np.prod(out))), "int8", scale)
    one = Program({**one.tensors, "end": end}, (*one.operators, back), one.inputs, (Port("end", "end"),))
    samples = np.random.default_rng(0).integers(-128, 128, (3, *shape[1:])).astype(np.int8)
    together = simulate_samples(one, {"i0": samples})["end"]
    np.testing.assert_array_equal(together, np.concatenate([simulate(one, {"i0": x[None]})["end"] for x in samples]))


def test_samples_of_unequal_number_are_refused() -> None:
    drawn = program("add", [((1, 4), quant(0.1, 0))] * 2, [((1, 4), quant(0.1, 0))], ElementwiseOptions())
    with pytest.raises(ValueError, match="samples"):
        simulate_samples(drawn, {"i0": np.zeros((2, 4), np.int8), "i1": np.zeros((3, 4), np.int8)})


def test_infinities_saturate() -> None:
    tensor = ProgramTensor("y", (2,), "int8", TensorQuant("int8", np.asarray(0.5, np.float32), np.asarray(3, np.int64)))
    np.testing.assert_array_equal(quantize(np.array([np.inf, -np.inf], np.float32), tensor), [127, -128])


def test_scales_of_fully_connected_are_multiplied_in_double() -> None:
    """A sum that lies 1e-6 from a tie: the product of scales rounded to float32 would give -22."""
    scales = [np.float32(0.024790890514850616), np.float32(0.0195566825568676), np.float32(0.36449846625328064)]
    tensors = {
        "x": ProgramTensor("x", (1, 4), "int8", quant(float(scales[0]), 5)),
        "w": ProgramTensor("w", (1, 4), "int8", quant(float(scales[1]), 0), Dense(np.zeros((1, 4), np.int8))),
        "b": ProgramTensor(
            "b", (1,), "int32", quant(scales[0] * scales[1], 0, dtype="int32"), Dense(np.array([-88337], np.int32))
        ),
        "y": ProgramTensor("y", (1, 1), "int8", quant(float(scales[2]), 96)),
    }
    operator = ProgramOperator("fc", "fully_connected", ("x", "w", "b"), ("y",), FullyConnectedOptions())
    layer = Program(tensors, (operator,), (Port("x", "x"),), (Port("y", "y"),))
    sample = {"x": np.zeros((1, 4), np.int8)}
    found = simulate(layer, sample)["y"]
    assert found[0, 0] == -21
    np.testing.assert_array_equal(tflm(tflite_bytes(layer), sample, 1)[0], found)

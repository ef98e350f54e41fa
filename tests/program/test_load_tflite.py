"""A .tflite file loaded into a Program computes what TensorFlow Lite Micro computes from the file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from int8_cases import CASES, program, quant
from int16_cases import KINDS_16, as_int16
from oracles import NOT_IN_TFLM, litert, tflm

from leanedge.export.tflite_file import tflite_bytes
from leanedge.program.simulate import simulate
from leanedge.program.tflite_file import load_tflite
from leanedge.program.types import Program, ProgramTensor
from leanedge.program.weighted import weighted_layer

Array = np.ndarray[Any, Any]

FEW = settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))

SHARED = Path(os.environ.get("LEANEDGE_SHARED", "")) / "models" / "mlperf_tiny"

MACS = {"kws": 2_656_768, "vww": 7_489_664, "ic": 12_501_632, "ad": 264_192, "sww": 826_368}
"""Published for the reference models."""


def patterns(shape: tuple[int, ...]) -> list[Array]:
    """Full-range random, extreme and smooth inputs."""
    random = np.random.default_rng(7)
    waves = np.sin(np.linspace(0, 20, int(np.prod(shape)))).reshape(shape)
    return [
        random.integers(-128, 128, shape).astype(np.int8),
        random.choice(np.array([-128, 127], np.int8), shape),
        np.full(shape, -128, np.int8),
        np.full(shape, 127, np.int8),
        np.rint(waves * 127).astype(np.int8),
    ]


@pytest.mark.parametrize("model", MACS)
@pytest.mark.skipif(not SHARED.is_dir(), reason="LEANEDGE_SHARED holds no MLPerf Tiny models")
def test_a_reference_model_equals_tflm(model: str) -> None:
    path = SHARED / f"{model}.tflite"
    program = load_tflite(path)
    weighted = [operator for operator in program.operators if len(operator.inputs) == 3]
    assert sum(weighted_layer(program, operator).macs for operator in weighted) == MACS[model]
    port = program.inputs[0]
    for array in patterns(program.tensors[port.tensor].shape):
        ours = simulate(program, {port.name: array})[program.outputs[0].name]
        np.testing.assert_array_equal(ours, tflm(path.read_bytes(), {port.name: array}, 1)[0])


LOADED = sorted(set(CASES) - {"batch_matmul", "maximum", "minimum", "prelu", "gather"})
"""Kinds that a made file can hold; the rest are refused."""


@pytest.mark.parametrize("kind", LOADED)
def test_a_file_of_one_operator_equals_tflm(kind: Any) -> None:
    @FEW
    @given(CASES[kind], st.integers(0, 2**32))
    def equal(drawn: Program, seed: int) -> None:
        data = tflite_bytes(drawn)
        loaded = load_tflite(data)
        assert [operator.kind for operator in loaded.operators][-1] == kind
        assert [port.name for port in loaded.inputs] == [port.name for port in drawn.inputs]
        random = np.random.default_rng(seed)
        arrays = {
            port.name: random.integers(-128, 128, loaded.tensors[port.tensor].shape).astype(np.int8)
            for port in loaded.inputs
        }
        made = tflm(data, arrays, len(loaded.outputs)) if kind not in NOT_IN_TFLM else simulate(drawn, arrays).values()
        for ours, theirs in zip(simulate(loaded, arrays).values(), made, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    equal()


OTHERWISE_IN_LITERT = {"softmax", "leaky_relu"}
"""int16 kinds whose last bit LiteRT rounds otherwise; `simulate` has TFLM's arithmetic alone of them."""


@pytest.mark.parametrize("kind", KINDS_16)
def test_an_int16_file_of_one_operator_equals_both_oracles(kind: Any) -> None:
    biases = ["int64", "int32"] if kind in ("conv_2d", "fully_connected") else ["int64"]

    @FEW
    @given(CASES[kind], st.sampled_from(biases), st.integers(0, 2**32))
    def equal(drawn: Program, bias: str, seed: int) -> None:
        data = tflite_bytes(as_int16(drawn, bias))
        loaded = load_tflite(data)
        random = np.random.default_rng(seed)
        arrays = {
            port.name: random.integers(-32768, 32768, loaded.tensors[port.tensor].shape).astype(np.int16)
            for port in loaded.inputs
        }
        made = tflm(data, arrays, len(loaded.outputs))
        for ours, theirs in zip(simulate(loaded, arrays).values(), made, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        # LiteRT reads a bias of int16 layers as int64, whatever its type.
        if bias == "int32" or kind in OTHERWISE_IN_LITERT:
            return
        made = litert(data, arrays)
        for ours, theirs in zip(simulate(loaded, arrays, "litert").values(), made, strict=True):
            np.testing.assert_array_equal(ours, theirs)

    equal()


@pytest.mark.parametrize("kind", ["logistic", "tanh"])
@pytest.mark.parametrize("scale", [2**-12, 2**-11, 2**-13, 3e-4, 1e-3, 1e-5, 0.01])
def test_an_int16_table_equals_tflm_at_every_number(kind: Any, scale: float) -> None:
    shape = (1, 256, 256)
    [one] = [(shape, quant(scale, 0, None, "int16"))]
    data = tflite_bytes(program(kind, [one], [(shape, quant(1 / 32768, 0, None, "int16"))]))
    arrays = {"i0": np.arange(-32768, 32768).astype(np.int16).reshape(shape)}
    np.testing.assert_array_equal(simulate(load_tflite(data), arrays)["o0"], tflm(data, arrays, 1)[0])


TYPES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}


@pytest.mark.parametrize(
    ("source", "target"),
    [("int8", "int16"), ("int16", "int8"), ("uint8", "int8"), ("int8", "uint8"), ("int16", "int16"), ("int8", "int8")],
)
@pytest.mark.parametrize("ratio", [1.0, 0.37, 1 / 256, 200.0])
def test_requantization_between_types_equals_tflm_at_every_number(source: str, target: str, ratio: float) -> None:
    zeros = {"int8": -7, "uint8": 121, "int16": 0}
    numbers = np.arange(TYPES[source][0], TYPES[source][1] + 1).astype(source).reshape(1, -1)
    quants = quant(0.05 * ratio, zeros[source], None, source), quant(0.05, zeros[target], None, target)
    data = tflite_bytes(program("quantize", [(numbers.shape, quants[0])], [(numbers.shape, quants[1])]))
    ours = simulate(load_tflite(data), {"i0": numbers})["o0"]
    assert ours.dtype == target
    np.testing.assert_array_equal(ours, tflm(data, {"i0": numbers}, 1)[0])


@pytest.mark.parametrize("source", TYPES)
def test_real_numbers_out_equal_tflm_at_every_number(source: str) -> None:
    numbers = np.arange(TYPES[source][0], TYPES[source][1] + 1).astype(source).reshape(1, -1)
    one = program("dequantize", [(numbers.shape, quant(0.0371, 0, None, source))], [(numbers.shape, quant(1, 0))])
    one = replace(one, tensors={**one.tensors, "o0": ProgramTensor("o0", numbers.shape, "float32")})
    data = tflite_bytes(one)
    ours = simulate(load_tflite(data), {"i0": numbers})["o0"]
    np.testing.assert_array_equal(ours, tflm(data, {"i0": numbers}, 1)[0])

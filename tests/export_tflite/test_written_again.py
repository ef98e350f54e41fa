"""A loaded .tflite file, simplified or not, is written back as a file that gives the same numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_micro
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from leanedge.compress.types import TensorQuant
from leanedge.export.tflite_file import tflite_bytes
from leanedge.program.simplify import simplify
from leanedge.program.simulate import simulate
from leanedge.program.tflite_file import load_tflite
from leanedge.program.types import ConvOptions, Dense, PadOptions, Port, Program, ProgramOperator, ProgramTensor

Array = np.ndarray[Any, Any]

SHARED = Path(os.environ.get("LEANEDGE_SHARED", "")) / "models" / "mlperf_tiny"


def litert(data: bytes, array: Array) -> Array:
    interpreter = Interpreter(
        model_content=data, num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], array)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def tflm(data: bytes, array: Array) -> Array:
    interpreter = tflite_micro.runtime.Interpreter.from_bytes(data, arena_size=1 << 20)
    interpreter.set_input(array, 0)
    interpreter.invoke()
    return np.array(interpreter.get_output(0))


@pytest.mark.parametrize("model", ["kws", "vww", "ic", "ad", "sww"])
@pytest.mark.skipif(not SHARED.is_dir(), reason="LEANEDGE_SHARED holds no MLPerf Tiny models")
def test_a_reference_model_written_again_gives_the_same_numbers(model: str) -> None:
    original = (SHARED / f"{model}.tflite").read_bytes()
    program = load_tflite(original)
    again, smaller = tflite_bytes(program), tflite_bytes(simplify(program).program)
    shape = program.tensors[program.inputs[0].tensor].shape
    array = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    for run in (litert, tflm):
        expected = run(original, array)
        np.testing.assert_array_equal(run(again, array), expected)
        np.testing.assert_array_equal(run(smaller, array), expected)


def padded(pads: tuple[tuple[int, int], ...]) -> Program:
    """A pad, then a convolution with 3 x 3 windows."""
    random = np.random.default_rng(1)

    def quant(scale: float, zero: int, dtype: Any = "int8") -> TensorQuant:
        return TensorQuant(dtype, np.array(scale, np.float32), np.array(zero, np.int64))

    height, width = (6 + sum(pair) for pair in pads[1:3])
    weights, bias = random.integers(-127, 128, (4, 3, 3, 2)), random.integers(-500, 500, 4)
    tensors = [
        ProgramTensor("x", (1, 6, 6, 2), "int8", quant(0.1, -7)),
        ProgramTensor("padded", (1, height, width, 2), "int8", quant(0.1, -7)),
        ProgramTensor("w", (4, 3, 3, 2), "int8", quant(0.01, 0), Dense(weights.astype(np.int8))),
        ProgramTensor("b", (4,), "int32", quant(0.001, 0, "int32"), Dense(bias.astype(np.int32))),
        ProgramTensor("y", (1, height - 2, width - 2, 4), "int8", quant(0.4, 3)),
    ]
    operators = (
        ProgramOperator("pad", "pad", ("x",), ("padded",), PadOptions(pads)),
        ProgramOperator(
            "conv", "conv_2d", ("padded", "w", "b"), ("y",), ConvOptions((1, 1), (1, 1), (0, 0, 0, 0), "none")
        ),
    )
    return Program({one.name: one for one in tensors}, operators, (Port("x", "x"),), (Port("y", "y"),))


@pytest.mark.parametrize(
    ("pads", "kinds"),
    [
        (((0, 0), (1, 1), (1, 1), (0, 0)), ["conv_2d"]),
        (((0, 0), (2, 0), (1, 1), (0, 0)), ["pad", "conv_2d"]),
        (((0, 0), (0, 0), (0, 1), (0, 0)), ["pad", "conv_2d"]),
    ],
)
def test_pads_that_are_not_same_become_an_operator_again(pads: Any, kinds: list[str]) -> None:
    before = padded(pads)
    fused = simplify(before).program
    assert [operator.kind for operator in fused.operators] == ["conv_2d"]
    data = tflite_bytes(fused)
    loaded = load_tflite(data)
    assert [operator.kind for operator in loaded.operators] == kinds
    array = np.random.default_rng(0).integers(-128, 128, (1, 6, 6, 2)).astype(np.int8)
    expected = simulate(before, {"x": array})["y"]
    np.testing.assert_array_equal(simulate(loaded, {"x": array})["y"], expected)
    np.testing.assert_array_equal(litert(data, array), expected)
    np.testing.assert_array_equal(tflm(data, array), expected)

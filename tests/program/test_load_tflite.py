"""A .tflite file loaded into a Program computes what TensorFlow Lite Micro computes from the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tflite_micro

from leanedge.program.simulate import simulate
from leanedge.program.tflite_file import load_tflite
from leanedge.program.weighted import weighted_layer

Array = np.ndarray[Any, Any]

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
    oracle = tflite_micro.runtime.Interpreter.from_file(str(path))
    port = program.inputs[0]
    for array in patterns(program.tensors[port.tensor].shape):
        oracle.set_input(array, 0)
        oracle.invoke()
        ours = simulate(program, {port.name: array})[program.outputs[0].name]
        np.testing.assert_array_equal(ours, oracle.get_output(0))

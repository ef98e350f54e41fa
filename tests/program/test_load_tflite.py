"""A .tflite file loaded into a Program computes what TensorFlow Lite Micro computes from the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from int8_cases import CASES
from micro import NOT_IN_TFLM, tflm

from leanedge.export.tflite_file import tflite_bytes
from leanedge.program.simulate import simulate
from leanedge.program.tflite_file import load_tflite
from leanedge.program.types import Program
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

"""What is no .tflite file, is damaged, or is not all integer: always a clear error, never anything else."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tflite
from hypothesis import given, settings
from hypothesis import strategies as st
from int8_cases import quant
from one_operator import OneOperator

from benchmarks.fuzz_tflite import damage, made_files, outcome
from leanedge.errors import InputError, ModelError, UnsupportedOperator
from leanedge.program.tflite_file import load_tflite
from leanedge.program.tflite_file.read import LARGEST_TENSOR

if TYPE_CHECKING:
    from pathlib import Path

FILES = made_files()

OP = tflite.BuiltinOperator


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.integers(0, 2**32))
def test_a_damaged_file_gives_a_clear_error_or_a_program(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(4):
        made = outcome(damage(rng.choice(FILES), FILES, rng), further=True)
        assert made in ("ModelError", "UnsupportedOperator", "simplified")


def test_damage_reaches_all_depths() -> None:
    rng = random.Random(0)
    found = {outcome(damage(rng.choice(FILES), FILES, rng), further=False) for _ in range(400)}
    assert found == {"ModelError", "UnsupportedOperator", "loaded"}


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_behind_the_mark_of_the_format_give_a_clear_error(tail: bytes) -> None:
    with pytest.raises(ModelError):
        load_tflite(b"\x10\0\0\0TFL3" + tail)


@pytest.mark.parametrize("size", range(0, 400, 7))
def test_a_truncated_file_gives_a_clear_error(size: int) -> None:
    with pytest.raises(ModelError):
        load_tflite(FILES[0][:size])


def test_a_path_that_is_no_file_gives_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="can't be read"):
        load_tflite(tmp_path / "none.tflite")
    with pytest.raises(ModelError, match="can't be read"):
        load_tflite(tmp_path)
    (tmp_path / "text.tflite").write_text("no flatbuffer, but text")
    with pytest.raises(ModelError, match=r"is no \.tflite file"):
        load_tflite(tmp_path / "text.tflite")


WEIGHTS = np.ones((4, 4), np.int8)
PER_INPUT = quant(np.full(4, 0.1), np.zeros(4), 1)
SHIFTED = quant(0.1, 3)


@pytest.mark.parametrize(
    ("data", "error", "parts"),
    [
        (OneOperator().input().data(OP.FLOOR), UnsupportedOperator, ["operator 0 (FLOOR)", "not supported", "ONNX"]),
        (OneOperator().input("float32", quant=None).data(OP.RELU, dtype="float32"), UnsupportedOperator, [
            "operator 0 (RELU)", "tensor 0 (x, float32 [1, 4])", "int8, int16", "full integer quantization",
        ]),
        (OneOperator().input("uint8").data(OP.RELU, dtype="uint8"), UnsupportedOperator, ["tensor 0 (x, uint8 [1,"]),
        (OneOperator().input("int16").data(OP.HARD_SWISH, dtype="int16"), UnsupportedOperator, ["allowed: int8"]),
        (OneOperator().input(quant=None).data(OP.RELU), UnsupportedOperator, ["tensor 0", "has no quantization"]),
        (OneOperator().input(quant=quant(-1.0, 0)).data(OP.RELU), ModelError, ["scale that is no positive number"]),
        (OneOperator().input(quant=quant(np.nan, 0)).data(OP.RELU), ModelError, ["scale that is no positive number"]),
        (OneOperator().input(quant=quant(1e29, 0)).data(OP.RELU), UnsupportedOperator, ["x are 1e+30 times that of y"]),
        (OneOperator().input(quant=quant(1.0, 200)).data(OP.RELU), ModelError, ["zero point outside of int8"]),
        (OneOperator().input("int16", quant=SHIFTED).data(OP.RELU, dtype="int16"), UnsupportedOperator, ["zero point"]),
        (OneOperator().input().constant(WEIGHTS, quant=PER_INPUT).data(OP.FULLY_CONNECTED), UnsupportedOperator, [
            "operator 0 (FULLY_CONNECTED)", "scales along axis 1", "axis 0",
        ]),
        (OneOperator().input().constant(WEIGHTS, quant=SHIFTED).data(OP.FULLY_CONNECTED), UnsupportedOperator, [
            "has a zero point",
        ]),
        (OneOperator().input().input(shape=(4, 4)).data(OP.FULLY_CONNECTED), UnsupportedOperator, ["is not constant"]),
        (OneOperator().input().data(OP.RELU, shape=(1, 5)), ModelError, ["should have the shape [1, 4]"]),
        (OneOperator().input(shape=(-1, 4)).data(OP.RELU), ModelError, ["tensor 0 has the shape (-1, 4)"]),
        (OneOperator().input(shape=(1 << 15, 1 << 15)).data(OP.RELU), ModelError, [str(LARGEST_TENSOR)]),
        (OneOperator().input().data(OP.SOFTMAX), ModelError, ["operator 0 (SOFTMAX): beta 0.0"]),
    ],
)  # fmt: skip
def test_what_is_refused_says_which_operator_which_tensor_and_what_to_do(
    data: bytes, error: type[InputError], parts: list[str]
) -> None:
    with pytest.raises(error) as caught:
        load_tflite(data)
    assert caught.value.exit_code == 2
    for part in parts:
        assert part in str(caught.value)

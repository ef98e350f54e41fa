"""Forms of operators that are read but not written: masks, left-out operands, other codes for the same thing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tflite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from int8_cases import quant
from one_operator import OneOperator
from oracles import tflm

from leanedge.errors import InputError
from leanedge.program.simulate import simulate
from leanedge.program.tflite_file import load_tflite

OP = tflite.BuiltinOperator
FEW = settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def assert_equals_tflm(data: bytes, dtype: Any = np.int8) -> None:
    program = load_tflite(data)
    [port] = program.inputs
    random, shape = np.random.default_rng(0), program.tensors[port.tensor].shape
    if dtype == np.float32:
        array = (random.normal(size=shape) * 30).astype(np.float32)
    else:
        info = np.iinfo(dtype)
        array = random.integers(info.min, info.max + 1, shape).astype(dtype)
    ours = simulate(program, {port.name: array})["y"]
    [theirs] = tflm(data, {port.name: array}, 1)
    assert ours.shape == theirs.shape
    np.testing.assert_array_equal(ours, theirs)


def indices(*numbers: int) -> Any:
    return np.array(numbers, np.int32)


@FEW
@given(st.data())
def test_slices_with_masks_equal_tflm(data: st.DataObject) -> None:
    draw = data.draw
    shape = tuple(draw(st.integers(1, 5)) for _ in range(draw(st.integers(1, 4))))
    begin, end = ([draw(st.integers(-7, 7)) for _ in shape] for _ in range(2))
    strides = [draw(st.sampled_from([1, 1, 2, -1, -2])) for _ in shape]
    masks = {name: draw(st.integers(0, (1 << len(shape)) - 1)) for name in ("BeginMask", "EndMask")}
    dropped = draw(st.sampled_from([0, 0, 1, 2, 5])) & ((1 << len(shape)) - 1)
    picked = []
    for axis, size in enumerate(shape):
        if dropped >> axis & 1:
            begin[axis], strides[axis] = draw(st.integers(-size, size - 1)), 1
            masks["BeginMask"] &= ~(1 << axis)
            picked.append(slice(begin[axis] % size, begin[axis] % size + 1))
        else:
            low = None if masks["BeginMask"] >> axis & 1 else begin[axis]
            high = None if masks["EndMask"] >> axis & 1 else end[axis]
            picked.append(slice(low, high, strides[axis]))
    whole = np.zeros(shape)[tuple(picked)].shape
    out = tuple(size for axis, size in enumerate(whole) if not dropped >> axis & 1)
    one = OneOperator().input(shape=shape)
    for bounds in (begin, end, strides):
        one.constant(indices(*bounds))
    file = one.data(OP.STRIDED_SLICE, out, options="StridedSliceOptions", fields={**masks, "ShrinkAxisMask": dropped})
    if 0 in whole:
        with pytest.raises(InputError, match=r"takes nothing|has the shape"):
            load_tflite(file)
    else:
        assert_equals_tflm(file)


def sliced() -> bytes:
    one = OneOperator().input(shape=(1, 4, 5)).constant(indices(0, 1, 2)).constant(indices(1, 2, -1))
    return one.data(OP.SLICE, (1, 2, 3))


def squeezed() -> bytes:
    one = OneOperator().input(shape=(1, 4, 1))
    return one.data(OP.SQUEEZE, (1, 4), options="SqueezeOptions", fields={"SqueezeDims": [2]})


def expanded() -> bytes:
    return OneOperator().input().constant(indices(1)).data(OP.EXPAND_DIMS, (1, 1, 4), options="ExpandDimsOptions")


def reshaped() -> bytes:
    return OneOperator().input().data(OP.RESHAPE, (4, 1), options="ReshapeOptions", fields={"NewShape": [4, 1]})


def mean_of_negative_axes() -> bytes:
    one = OneOperator().input(shape=(2, 3, 4)).constant(indices(-1, 1))
    return one.data(OP.MEAN, (2,), options="ReducerOptions")


def multiplied_by_a_constant() -> bytes:
    one = OneOperator().input().constant(np.array([[3, -4, 5, 100]], np.int8), quant=quant(0.03, 9))
    return one.data(OP.MUL, options="MulOptions")


def less_a_constant() -> bytes:
    one = OneOperator().input().constant(np.array([7], np.int8), quant=quant(0.03, 9))
    return one.data(OP.SUB, options="SubOptions")


def sharper_softmax() -> bytes:
    one = OneOperator().input(shape=(3, 2, 2, 4), quant=quant(0.05, 7))
    fields, scale = {"Beta": 1.7}, quant(1 / 256, -128)
    return one.data(OP.SOFTMAX, (3, 2, 2, 4), options="SoftmaxOptions", fields=fields, quant=scale)


FORMS = (
    sliced,
    squeezed,
    expanded,
    reshaped,
    mean_of_negative_axes,
    multiplied_by_a_constant,
    less_a_constant,
    sharper_softmax,
)


@pytest.mark.parametrize("make", FORMS)
def test_other_forms_equal_tflm(make: Any) -> None:
    assert_equals_tflm(make())


WEIGHTS = np.random.default_rng(1).integers(-127, 128, (6, 4)).astype(np.int8)


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@pytest.mark.parametrize("bias", ["absent", "short", "there"])
@pytest.mark.parametrize(
    ("shape", "keep"), [((1, 4), False), ((1, 3, 4), True), ((2, 3, 4), False), ((1, 2, 2), False)]
)
def test_fully_connected_forms_equal_tflm(dtype: Any, bias: str, shape: tuple[int, ...], keep: bool) -> None:
    one = OneOperator().input(np.dtype(dtype).name, shape=shape).constant(WEIGHTS, quant=quant(0.01, 0))
    if bias == "absent":
        one.absent()
    if bias == "there":
        wide = "int32" if dtype == np.int8 else "int64"
        one.constant(np.arange(-3, 3).astype(wide) * 500, quant=quant(0.001, 0, None, wide))
    out = (*shape[:-1], 6) if keep else (int(np.prod(shape)) // 4, 6)
    fields = {"KeepNumDims": keep}
    data = one.data(OP.FULLY_CONNECTED, out, np.dtype(dtype).name, "FullyConnectedOptions", fields, quant=quant(0.3, 0))
    assert_equals_tflm(data, dtype)


@pytest.mark.parametrize("dtype", [np.int8, np.int16])
@pytest.mark.parametrize("code", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_convolutions_without_a_bias_equal_tflm(dtype: Any, code: str) -> None:
    weights = np.random.default_rng(2).integers(-127, 128, (1, 2, 2, 4) if code[0] == "D" else (4, 2, 2, 4))
    name = "DepthwiseConv2DOptions" if code[0] == "D" else "Conv2DOptions"
    fields = {"Padding": 1, "StrideH": 1, "StrideW": 2, **({"DepthMultiplier": 1} if code[0] == "D" else {})}
    one = OneOperator().input(np.dtype(dtype).name, shape=(1, 5, 6, 4))
    one.constant(weights.astype(np.int8), quant=quant(np.full(4, 0.01), np.zeros(4), 3 if code[0] == "D" else 0))
    data = one.data(getattr(OP, code), (1, 4, 3, 4), np.dtype(dtype).name, name, fields, quant=quant(0.3, 0))
    assert_equals_tflm(data, dtype)


@pytest.mark.parametrize(("dtype", "zero"), [("int8", -7), ("int16", 0)])
def test_real_numbers_in_equal_tflm(dtype: Any, zero: int) -> None:
    one = OneOperator().input("float32", shape=(1, 4000))
    assert_equals_tflm(one.data(OP.QUANTIZE, (1, 4000), dtype, quant=quant(0.23, zero, None, dtype)), np.float32)

"""The int8 cases with int16 activations: 8-bit weights, 64-bit (or 32-bit) biases, zero points of 0."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from int8_cases import quant

from leanedge.program.types import Dense, Kind, Program, ProgramTensor

__all__ = ["KINDS_16", "as_int16"]

KINDS_16: tuple[Kind, ...] = (
    "conv_2d",
    "depthwise_conv_2d",
    "transpose_conv",
    "fully_connected",
    "add",
    "sub",
    "mul",
    "max_pool",
    "average_pool",
    "mean",
    "softmax",
    "logistic",
    "tanh",
    "relu",
    "relu6",
    "leaky_relu",
    "pad",
    "transpose",
    "concatenation",
    "split",
    "strided_slice",
    "resize_nearest",
    "quantize",
)


def as_int16(program: Program, bias_type: Any = "int64") -> Program:
    """The same operator with int16 activations of scales 1/256 as large."""
    return replace(program, tensors={name: _wider(program, one, bias_type) for name, one in program.tensors.items()})


def _wider(program: Program, tensor: ProgramTensor, bias_type: Any) -> ProgramTensor:
    found = tensor.quant
    assert found is not None
    if tensor.data is not None and tensor.dtype == "int8":
        return tensor
    scale = found.scale / np.float32(256)
    if tensor.data is not None:
        values = tensor.data.decode().astype(bias_type) * 256
        wider = quant(scale, found.zero_point, found.axis, bias_type)
        return replace(tensor, dtype=bias_type, quant=wider, data=Dense(values))
    if program.operators[0].kind in ("softmax", "logistic", "tanh") and tensor.name in program.operators[0].outputs:
        scale = np.float32(1 / 32768)
    return replace(tensor, dtype="int16", quant=quant(scale, 0, None, "int16"))

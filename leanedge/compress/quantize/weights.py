"""Weights and biases to integers: symmetric int8, [-127, 127], one scale an output channel or one a tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from leanedge.compress.quantize.calibrate import SMALLEST_SCALE, quant_of_range
from leanedge.compress.types import QuantizedConstant, TensorQuant

__all__ = ["quantize_bias", "quantize_constant", "quantize_weight", "weight_scale"]

Array = np.ndarray[Any, Any]
_LARGEST = 127
_BIAS_LARGEST = 2**30
"""A quarter of int32: the accumulator must hold the bias and the products."""

_PARTS = np.concatenate([[1.0], np.linspace(0.99, 0.5, 50)])


def weight_scale(rows: Array, importance: Array | None = None) -> Array:
    """The scale of each row with the least squared rounding error.

    Args:
        rows: (rows, values) real weights.
        importance: (rows, values) or broadcastable weight of each squared error, e.g. the energy of the input that
            it multiplies; None: all equal.

    Returns:
        (rows,) float32, positive.
    """
    rows = np.asarray(rows, np.float64)
    largest = np.abs(rows).max(axis=1, initial=0.0)
    full = np.where(largest > 0, largest, 1.0) / _LARGEST
    full = np.maximum(full, SMALLEST_SCALE)
    best, least = full.copy(), np.full(len(rows), np.inf)
    weight = np.ones((1, 1)) if importance is None else np.asarray(importance, np.float64)
    for part in _PARTS:
        scale = (full * part).astype(np.float32).astype(np.float64)
        integers = np.clip(np.rint(rows / scale[:, None]), -_LARGEST, _LARGEST)
        error = (weight * (integers * scale[:, None] - rows) ** 2).sum(axis=1)
        better = error < least * (1 - 1e-9)
        best[better], least[better] = scale[better], error[better]
    found: Array = best.astype(np.float32)
    return found


def quantize_weight(
    weight: Array,
    axis: int | None,
    *,
    smallest_scale: Array | float = 0.0,
    importance: Array | None = None,
    groups: int = 1,
) -> QuantizedConstant:
    """Rounds a weight to int8.

    Args:
        weight: Real weights in the Graph's layout.
        axis: Its output channel axis; None for one scale a tensor.
        smallest_scale: Lower bound of the scale, () or (channels,): what keeps a bias inside int32.
        importance: Weight of each squared error, in the layout of `weight`.
        groups: Repeats of the channel axis (a grouped transposed convolution has channels / groups on it); only 1
            is per channel, more falls back to one scale a tensor.
    """
    if axis is None or groups != 1:
        flat = None if importance is None else np.broadcast_to(importance, weight.shape).reshape(1, -1)
        scale = np.maximum(weight_scale(weight.reshape(1, -1), flat), np.float32(np.max(smallest_scale)))
        quant = TensorQuant("int8", np.asarray(scale[0], np.float32), np.asarray(0, np.int64))
    else:
        rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
        if importance is not None:
            importance = np.moveaxis(np.broadcast_to(importance, weight.shape), axis, 0).reshape(rows.shape)
        scale = np.maximum(weight_scale(rows, importance), np.asarray(smallest_scale, np.float32))
        quant = TensorQuant("int8", scale.astype(np.float32), np.zeros(len(scale), np.int64), axis)
    return QuantizedConstant(round_weight(weight, quant), quant)


def round_weight(weight: Array, quant: TensorQuant) -> Array:
    """Nearest integers in [-127, 127]."""
    scale, _ = quant.broadcast(weight.ndim)
    integers: Array = np.clip(np.rint(weight / scale.astype(np.float64)), -_LARGEST, _LARGEST).astype(np.int8)
    return integers


def quantize_bias(bias: Array, input_scale: Array, weight: TensorQuant) -> QuantizedConstant:
    """Rounds a bias to int32 with scale = input scale x weight scale, the product taken in float32 as kernels do.

    Args:
        bias: (channels,) real values.
        input_scale: () float32.
        weight: The weight's quantization.
    """
    scale = (np.asarray(input_scale, np.float32) * weight.scale.astype(np.float32)).astype(np.float32)
    if scale.ndim == 0 or len(scale) != len(bias):
        scale = np.full(len(bias), scale.reshape(-1)[0], np.float32)
    integers = np.clip(np.rint(bias.astype(np.float64) / scale), -_BIAS_LARGEST, _BIAS_LARGEST).astype(np.int32)
    return QuantizedConstant(integers, TensorQuant("int32", scale, np.zeros(len(scale), np.int64), 0))


def smallest_weight_scale(bias: Array, input_scale: Array) -> Array:
    """(channels,) the least weight scale with which each bias fits in a quarter of int32."""
    least: Array = np.abs(bias.astype(np.float64)) / (float(input_scale) * _BIAS_LARGEST)
    return least.astype(np.float32)


def quantize_constant(array: Array) -> QuantizedConstant:
    """The constant operand of an element-wise operator: int8 over its own range, one scale a tensor."""
    quant = quant_of_range(float(array.min(initial=0.0)), float(array.max(initial=0.0)))
    if array.size == 1 and float(array.reshape(())) != 0.0:
        # One value is exact: code 127 or -127 with zero point 0.
        value = float(array.reshape(()))
        quant = TensorQuant(
            "int8", np.asarray(max(abs(value) / _LARGEST, SMALLEST_SCALE), np.float32), np.asarray(0, np.int64)
        )
    return QuantizedConstant(quant.quantize(array.astype(np.float32)), quant)

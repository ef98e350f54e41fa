"""Softmax, logistic and tanh of int16, which look up and interpolate tables; source: TensorFlow Lite's kernels."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.program.fixed_point import quantized_multiplier, scale_by

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "exp_table",
    "logistic_16",
    "reciprocal_table",
    "sigmoid_table",
    "softmax_16",
    "softmax_scale",
    "tanh_16",
    "twelve_thousandths",
]

Array = np.ndarray[Any, Any]

_STEPS = 512


def _round(real: Array) -> Array:
    return np.asarray(np.copysign(np.floor(np.abs(real) + np.float32(0.5)), real))


def _table(function: Callable[[Array], Array], low: float, high: float) -> Array:
    """513 values of a function over [low, high] as int16 of scale 1/32768, reckoned in float32.

    Each is moved by half of the error that a straight line to the next one would have in the middle.
    """
    unit, steps = np.float32(32768), np.arange(_STEPS + 1, dtype=np.float32)
    step = np.float32((high - low) / _STEPS)
    values = function(np.float32(low) + steps * step).astype(np.float32) * unit
    middle = function(np.float32(low) + steps[:-1] * step + step / np.float32(2)).astype(np.float32) * unit
    error = _round((values[1:] + _round(values[:-1])) / np.float32(2)) - _round(middle)
    moved = np.append(_round(values[:-1]) - _round(error / np.float32(2)), _round(values[-1:]))
    return np.asarray(np.clip(moved, -32768, 32767).astype(np.int64))


@cache
def exp_table() -> Array:
    """513 values of exp over [-10, 0]."""
    # float64's exp, rounded: float32's own differs between machines in the last bit.
    return _table(lambda x: np.exp(x.astype(np.float64)), -10.0, 0.0)


@cache
def reciprocal_table() -> Array:
    """513 values of 1 / (1 + x) over [0, 1]."""
    return _table(lambda x: np.float32(1) / (np.float32(1) + x), 0.0, 1.0)


def _look_up(number: Array, table: Array) -> Array:
    """Interpolates; `number` within int16."""
    index = 256 + (number >> 7)
    slope = table[index + 1] - table[index]
    return np.asarray(table[index] + ((slope * (number & 0x7F) + 64) >> 7))


def softmax_scale(scale: float, beta: float) -> tuple[int, int]:
    """(multiplier, power) from differences of the input to places in the table of exponentials."""
    return quantized_multiplier(float(np.float32(np.float32(scale) * np.float32(beta))) / (10.0 / 65535.0))


def softmax_16(array: Array, scale: float, beta: float) -> Array:
    """Over the last axis; int16 in of that scale, int16 out of scale 1/32768."""
    multiplier, power = softmax_scale(scale, beta)
    difference = array.astype(np.int64) - array.max(axis=-1, keepdims=True)
    scaled = scale_by(difference, multiplier, power)
    e = _look_up(np.clip(scaled + 32767, -32768, 32767), exp_table())
    total = e.sum(axis=-1, keepdims=True)
    headroom = 32 - np.frompyfunc(lambda number: int(number).bit_length(), 1, 1)(total).astype(np.int64)
    shifted = ((total << (headroom - 1)) + (1 << 13)) >> 14
    inverse = _look_up(np.clip(shifted - (1 << 15) - (1 << 16), -32768, 32767), reciprocal_table())
    right = 31 - headroom
    result = (e * inverse + (np.int64(1) << (right - 1))) >> right
    return np.asarray(np.clip(result, 0, 32767).astype(np.int16))


@cache
def sigmoid_table() -> Array:
    """1 / (1 + exp(-x)) in 1/65536 at x = 0, 1/24, ..., 254/24, and what it saturates to.

    Each is moved by half of the error that a straight line to the next one would have in the middle.
    """
    here, middle, after = (65536 / (1 + np.exp(-(np.arange(255) + part) / 24)) for part in (0, 0.5, 1))
    return np.append(np.floor(here + (middle - (here + after) / 2) / 2 + 0.5).astype(np.int64), 65535)


def _in_twelve_thousandths(array: Array, scale: float) -> Array:
    """The input in units of 1/(3 x 4096)."""
    multiplier, rounding, shift = twelve_thousandths(scale)
    return np.asarray((array.astype(np.int64) * multiplier + rounding) >> shift)


def twelve_thousandths(scale: float) -> tuple[int, int, int]:
    """(multiplier, rounding, shift): (integer x multiplier + rounding) / 2^shift is its value in units of 1/12288."""
    mantissa, exponent = math.frexp(scale)
    if mantissa == 0.5 and exponent - 1 in (-12, -11):
        return 3 << (exponent - 1 + 12), 0, 0
    real, shift = scale * 4096 * 3, 0
    while real <= 32767.0 / 2.0 and shift <= 30:
        real, shift = real * 2, shift + 1
    return int(real), 1 << (shift - 1) if shift else 0, shift


def _sigmoid(magnitude: Array, bits: int) -> Array:
    """The table at magnitude / 2^bits, interpolated, with so many bits more."""
    place = np.minimum(magnitude >> bits, 254)
    table = sigmoid_table()
    part = magnitude & ((1 << bits) - 1)
    return np.asarray((table[place] << bits) + part * (table[place + 1] - table[place]))


def logistic_16(array: Array, scale: float) -> Array:
    """int16 in of that scale, int16 out of scale 1/32768."""
    number = _in_twelve_thousandths(array, scale)
    magnitude = np.abs(number)
    result = np.where(magnitude >> 9 >= 255, 0x7FFF << 10, _sigmoid(magnitude, 9))
    result = np.where(number >= 0, result + (1 << 9), (1 << 25) - result + (1 << 9) - 1)
    return np.asarray((result >> 10).astype(np.int16))


def tanh_16(array: Array, scale: float) -> Array:
    """int16 in of that scale, int16 out of scale 1/32768: 2 sigmoid(2x) - 1."""
    number = _in_twelve_thousandths(array, scale)
    magnitude = np.abs(number)
    result = np.where(magnitude >> 8 >= 255, 0xFFFF << 8, _sigmoid(magnitude, 8))
    result = np.where(number >= 0, result - (1 << 23) + (1 << 7), -result + (1 << 23) + (1 << 7) - 1)
    return np.asarray((result >> 8).astype(np.int16))

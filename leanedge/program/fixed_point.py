"""Fixed-point arithmetic of the 8-bit kernels, on whole arrays, in int64 that holds int32 values.

Sources: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference"
(2018), section 2.2 and appendix B; the rounding is that of gemmlowp's fixedpoint.h and of TensorFlow Lite's
quantization_util (two roundings: a doubling high product, then a shift).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = [
    "INT32_MAX",
    "INT32_MIN",
    "doubling_high_product",
    "exp_of_negative",
    "input_radius",
    "logistic",
    "quantized_multiplier",
    "quantized_multipliers",
    "reciprocal",
    "rescale",
    "rounding_shift",
    "scale_by",
    "scale_by_once",
    "scale_wide",
    "tanh",
]

Array = np.ndarray[Any, Any]

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


def quantized_multiplier(real: float) -> tuple[int, int]:
    """A positive real number as (integer of 31 bits, power of two): real = integer x 2^(power - 31).

    >>> quantized_multiplier(0.25)
    (1073741824, -1)
    """
    if real == 0.0:
        return 0, 0
    fraction, power = math.frexp(real)
    integer = math.floor(fraction * (1 << 31) + 0.5)
    if integer == 1 << 31:
        integer, power = integer // 2, power + 1
    return (0, 0) if power < -31 else (integer, power)


def quantized_multipliers(reals: Array) -> tuple[Array, Array]:
    """The same of many numbers: two int64 arrays.

    >>> quantized_multipliers(np.array([0.25, 3.0]))
    (array([1073741824, 1610612736]), array([-1,  2]))
    """
    fractions, powers = np.frexp(np.asarray(reals, np.float64))
    integers = np.floor(fractions * (1 << 31) + 0.5).astype(np.int64)
    full = integers == 1 << 31
    integers, powers = np.where(full, integers // 2, integers), powers.astype(np.int64) + full
    small = powers < -31
    return np.where(small, 0, integers), np.where(small, 0, powers)


def _towards_zero(numerator: Array, bits: int) -> Array:
    """Division by 2^bits as C does it."""
    return np.where(numerator >= 0, numerator >> bits, -((-numerator) >> bits))


def doubling_high_product(left: Array, right: Any, bits: int = 31) -> Array:
    """The high half of 2 x left x right, rounded half away from zero, saturated; `bits` 31 for int32, 15 for int16.

    Source: gemmlowp's SaturatingRoundingDoublingHighMul.
    """
    product = left * np.asarray(right, np.int64)
    nudge = np.where(product >= 0, 1 << (bits - 1), 1 - (1 << (bits - 1)))
    return np.minimum(_towards_zero(product + nudge, bits), (1 << bits) - 1)


def rounding_shift(number: Array, bits: Any) -> Array:
    """Number / 2^bits, rounded half away from zero (gemmlowp's RoundingDivideByPOT)."""
    bits = np.asarray(bits, np.int64)
    mask = (np.int64(1) << bits) - 1
    threshold = (mask >> 1) + (number < 0)
    return np.asarray((number >> bits) + ((number & mask) > threshold))


def scale_by(number: Array, multiplier: Any, power: Any) -> Array:
    """Number x multiplier x 2^(power - 31), as TensorFlow Lite's MultiplyByQuantizedMultiplier rounds it."""
    power = np.asarray(power, np.int64)
    left, right = np.maximum(power, 0), np.maximum(-power, 0)
    return rounding_shift(doubling_high_product(number << left, multiplier), right)


def scale_by_once(number: Array, multiplier: Any, power: Any) -> Array:
    """The same product rounded once, half up: what LiteRT's fully_connected does on its own account."""
    shift = 31 - np.asarray(power, np.int64)
    return np.asarray((number * multiplier + (np.int64(1) << (shift - 1))) >> shift)


def scale_wide(number: Array, multiplier: Any, power: Any) -> Array:
    """The same product of a 64-bit sum, with a multiplier of 15 bits, rounded once (its form for int16 activations)."""
    multiplier = np.asarray(multiplier, np.int64)
    short = np.where(multiplier < 0x7FFF0000, (multiplier + (1 << 15)) >> 16, 0x7FFF)
    shift = 15 - np.asarray(power, np.int64)
    return np.asarray((number * short + (np.int64(1) << (shift - 1))) >> shift)


def _saturate(number: Array) -> Array:
    return np.clip(number, INT32_MIN, INT32_MAX)


def rescale(number: Array, exponent: int) -> Array:
    """Number x 2^exponent: saturating to the left, rounding to the right."""
    return _saturate(number << exponent) if exponent >= 0 else rounding_shift(number, -exponent)


def input_radius(integer_bits: int, left_shift: int) -> int:
    """Largest difference whose scaled value still fits the fixed-point input (its CalculateInputRadius)."""
    return math.floor(((1 << integer_bits) - 1) * (1 << (31 - integer_bits)) / (1 << left_shift))


def _exp_near_zero(number: Array) -> Array:
    """exp(x) for x in [-1/4, 0), Q0.31: Taylor series around -1/8."""
    middle, third = 1895147668, 715827883  # exp(-1/8), 1/3
    x = number + (1 << 28)
    x2 = doubling_high_product(x, x)
    x3 = doubling_high_product(x2, x)
    x4 = doubling_high_product(x2, x2)
    tail = rounding_shift(doubling_high_product(rounding_shift(x4, 2) + x3, third) + x2, 1)
    return middle + doubling_high_product(x + tail, middle)


_EXP_OF_POWERS = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}
"""exp(-2^k) as Q0.31."""


def exp_of_negative(number: Array, integer_bits: int) -> Array:
    """exp(x) as Q0.31 for x <= 0 given with so many integer bits."""
    fraction_bits = 31 - integer_bits
    quarter = 1 << (fraction_bits - 2)
    part = (number & (quarter - 1)) - quarter
    result = _exp_near_zero(rescale(part, integer_bits))
    remainder = part - number
    for exponent, factor in _EXP_OF_POWERS.items():
        if integer_bits > exponent:
            chosen = (remainder & (1 << (fraction_bits + exponent))) != 0
            result = np.where(chosen, doubling_high_product(result, factor), result)
    return np.where(number == 0, INT32_MAX, result)


def _half_reciprocal(number: Array) -> Array:
    """2 / (1 + x) as Q2.29 for x in [0, 1] as Q0.31: three Newton-Raphson steps from 48/17 - 32/17 d."""
    total = number + INT32_MAX
    half = _towards_zero(total + np.where(total >= 0, 1, -1), 1)
    x = 1515870810 + doubling_high_product(half, -1010580540)
    for _ in range(3):
        error = (1 << 29) - doubling_high_product(half, x)
        x = x + rescale(doubling_high_product(x, error), 2)
    return x


def reciprocal(number: Array) -> Array:
    """1 / (1 + x) as Q0.31 for x in [0, 1] as Q0.31."""
    return rescale(_half_reciprocal(number), 1)


def logistic(number: Array, integer_bits: int) -> Array:
    """1 / (1 + exp(-x)) as Q0.31."""
    positive = reciprocal(exp_of_negative(-np.abs(number), integer_bits))
    result = np.where(number > 0, positive, INT32_MAX - positive)
    return np.where(number == 0, 1 << 30, result)


def tanh(number: Array, integer_bits: int) -> Array:
    """Hyperbolic tangent as Q0.31: (1 - e) / (1 + e) with e = exp(-2 |x|), whose input has one integer bit more."""
    e = exp_of_negative(-np.abs(number), integer_bits + 1)
    magnitude = rescale(_half_reciprocal(e) - (1 << 29), 2)
    return np.where(number == 0, 0, np.where(number < 0, -magnitude, magnitude))

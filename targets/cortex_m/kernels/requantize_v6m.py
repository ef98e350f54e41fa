"""From 32-bit sums to int8 on cores without a long multiplication (Armv6-M: Cortex-M0, M0+, M1).

The factor is cut into two or three parts of so many bits that the product of a sum with each fits a register:

    t = sum x m1 + ((sum x m2) >> bits)                           floor(sum x (m1 2^bits + m2) / 2^bits), exactly
    q = clip((t + c) >> shift)

which is one floor instead of TensorFlow Lite Micro's two roundings; where results lie below the zero point, one unit
of the first rounding is taken off first. As in `requantize`, every step of every channel is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .requantize import agrees, constant_result, steps, sum_range

if TYPE_CHECKING:
    from collections.abc import Callable

    from leanedge.program.weighted import WeightedLayer

__all__ = ["ShortRequantization", "short_requantization"]

Array = np.ndarray[Any, Any]

_MOST_SHIFT = 22
"""Largest shift at which an int8 zero point still fits the constant."""


@dataclass(frozen=True, eq=False)
class ShortRequantization:
    """How the sums of a layer's channels become int8 by 32-bit multiplications.

    Attributes:
        parts: Parts of the factor.
        bits: Of each part.
        shift: The last one, the layer's.
        signed: Whether negative sums lose a unit of the first rounding.
        words: int32 (channels, words): the parts, the highest first, the constant, and that unit where `signed`.
        low: Smallest result.
        high: Largest.
    """

    parts: int
    bits: int
    shift: int
    signed: bool
    words: Array
    low: int
    high: int

    def evaluate(self, sums: Array) -> Array:
        """What the instructions compute of sums (channels, n); out of int8's range where one would overflow."""
        columns = [self.words[:, [column]].astype(np.int64) for column in range(self.words.shape[1])]
        total = np.zeros_like(sums)
        fits = np.ones(sums.shape, bool)
        for part in reversed(columns[: self.parts]):
            product = sums * part
            total = product + (total >> self.bits)
            fits &= (abs(product) < 1 << 31) & (abs(total) < 1 << 31)
        total = total + columns[self.parts]
        fits &= abs(total) < 1 << 31
        if self.signed:
            total = total - np.where(sums < 0, columns[self.parts + 1], 0)
            fits &= abs(total) < 1 << 31
        return np.where(fits, np.clip(total >> self.shift, self.low, self.high), 1000)

    def instructions(self, total: str, word: Callable[[str, int], str]) -> list[str]:
        """Requantizes a sum into r1; r2 and r3 are lost.

        Args:
            total: A low register.
            word: The instruction that brings a word of the channel into a register.
        """
        lines: list[str] = []
        for part in reversed(range(self.parts)):
            lines += [word("r1", part), f"muls r1, {total}, r1"]
            if part < self.parts - 1:
                lines.append("adds r1, r1, r2")
            if part:
                lines.append(f"asrs r2, r1, #{self.bits}")
        lines += [word("r2", self.parts), "adds r1, r1, r2"]
        if self.signed:
            lines += [f"asrs r2, {total}, #31", word("r3", self.parts + 1), "ands r2, r2, r3", "subs r1, r1, r2"]
        lines.append(f"asrs r1, r1, #{self.shift}")
        if (self.low, self.high) == (-128, 127):
            return [
                *lines,
                "sxtb r2, r1",
                "cmp r2, r1",
                "beq 9f",
                "asrs r1, r1, #31",
                "movs r2, #127",
                "eors r1, r1, r2",
                "9:",
            ]
        for limit, branch, label in ((self.low, "bge", "8"), (self.high, "ble", "9")):
            lines += [f"movs r2, #{limit}"] if limit >= 0 else [f"movs r2, #{~limit}", "mvns r2, r2"]
            lines += ["cmp r1, r2", f"{branch} {label}f", "mov r1, r2", f"{label}:"]
        return lines


def short_requantization(layer: WeightedLayer) -> ShortRequantization | None:
    """The shortest form that is right for every sum that the layer can reach, or None where none is."""
    reached = sum_range(layer)
    thresholds = steps(layer)
    for parts in (2, 3):
        for signed in (False, True):
            found = _fitted(layer, reached, thresholds, parts, signed)
            if found is not None:
                return found
    return None


def _fitted(
    layer: WeightedLayer, reached: tuple[Array, Array], thresholds: Array, parts: int, signed: bool
) -> ShortRequantization | None:
    constant, result = constant_result(reached, thresholds, layer)
    power = layer.power.astype(np.int64)
    largest = int(np.maximum(*(np.abs(bound) for bound in reached)).max())
    bits = 30 - largest.bit_length()
    moving = ~constant
    top = int(power[moving].max()) if moving.any() else 0
    shift = min(_MOST_SHIFT, bits - top)
    if bits < 2 or shift < 1:
        return None
    exponent = (shift + bits * (parts - 1) + power - 31).astype(float)
    factor = np.where(moving, layer.multiplier * 2.0**exponent, 0)
    right = np.maximum(-power, 0)
    half = np.where(right > 0, 2.0 ** (shift - 1), 0)
    offset = 2.0 ** (shift - 1.0 - right) + half + layer.output_zero * 2.0**shift
    unit = np.where(moving, 2.0 ** (shift - right.astype(float)), 0)
    best: Array | None = None
    done = np.zeros(len(power), bool)
    # What is cut off below the factor's last bit moves a step now and then: a neighbour often has the same steps.
    for up, more in ((0, 0), (1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (0, -2), (1, -2), (0, 2), (1, 2)):
        whole = np.where(moving, np.floor(factor) + up, 0).astype(np.int64)
        if whole.max() >= 1 << (bits * parts):
            continue
        columns = [(whole >> (bits * (parts - 1 - n))) & ((1 << bits) - 1) for n in range(parts)]
        # A constant channel: a unit is never taken off.
        columns.append(np.where(moving, np.floor(offset).astype(np.int64) + more, result << shift))
        if signed:
            columns.append(np.floor(unit).astype(np.int64))
        words = np.stack(columns, axis=1)
        if np.abs(words).max() >= 1 << 31:
            continue
        tried = ShortRequantization(parts, bits, shift, signed, words.astype(np.int32), layer.low, layer.high)
        right_now = agrees(tried, reached, thresholds, layer)
        best = tried.words if best is None else np.where((right_now & ~done)[:, None], tried.words, best)
        done |= right_now
        if done.all():
            return ShortRequantization(parts, bits, shift, signed, best, layer.low, layer.high)
    return None

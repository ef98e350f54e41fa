"""From 32-bit sums to int8 in two to six instructions each, bit for bit TensorFlow Lite Micro's double rounding.

TFLM rounds twice: x = (sum x multiplier + 2^30) >> 31 (half up), then x / 2^e, half away from zero. Both collapse into
one floor wherever the result is not below the output's zero point, which fused ReLU makes sure of:

    SMMLA t, sum, m, c        t = (sum x 2^prescale x m >> 32) + c
    SSAT  q, #8, t, ASR #s    q = clip(t >> s)

with `prescale` put into the weights and the bias beforehand. Results below the zero point take one instruction more
(``ADD t, t, sum, ASR #31``, a tie rounds away from zero), channels with different exponents one more (``ASR`` by a
register), and what is left a longer form that can do everything.

No form is taken on trust: both TFLM's function and the form's are monotone steps of the sum, so that they are equal
over all sums that the layer can reach if they agree at the steps. `requantization` checks each step of each channel.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from leanedge.program.fixed_point import INT32_MAX, INT32_MIN

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from leanedge.program.weighted import WeightedLayer

__all__ = ["Form", "Requantization", "requantization", "steps", "sum_range"]

Array = np.ndarray[Any, Any]

Form = Literal["floor", "signed", "shifted", "general"]

_COMMON_SHIFT = 12
"""SSAT's shift where a layer leaves the choice: layers that agree on it can share their code."""

_MOST_SHIFT = 22
"""Largest shift at which an int8 zero point still fits the constant."""


@dataclass(frozen=True, eq=False)
class Requantization:
    """How the sums of a layer's channels become int8.

    Attributes:
        form: ``floor`` and ``signed``: SSAT's shift is the layer's; ``shifted`` and ``general``: a word of the channel.
        prescale: (channels,) bits by which the sums must arrive multiplied.
        words: int32 (channels, words), in the order that `instructions` reads them.
        shift: SSAT's, where it is the layer's.
        low: What the result is clamped to beyond int8's own limits; -128 where it is not.
        high: 127 where it is not.
    """

    form: Form
    prescale: Array
    words: Array
    shift: int
    low: int
    high: int

    def evaluate(self, sums: Array) -> Array:
        """What the instructions compute of sums (channels, n), int64; out of int8's range where one would overflow."""
        number = sums << self.prescale[:, None]
        fits = _is_int32(number)
        columns = [self.words[:, [column]].astype(np.int64) for column in range(self.words.shape[1])]
        if self.form == "general":
            left, multiplier, constant, right = columns
            number = number << left
            high = (number * multiplier + (1 << 31)) >> 32
            total = constant + 2 * high + (high >> 63)
            fits &= _is_int32(number) & _is_int32(constant + 2 * high)
        else:
            nudge = 0 if self.form == "floor" else 1 << 31
            high = (number * columns[0] + nudge) >> 32
            total = high + columns[1]
            fits &= _is_int32(total)
            total = total if self.form == "floor" else total + (number >> 63)
            right = np.asarray(self.shift) if self.form != "shifted" else columns[2]
        result = np.clip(np.clip(total >> right, -128, 127), self.low, self.high)
        return np.where(fits & _is_int32(total), result, 1000)

    @property
    def uniform(self) -> bool:
        """Whether all channels have the same words."""
        return bool((self.words == self.words[0]).all())

    def instructions(
        self, stream: str, sums: Sequence[Sequence[str]], free: Sequence[str], shared_at: int | None = None
    ) -> list[str]:
        """Requantizes in place.

        Args:
            stream: Register that points to the words; ends behind them.
            sums: For each channel the registers of its sums.
            free: Five registers in rising order, all above `stream` in the list of registers.
            shared_at: Where the stack holds the words of all channels, instead of the stream.
        """
        lines: list[str] = []
        if shared_at is not None:
            words = range(self.words.shape[1])
            lines = [f"ldr {free[word]}, [sp, #{shared_at + 4 * word}]" for word in words]
            return lines + [line for part in sums for r in part for line in self.one(r, free, free[4])]
        at_once = 2 if self.words.shape[1] == 2 else 1
        for start in range(0, len(sums), at_once):
            part = sums[start : start + at_once]
            loaded = ", ".join(free[: self.words.shape[1] * len(part)])
            lines.append(f"ldm {stream}!, {{{loaded}}}")
            each = [
                self.one(r, free[2 * number :], free[4]) for number, registers in enumerate(part) for r in registers
            ]
            if self.form == "floor" and len(each[0]) == 2:
                # Side by side, so that no instruction waits for the one before it.
                lines += [line for step in zip(*each, strict=True) for line in step]
            else:
                lines += [line for one in each for line in one]
        return lines

    def one_channel(self, sums: Sequence[str], free: Sequence[str]) -> list[str]:
        """Requantizes sums of one channel in place, whose words are in registers already.

        Args:
            sums: Registers.
            free: The registers of the channel's words, then one that is lost (for ``floor`` it may be absent).
        """
        return [line for r in sums for line in self.one(r, free, free[-1])]

    def one(self, r: str, words: Sequence[str], spare: str) -> list[str]:
        """Requantizes the sum in one register, the channel's words being in others."""
        shifted = f", asr #{self.shift}" if self.shift else ""
        if self.form == "floor":
            lines = [f"smmla {r}, {r}, {words[0]}, {words[1]}", f"ssat {r}, #8, {r}{shifted}"]
        elif self.form == "signed":
            lines = [
                f"smmlar {spare}, {r}, {words[0]}, {words[1]}",
                f"add {r}, {spare}, {r}, asr #31",
                f"ssat {r}, #8, {r}{shifted}",
            ]
        elif self.form == "shifted":
            lines = [
                f"smmlar {spare}, {r}, {words[0]}, {words[1]}",
                f"add {r}, {spare}, {r}, asr #31",
                f"asr {r}, {r}, {words[2]}",
                f"ssat {r}, #8, {r}",
            ]
        else:
            lines = [
                f"lsl {r}, {r}, {words[0]}",
                f"smmulr {spare}, {r}, {words[1]}",
                f"add {r}, {words[2]}, {spare}, lsl #1",
                f"add {r}, {r}, {spare}, asr #31",
                f"asr {r}, {r}, {words[3]}",
                f"ssat {r}, #8, {r}",
            ]
        if self.low > -128:
            lines += [f"cmp {r}, #{self.low}", "it lt", f"movlt {r}, #{self.low}"]
        if self.high < 127:
            lines += [f"cmp {r}, #{self.high}", "it gt", f"movgt {r}, #{self.high}"]
        return lines


def requantization(
    layer: WeightedLayer, least: Array, most: Array, reached: tuple[Array, Array] | None = None
) -> Requantization | None:
    """The shortest form that is right for every sum that the layer can reach, or None where none is.

    Forms that round as TFLM does ask for sums doubled (or, the longest, as they are) whatever the limits.

    Args:
        layer: The layer's numbers.
        least: (channels,) bits by which a channel's sums arrive multiplied in any case.
        most: (channels,) bits by which the kernel can multiply them.
        reached: Least and greatest sum of each channel, where they are not those of `sum_range`.
    """
    reached = reached or sum_range(layer)
    thresholds = steps(layer)
    candidates = itertools.chain(
        _floors(layer, reached, thresholds, least, most),
        (make(layer, reached, thresholds) for make in (_signed, _shifted, _general)),
    )
    for found in candidates:
        if found is not None and _agrees(found, reached, thresholds, layer).all():
            return found
    return None


def sum_range(layer: WeightedLayer) -> tuple[Array, Array]:
    """Least and greatest sum (bias included) of each channel over all int8 inputs."""
    axes = tuple(range(1, layer.weights.ndim)) if layer.kind != "depthwise_conv_2d" else (0, 1)
    weights = layer.weights.astype(np.int64)
    below, above = weights * (-128 - layer.input_zero), weights * (127 - layer.input_zero)
    bias: Array = layer.bias.astype(np.int64)
    low, high = (side(below, above).sum(axis=axes) for side in (np.minimum, np.maximum))
    return bias + low, bias + high


def steps(layer: WeightedLayer) -> Array:
    """Least sum that gives at least v, for v = low + 1 ... high: int64 (channels, high - low)."""
    multiplier, power = layer.multiplier.astype(np.int64)[:, None], layer.power.astype(np.int64)[:, None]
    right, left = np.maximum(-power, 0), np.maximum(power, 0)
    wanted = np.arange(layer.low + 1, layer.high + 1, dtype=np.int64)[None, :] - layer.output_zero
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), 0)
    scaled = (wanted << right) - half + ((wanted <= 0) & (right > 0))
    # |x| stays below 2^31; a step beyond is never reached.
    product = (np.clip(scaled, -(1 << 31), 1 << 31) << 31) - (1 << 30)
    divisor = np.maximum(multiplier << left, 1)
    least = -((-product) // divisor)
    never = np.where(product <= 0, np.int64(-(1 << 62)), np.int64(1 << 62))
    return np.asarray(np.where(multiplier > 0, least, never))


def _is_int32(number: Array) -> Array:
    return np.asarray((number >= INT32_MIN) & (number <= INT32_MAX))


def _agrees(form: Requantization, reached: tuple[Array, Array], thresholds: Array, layer: WeightedLayer) -> Array:
    """For each channel: true where the form's steps over the sums that can be reached are the layer's."""
    low, high = (bound[:, None] for bound in reached)
    wanted = np.arange(layer.low + 1, layer.high + 1)[None, :]
    at, before = np.clip(thresholds, low, high), np.clip(thresholds - 1, low, high)
    above, below = form.evaluate(at), form.evaluate(before)
    right = np.where(thresholds > high, above < wanted, above >= wanted)
    right &= np.where(thresholds <= low, below >= wanted, below < wanted)
    ends = form.evaluate(np.concatenate([low, high], axis=1))
    return np.asarray(right.all(axis=1) & ((ends >= layer.low) & (ends <= layer.high)).all(axis=1))


def _constant_result(reached: tuple[Array, Array], thresholds: Array, layer: WeightedLayer) -> tuple[Array, Array]:
    """(whether all sums of a channel give one result, that result of the least sum)."""
    first, last = ((thresholds <= bound[:, None]).sum(axis=1) for bound in reached)
    return np.asarray(first == last), np.asarray(layer.low + first)


def _floors(
    layer: WeightedLayer, reached: tuple[Array, Array], thresholds: Array, least: Array, most: Array
) -> Iterator[Requantization]:
    """One floor with each shift that may do."""
    if (least > most).any():
        return
    constant, _ = _constant_result(reached, thresholds, layer)
    power, moving = layer.power.astype(np.int64), ~constant
    top = exact = _COMMON_SHIFT
    if moving.any():
        # Beyond `top` a multiplier would need more than 31 bits, from `exact` on every constant is whole.
        top, exact = int((most - power - 1)[moving].min()), int(np.maximum(-power, 0)[moving].max()) + 1
    for shift in dict.fromkeys((min(max(_COMMON_SHIFT, exact), top), *range(top, top - 6, -1))):
        if 0 <= shift <= _MOST_SHIFT:
            yield _floor(layer, reached, thresholds, (least, most), shift)


def _floor(
    layer: WeightedLayer,
    reached: tuple[Array, Array],
    thresholds: Array,
    limits: tuple[Array, Array],
    shift: int,
) -> Requantization:
    constant, result = _constant_result(reached, thresholds, layer)
    power, right = layer.power.astype(np.int64), np.maximum(-layer.power.astype(np.int64), 0)
    prescale = np.clip(np.where(constant, 0, 1 + shift + power), *limits)
    ideal = layer.multiplier * 2.0 ** np.clip(1 + shift + power - prescale, -60, 0)
    offset = 2.0 ** (shift - 1.0 - right) + np.where(right > 0, 2.0 ** (shift - 1), 0) + layer.output_zero * 2.0**shift
    formula = np.stack([np.floor(ideal), np.floor(offset)], axis=1)
    # Where the multiplier or the constant is not whole, a neighbour often has the same steps.
    near = ((0, 0), (1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, 0), (2, 0), (-1, 1), (2, -1))
    tries = [formula + neighbour for neighbour in near]
    tries.insert(1, np.where(constant[:, None], np.stack([0 * result, result << shift], axis=1), tries[1]))
    best, done = np.zeros((len(power), 2), np.int32), np.zeros(len(power), bool)
    for one in tries:
        words = np.clip(one, INT32_MIN, INT32_MAX).astype(np.int32)
        tried = Requantization("floor", prescale, words, shift, layer.low, layer.high)
        equal = _agrees(tried, reached, thresholds, layer)
        best = np.where((equal & ~done)[:, None], words, best)
        done |= equal
        if done.all():
            break
    return Requantization("floor", prescale, best, shift, layer.low, layer.high)


def _rounded_twice(
    form: Form, layer: WeightedLayer, reached: tuple[Array, Array], thresholds: Array, shift: int | None
) -> Requantization | None:
    """Forms whose first rounding is TFLM's own: sums doubled, then SMMLAR."""
    constant, result = _constant_result(reached, thresholds, layer)
    right = np.where(constant, 1 if shift is None else shift, -layer.power.astype(np.int64))
    if (right < 1).any() or (right > _MOST_SHIFT).any():
        return None
    multiplier = np.where(constant, 0, layer.multiplier.astype(np.int64))
    # A constant channel's sums may be negative: one more, so that what is subtracted then does no harm.
    offset = np.where(constant, (result << right) + 1, (np.int64(1) << (right - 1)) + (layer.output_zero << right))
    columns = [multiplier, offset] if shift is not None else [multiplier, offset, right]
    words = np.stack(columns, axis=1).astype(np.int32)
    return Requantization(form, np.ones(len(right), np.int64), words, shift or 0, layer.low, layer.high)


def _signed(layer: WeightedLayer, reached: tuple[Array, Array], thresholds: Array) -> Requantization | None:
    constant, _ = _constant_result(reached, thresholds, layer)
    rights = np.unique(-layer.power[~constant])
    if len(rights) > 1:
        return None
    return _rounded_twice("signed", layer, reached, thresholds, int(rights[0]) if len(rights) else _COMMON_SHIFT)


def _shifted(layer: WeightedLayer, reached: tuple[Array, Array], thresholds: Array) -> Requantization | None:
    return _rounded_twice("shifted", layer, reached, thresholds, None)


def _general(layer: WeightedLayer, reached: tuple[Array, Array], thresholds: Array) -> Requantization | None:
    constant, result = _constant_result(reached, thresholds, layer)
    power = layer.power.astype(np.int64)
    left, right = np.maximum(power, 0) + 1, np.maximum(-power, 0)
    lost = np.maximum(right - _MOST_SHIFT, 0)
    right = right - lost
    multiplier = layer.multiplier.astype(np.int64) >> lost
    offset = (np.int64(1) << right) + (layer.output_zero << (right + 1))
    for column, value in ((left, 0), (multiplier, 0), (right, 0), (offset, 2 * result)):
        column[constant] = value[constant] if isinstance(value, np.ndarray) else value
    words = np.stack([left, multiplier, offset, right + 1], axis=1).astype(np.int32)
    return Requantization("general", np.zeros(len(power), np.int64), words, 0, layer.low, layer.high)

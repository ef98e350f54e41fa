"""Matrix product of image windows and weights: two windows by four channels at a time, in registers.

r0 to r3 hold the sums of the first window, r4 to r7 those of the second, r8 points to one stream of everything that is
constant: per group of four channels their starting sums, the weights in the order of use, the words to requantize by.
r9 to r11 take the weights by LDM, r12 and lr a pair of activations of each window, which were widened to 16 bits
beforehand and wait in the FP registers and on the stack. That makes 31 instructions of 48 multiply-accumulates.

Weights take 16 bits, or 8: then one half-word holds 256 a + b of two channels. SMLAD on it as it is adds up both at
once, SXTB16 cuts the second channel out for its own sum, and a subtraction at the end gives 256 times the first one's.
That is one SXTB16 for two channels, and their sums arrive scaled as the requantization wants them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from .assembly import add_constant, load_words, move_constant
from .requantize import requantization, sum_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.program.weighted import WeightedLayer

    from .gather import Gather
    from .requantize import Requantization

__all__ = [
    "Pixels",
    "WeightBits",
    "Weights",
    "bits_of_room",
    "channel_words",
    "doublings",
    "packed_weights",
    "split_sums",
    "two_pixel_gemm",
]

Array = np.ndarray[Any, Any]

WeightBits = Literal[8, 16]

_FP_PAIRS = 16
_MOST_LDRD = 1020
_MOST_LDR = 4095
_UNROLLED_STEPS = 48
"""Products of pairs and groups up to which the loop over groups is written out."""


@dataclass(frozen=True, eq=False)
class Weights:
    """A layer's constants for the kernels here.

    Attributes:
        bits: Of a weight in flash.
        channels: Output channels.
        pairs: Pairs of 16-bit activations that a window makes.
        requantization: From sums to int8.
        stream: int32, everything in the order of use.
        shared_words: Whether all channels are requantized by the same words, which stand first.
    """

    bits: WeightBits
    channels: int
    pairs: int
    requantization: Requantization
    stream: Array
    shared_words: bool


def packed_weights(
    layer: WeightedLayer, pairs: Sequence[tuple[int | None, int | None]], bits: WeightBits, may_share: bool = False
) -> Weights | None:
    """The stream of a conv_2d or fully_connected, or None where its numbers do not fit.

    Args:
        layer: The layer.
        pairs: Index in the window of the low and high half of each pair of activations.
        bits: How wide the weights are in flash.
        may_share: Whether words of the requantization that are the same for all channels may stand once, in front.
    """
    matrix = layer.weights.reshape(len(layer.weights), -1).astype(np.int64)
    padded = np.concatenate([matrix, np.zeros((len(matrix), 1), np.int64)], axis=1)
    index = np.array([[-1 if k is None else k for k in pair] for pair in pairs])
    halves = padded[:, index]  # (channels, pairs, 2)
    low, high = sum_range(layer)
    room = np.minimum(bits_of_room(low), bits_of_room(high))
    largest = np.maximum(np.maximum(matrix.max(axis=1), -matrix.min(axis=1)), 1)
    if bits == 16:
        found = requantization(layer, np.zeros_like(room), np.minimum(room, doublings(largest, 32767)))
    else:
        found = requantization(layer, np.full_like(room, 8), np.minimum(room, 8 + doublings(largest, 127)))
    if found is None:
        return None
    if bits == 8:
        halves = halves << np.maximum(found.prescale - 8, 0)[:, None, None]
        lanes = 256 * halves[1::2] + halves[: len(halves) // 2 * 2 : 2]
        if (room < 8).any() or (lanes < -32768).any():
            return None
    bias = layer.folded_bias.astype(np.int64)
    shared = may_share and found.uniform
    parts: list[Array] = [found.words[0]] if shared else []
    for start in range(0, len(matrix), 4):
        chosen = slice(start, start + 4)
        if bits == 16:
            scale = np.int64(1) << found.prescale[chosen]
            starts, words = bias[chosen] * scale, _lanes(halves[chosen] * scale[:, None, None])
        else:
            starts, words = _two_in_one(bias[chosen], halves[chosen], found.prescale[chosen])
        parts += [starts, words.T.reshape(-1)] + ([] if shared else [found.words[chosen].reshape(-1)])
    stream = np.concatenate([part.astype(np.int64) for part in parts])
    return Weights(bits, len(matrix), len(pairs), found, _wrapped(stream), shared)


def bits_of_room(sums: Array) -> Array:
    """How often a sum can be doubled within 32 bits."""
    return np.asarray([31 - max(int(s), ~int(s)).bit_length() for s in sums], np.int64)


def doublings(numbers: Array, limit: int) -> Array:
    """How often each can be doubled without passing the limit."""
    return np.floor(np.log2(limit / numbers)).astype(np.int64)


def _lanes(halves: Array) -> Array:
    """(..., 2) low and high half-words as words."""
    return np.asarray((halves[..., 0] & 0xFFFF) | ((halves[..., 1] & 0xFFFF) << 16))


def _two_in_one(bias: Array, halves: Array, prescale: Array) -> tuple[Array, Array]:
    """Starting sums and words (of two channels, a last odd one alone) of 8-bit weights.

    All of a pair arrives multiplied by 256 beyond what the weights are multiplied by already.
    """
    even = len(bias) // 2 * 2
    starts = bias << np.maximum(prescale - 8, 0)
    alone = np.minimum(prescale[even:], 8)
    starts[1:even:2] = 256 * starts[1:even:2] + starts[0:even:2]
    both = 256 * halves[1:even:2] + halves[0:even:2]
    starts[even:] <<= alone
    return starts, _lanes(np.concatenate([both, halves[even:] << alone[:, None, None]]))


def _wrapped(numbers: Array) -> Array:
    return np.asarray((numbers & 0xFFFFFFFF).astype(np.uint32).view(np.int32))


@dataclass(frozen=True)
class Pixels:
    """Which windows a function goes through, in pairs.

    Attributes:
        count: How many, in rows one after another.
        columns: In a row.
        step: Bytes from a window to the next in the row.
        row_step: Bytes from the first window of a row to the first of the next.
    """

    count: int
    columns: int
    step: int
    row_step: int

    @property
    def even_steps(self) -> bool:
        """Whether all windows are equally far apart."""
        return self.columns >= self.count or self.row_step == self.columns * self.step


def two_pixel_gemm(weights: Weights, window: Gather, pixels: Pixels, fpu: bool, written_out: bool = True) -> list[str]:
    """Instructions of a function of (input, stream, output), in r0, r1 and r2.

    Args:
        weights: The layer's.
        window: How a window is read.
        pixels: Which windows.
        fpu: Whether the core has FP registers.
        written_out: Whether a short loop over groups of channels may be written out; it then takes more code.
    """
    return _TwoPixels(weights, window, pixels, fpu, written_out).function()


class _TwoPixels:
    """Lives inside `two_pixel_gemm`: the layout of the stack frame, and the parts of the function."""

    def __init__(self, weights: Weights, window: Gather, pixels: Pixels, fpu: bool, written_out: bool) -> None:
        self.weights, self.window, self.pixels, self.fpu = weights, window, pixels, fpu
        self.kept = min(weights.pairs, _FP_PAIRS) if fpu else 0
        at = 8 * (weights.pairs - self.kept)
        self.input, self.output, self.stream, self.end, self.left, self.column, self.second = range(at, at + 28, 4)
        self.frame = (at + 28 + 7) // 8 * 8
        self.odd = pixels.count % 2 == 1
        self.groups = weights.channels // 4
        short = written_out and self.groups * weights.pairs <= _UNROLLED_STEPS
        self.written_out = self.groups <= 1 or short

    def function(self) -> list[str]:
        high = "vpush {s16-s31}" if self.fpu and self.kept > 8 else ""
        back = "vpop {s16-s31}" if high else ""
        lines = ["push {r4-r11, lr}", high, *add_constant("sp", "sp", -self.frame, "r12")]
        lines += [f"str r0, [sp, #{self.input}]", f"str r1, [sp, #{self.stream}]", f"str r2, [sp, #{self.output}]"]
        if not self.written_out:
            words = self._group_words(4) * self.groups
            lines += [*add_constant("r3", "r1", 4 * words, "r12"), f"str r3, [sp, #{self.end}]"]
        lines += [*move_constant("r3", (self.pixels.count + 1) // 2), f"str r3, [sp, #{self.left}]"]
        if not self.pixels.even_steps:
            lines += [*move_constant("r3", self.pixels.columns), f"str r3, [sp, #{self.column}]"]
        if self.odd:
            lines += [*move_constant("r3", self.weights.channels), f"str r3, [sp, #{self.second}]"]
        lines += ["1:", *self._windows(), *self._channels(), *self._next_pair()]
        lines += [*add_constant("sp", "sp", self.frame, "r12"), back, "pop {r4-r11, pc}"]
        return [line for line in lines if line]

    def _windows(self) -> list[str]:
        """Both windows of the pair, widened; the second is the first again after the last one of an odd number."""
        lines = ["/* The next two windows: each pair of inputs of both, widened, goes to FP registers or the stack. */"]
        lines += [f"ldr r0, [sp, #{self.input}]"]
        if self.odd:
            lines += [f"ldr r12, [sp, #{self.left}]", "mov r1, r0", "cmp r12, #1", "beq 3f"]
        else:
            lines += ["mov r1, r0"] if not self.pixels.even_steps else []
        if self.pixels.even_steps:
            step = self.pixels.step
            lines += [*add_constant("r1", "r0", step, "r12"), *add_constant("r12", "r1", step, "lr")]
        else:
            lines += [f"ldr r2, [sp, #{self.column}]", *self._advance("r1"), "mov r12, r1", *self._advance("r12")]
            lines += [f"str r2, [sp, #{self.column}]"]
        lines += [f"str r12, [sp, #{self.input}]"]
        if self.odd:
            lines += ["b 4f", "3:", "mov r2, #0", f"str r2, [sp, #{self.second}]", "4:"]
        return [*lines, *self.window.instructions(self._store)]

    def _advance(self, pointer: str) -> list[str]:
        """To the next window, r2 being the columns left in the row."""
        jump = self.pixels.row_step - (self.pixels.columns - 1) * self.pixels.step
        assert 0 <= jump < 65536, "rows of a window reach further than an image does"
        return [
            "subs r2, r2, #1",
            *(f"{line}" for line in move_constant("r3", jump)),
            "itt eq",
            f"moveq r2, #{self.pixels.columns}",
            f"addeq {pointer}, {pointer}, r3",
            "it ne",
            f"addne {pointer}, {pointer}, #{self.pixels.step}",
        ]

    def _store(self, pair: int, first: str, second: str) -> list[str]:
        if pair < self.kept:
            return [f"vmov s{2 * pair}, s{2 * pair + 1}, {first}, {second}"]
        at = 8 * (pair - self.kept)
        if at <= _MOST_LDRD:
            return [f"strd {first}, {second}, [sp, #{at}]"]
        return [f"str {first}, [sp, #{at}]", f"str {second}, [sp, #{at + 4}]"]

    def _load(self, pair: int) -> list[str]:
        if pair < self.kept:
            return [f"vmov r12, lr, s{2 * pair}, s{2 * pair + 1}"]
        at = 8 * (pair - self.kept)
        if at <= _MOST_LDRD:
            return [f"ldrd r12, lr, [sp, #{at}]"]
        return [f"ldr r12, [sp, #{at}]", f"ldr lr, [sp, #{at + 4}]"]

    def _channels(self) -> list[str]:
        """All channels of the pair."""
        lines = [f"ldr r8, [sp, #{self.stream}]"]
        rest = self.weights.channels % 4
        if self.written_out:
            for group in range(self.groups):
                lines += [*self._group(4), *self._write(4, 4 * group)]
        else:
            lines += ["2:", *self._group(4), *self._write(4, None)]
            lines += [f"ldr r9, [sp, #{self.end}]", "cmp r8, r9", "blo.w 2b"]
        if rest:
            lines += [*self._group(rest), *self._write(rest, 4 * self.groups if self.written_out else None)]
        return lines

    def _group_words(self, channels: int) -> int:
        words = len(channel_words(channels, self.weights.bits))
        last = int(self.weights.requantization.words.shape[1])
        return channels + words * self.weights.pairs + channels * last

    def _group(self, channels: int) -> list[str]:
        """Sums of up to four channels, requantized."""
        first, second = [f"r{c}" for c in range(channels)], [f"r{4 + c}" for c in range(channels)]
        spare = [f"r{r}" for r in range(8) if r % 4 >= channels]
        ring = [*spare, "r9", "r10", "r11"]
        lines = [f"/* {channels} channels of both windows: r0 to r3 and r4 to r7. */", load_words("r8", first)]
        fresh = set(range(channels))
        waiting: list[str] = []
        plan = channel_words(channels, self.weights.bits)
        left = len(plan) * self.weights.pairs
        for pair in range(self.weights.pairs):
            loaded = False
            for word in plan:
                if not waiting:
                    waiting = ring[: min(len(ring), left)]
                    lines.append(load_words("r8", waiting))
                register, left = waiting[0], left - 1
                waiting = waiting[1:]
                if not loaded:
                    lines += self._load(pair)
                    loaded = True
                for number, channel in enumerate(reversed(word)):
                    if number == 1:
                        lines.append(f"sxtb16 {register}, {register}")
                    start = first[channel] if channel in fresh else second[channel]
                    fresh.discard(channel)
                    lines.append(f"smlad {second[channel]}, lr, {register}, {start}")
                    lines.append(f"smlad {first[channel]}, r12, {register}, {first[channel]}")
        if self.weights.bits == 8:
            lines += split_sums(channels, (first, second), min(int(self.weights.requantization.prescale[0]), 8))
        sums = list(zip(first, second, strict=True))
        lines.append("/* To int8. */")
        return [*lines, *self.weights.requantization.instructions("r8", sums, ["r9", "r10", "r11", "r12", "lr"])]

    def _write(self, channels: int, offset: int | None) -> list[str]:
        """Stores a group, `offset` channels into the pixel, or where the output pointer is, which moves on."""
        lines = [f"ldr lr, [sp, #{self.output}]"]
        base = offset or 0
        if self.odd:
            lines += [f"ldr r9, [sp, #{self.second}]", "add r9, r9, lr"]
            lines += [f"strb r{4 + c}, [r9, #{base + c}]" for c in range(channels)]
        else:
            at = self.weights.channels + base
            lines += [f"strb r{4 + c}, [lr, #{at + c}]" for c in range(channels)]
        if offset is not None:
            return [*lines, *(f"strb r{c}, [lr, #{offset + c}]" for c in range(channels))]
        lines += [f"strb r{c}, [lr, #{c}]" for c in range(1, channels)]
        return [*lines, f"strb r0, [lr], #{channels}", f"str lr, [sp, #{self.output}]"]

    def _next_pair(self) -> list[str]:
        done = 0 if self.written_out else self.weights.channels
        lines = add_constant("lr", "lr", 2 * self.weights.channels - done, "r12")
        lines += [f"str lr, [sp, #{self.output}]", f"ldr r0, [sp, #{self.left}]", "subs r0, r0, #1"]
        return [*lines, f"str r0, [sp, #{self.left}]", "bne.w 1b"]


def channel_words(channels: int, bits: WeightBits) -> list[tuple[int, ...]]:
    """The channels in each word of a pair of activations; two are (low, high), a last odd one is alone."""
    even = channels // 2 * 2 if bits == 8 else 0
    return [*((c, c + 1) for c in range(0, even, 2)), *((c,) for c in range(even, channels))]


def split_sums(channels: int, windows: Sequence[Sequence[str]], prescale: int) -> list[str]:
    """From the sums of 256 a + b and of b to those of a and b, times 2^prescale."""
    lines = []
    for low, high in (word for word in channel_words(channels, 8) if len(word) == 2):
        for sums in windows:
            lines.append(f"sub {sums[high]}, {sums[high]}, {sums[low]}")
            if prescale < 8:
                lines.append(f"asr {sums[high]}, {sums[high]}, #{8 - prescale}")
            if prescale:
                lines.append(f"lsl {sums[low]}, {sums[low]}, #{prescale}")
    return lines

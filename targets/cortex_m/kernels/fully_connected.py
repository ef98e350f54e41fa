"""Matrix times vector: fully_connected of one row, and 1x1 convolutions of one pixel.

Four channels at a time: r0 to r3 are their sums, r4 to r7 four pairs of activations, r9 to r11 and lr four words of
weights, each brought by one LDM. The input is widened to pairs of 16 bits in scratch once, or again for each four
channels, without scratch. Weights are packed as in `gemm`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.program.weighted import weighted_layer

from ..cores import core_named
from .assembly import add_constant, load_words, shared_function
from .gemm import channel_words, packed_weights, split_sums

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Layer

    from .gemm import WeightBits, Weights

__all__ = [
    "fully_connected_int8",
    "fully_connected_int8_compact",
    "fully_connected_int8_no_scratch",
    "fully_connected_int16",
]

_LONG, _MIDDLE, _SHORT = 32, 16, 8
"""Pairs of activations that the loop's body takes."""

_LONG_INPUT = 256
"""Bytes of input from which on scratch for it is worth saving."""


def fully_connected_int16(layer: Layer) -> Kernel | None:
    """Weights widened to 16 bits in flash: the fewest instructions."""
    return _fully_connected(layer, 16, _LONG, "fully_connected_int16")


def fully_connected_int8(layer: Layer) -> Kernel | None:
    """Two channels' weights in each 16 bits: half the flash."""
    return _fully_connected(layer, 8, _LONG, "fully_connected_int8")


def fully_connected_int8_compact(layer: Layer) -> Kernel | None:
    """The same with a short loop."""
    return _fully_connected(layer, 8, _SHORT, "fully_connected_int8_compact")


def fully_connected_int8_no_scratch(layer: Layer) -> Kernel | None:
    """Widens the input as it is read, for each four channels again: a long one needs no scratch."""
    return _fully_connected(layer, 8, _MIDDLE, "fully_connected_int8_no_scratch", in_scratch=False)


def _fully_connected(layer: Layer, bits: WeightBits, body: int, name: str, in_scratch: bool = True) -> Kernel | None:
    if layer.operator.kind not in ("fully_connected", "conv_2d") or not core_named(layer.core).dsp:
        return None
    try:
        numbers = weighted_layer(layer.program, layer.operator)
    except ValueError:
        return None
    rows, columns, outputs = numbers.output_shape
    depth = numbers.weights[0].size
    if rows * columns != 1 or numbers.input_shape != (1, 1, depth):
        return None
    if not in_scratch and (depth % 4 or depth < _LONG_INPUT):
        return None
    weights = packed_weights(numbers, _pairs(depth), bits, may_share=True)
    if weights is None:
        return None
    note = f"{depth} -> {outputs} channels, four at a time."
    parameters = ("const int8_t *input", "const int32_t *stream", "int8_t *output", "const void *pairs")
    stream = f"{layer.prefix}_stream"
    lines = _instructions(weights, depth, body, in_scratch)
    function, source = shared_function(f"{name}_{depth}", parameters, note, lines)
    pairs = "{scratch}" if in_scratch else "{input0}"
    return Kernel(
        name=name,
        call=f"{function}({{input0}}, {stream}, {{output0}}, {pairs});",
        constants=(Constant(stream, weights.stream, "per four channels: starting sums, weights, multipliers"),),
        source=source,
        scratch_bytes=4 * weights.pairs if in_scratch else 0,
        # With scratch, all of the input is read before anything is written.
        leads=(-depth if in_scratch else None,),
    )


def _pairs(depth: int) -> list[tuple[int | None, int | None]]:
    """Index of the low and the high half of each pair: bytes 0 and 2, 1 and 3 of a word, then what is left."""
    whole = depth // 4 * 4
    pairs: list[tuple[int | None, int | None]] = []
    for k in range(0, whole, 4):
        pairs += [(k, k + 2), (k + 1, k + 3)]
    for k in range(whole, depth, 2):
        pairs.append((k, k + 1 if k + 1 < depth else None))
    return pairs


_FRAME = 32
_OUTPUT, _PAIRS, _ACTIVATIONS_END, _STREAM_END, _SHARED = range(0, 20, 4)


def _instructions(weights: Weights, depth: int, body: int, in_scratch: bool) -> list[str]:
    """Of a function of (input, stream, output, pairs); without scratch these are the input as it is."""
    groups, rest = divmod(weights.channels, 4)
    loops = weights.pairs // body
    lines = ["push {r4-r11, lr}", f"sub sp, sp, #{_FRAME}", "mov r8, r1"]
    lines += [f"str r2, [sp, #{_OUTPUT}]", f"str r3, [sp, #{_PAIRS}]"]
    words = 4 * weights.requantization.words.shape[1]
    if weights.shared_words:
        for at in range(0, words, 4):
            lines += ["ldr r4, [r8], #4", f"str r4, [sp, #{_SHARED + at}]"]
        words = 0
    if loops > 1:
        lines += [
            *add_constant("r4", "r3", (4 if in_scratch else 2) * body * loops, "r5"),
            f"str r4, [sp, #{_ACTIVATIONS_END}]",
        ]
    if groups > 1:
        words += 4 + weights.pairs * len(channel_words(4, weights.bits))
        lines += [*add_constant("r4", "r8", 4 * groups * words, "r5"), f"str r4, [sp, #{_STREAM_END}]"]
    if in_scratch:
        lines += ["/* The input, widened to pairs of 16 bits. */", *_widen(depth)]
    if groups:
        lines += ["2:", *_group(weights, 4, loops, body, in_scratch), *_write(4)]
        if groups > 1:
            lines += [f"ldr r4, [sp, #{_STREAM_END}]", "cmp r8, r4", "blo.w 2b"]
    if rest:
        lines += [*_group(weights, rest, loops, body, in_scratch), *_write(rest)]
    return [*lines, f"add sp, sp, #{_FRAME}", "pop {r4-r11, pc}"]


def _widen(depth: int) -> list[str]:
    """From bytes at r0 to pairs of 16 bits at r3."""
    two_words = [
        "ldr r4, [r0], #4",
        "ldr r5, [r0], #4",
        "sxtb16 r6, r4",
        "sxtb16 r7, r4, ror #8",
        "sxtb16 r9, r5",
        "sxtb16 r10, r5, ror #8",
        "stm r3!, {r6, r7, r9, r10}",
    ]
    loops, words, singles = depth // 16, depth % 16 // 4, depth % 4
    lines = []
    if loops:
        lines += [*add_constant("r12", "r0", 16 * loops, "r4"), "1:", *two_words, *two_words]
        lines += ["cmp r0, r12", "blo 1b"]
    for _ in range(words):
        lines += ["ldr r4, [r0], #4", "sxtb16 r6, r4", "sxtb16 r7, r4, ror #8", "stm r3!, {r6, r7}"]
    for number in range(0, singles, 2):
        lines.append(f"ldrsb r4, [r0, #{number}]")
        if number + 1 < singles:
            lines += [f"ldrsb r5, [r0, #{number + 1}]", "pkhbt r4, r4, r5, lsl #16"]
        lines.append("str r4, [r3], #4")
    return lines


def _group(weights: Weights, channels: int, loops: int, body: int, in_scratch: bool) -> list[str]:
    """Sums of up to four channels, requantized."""
    sums = [f"r{c}" for c in range(channels)]
    lines = [f"/* {channels} channels. */", load_words("r8", sums), f"ldr r12, [sp, #{_PAIRS}]"]
    if loops:
        lines += [*(["3:"] if loops > 1 else []), *_products(body, channels, weights.bits, in_scratch)]
        if loops > 1:
            lines += [f"ldr r4, [sp, #{_ACTIVATIONS_END}]", "cmp r12, r4", "blo.w 3b"]
    lines += _products(weights.pairs - loops * body, channels, weights.bits, in_scratch)
    if weights.bits == 8:
        lines += split_sums(channels, (sums,), min(int(weights.requantization.prescale[0]), 8))
    lines.append("/* To int8. */")
    free = ["r9", "r10", "r11", "r12", "lr"]
    shared_at = _SHARED if weights.shared_words else None
    return [*lines, *weights.requantization.instructions("r8", [[r] for r in sums], free, shared_at)]


def _products(pairs: int, channels: int, bits: WeightBits, in_scratch: bool) -> list[str]:
    """So many pairs of activations at r12 by the words at r8."""
    lines: list[str] = []
    words = channel_words(channels, bits)
    waiting: list[str] = []
    ring = [*(f"r{r}" for r in range(channels, 4)), "r9", "r10", "r11", "lr"]
    left = pairs * len(words)
    for pair in range(pairs):
        if pair % 4 == 0:
            activations = [f"r{4 + n}" for n in range(min(4, pairs - pair))]
            lines.append(load_words("r12", activations if in_scratch else activations[::2]))
            if not in_scratch:
                for even, odd in zip(activations[::2], activations[1::2], strict=True):
                    lines += [f"sxtb16 {odd}, {even}, ror #8", f"sxtb16 {even}, {even}"]
        for word in words:
            if not waiting:
                waiting = ring[: min(len(ring), left)]
                lines.append(load_words("r8", waiting))
            register, left = waiting[0], left - 1
            waiting = waiting[1:]
            for number, channel in enumerate(reversed(word)):
                if number == 1:
                    lines.append(f"sxtb16 {register}, {register}")
                lines.append(f"smlad r{channel}, r{4 + pair % 4}, {register}, r{channel}")
    return lines


def _write(channels: int) -> list[str]:
    lines = [f"ldr lr, [sp, #{_OUTPUT}]", *(f"strb r{c}, [lr, #{c}]" for c in range(1, channels))]
    return [*lines, f"strb r0, [lr], #{channels}", f"str lr, [sp, #{_OUTPUT}]"]

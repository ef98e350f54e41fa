"""One short function for convolutions of any shape: the loops of `gemm`, not written out.

Everything that differs between layers is in a table of twelve words, so that all layers with the same requantization
share the code. Windows are widened row by row, pairs of activations lie in scratch, and a loop takes four to eight of
them at a time: r9 points to them, r10 and r11 hold one of each window, r12 and lr two words of 8-bit weights.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.program.weighted import weighted_layer

from ..cores import core_named
from .assembly import load_words, shared_function
from .bands import Band, in_bands, least_lead
from .convolution import segments
from .copying import COPY_BYTES, COPY_BYTES_SOURCE
from .gather import gather
from .gemm import Pixels, channel_words, packed_weights, split_sums, two_pixel_gemm

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Layer
    from leanedge.program.weighted import WeightedLayer

    from .gemm import Weights

__all__ = ["convolution_int8_compact", "convolution_int8_in_ram"]

_BODIES = (8, 7, 6, 5, 4)
"""Pairs of activations that the loop's body may take."""

_FEW_PAIRS = 16
"""Pairs of a window up to which they are written out and still fit a small cache of code."""

_MOST_RAM = 24 * 1024
"""Bytes of weights up to which they are worth a copy."""

_FRAME = 80
_INPUT, _STREAM, _OUTPUT, _SECOND, _PAIRS_END, _STREAM_END = (f"[sp, #{at}]" for at in range(0, 24, 4))
_PAIRS = "[sp, #72]"
_FIFTH = f"[sp, #{_FRAME + 36}]"
"""The fifth argument: above the frame and the nine saved registers."""
_TABLE = ("left", "columns", "step", "jump", "rows", "words", "singles", "skip", "pairs", "outputs", "stream", "column")
_AT = {name: f"[sp, #{24 + 4 * place}]" for place, name in enumerate(_TABLE)}


def convolution_int8_compact(layer: Layer) -> Kernel | None:
    """conv_2d of any window, and fully_connected of several rows."""
    numbers = _numbers(layer)
    return None if numbers is None else _compact(layer, numbers, in_ram=False)


def convolution_int8_in_ram(layer: Layer) -> Kernel | None:
    """The same with the weights copied to scratch first: for flash that makes the core wait at each pair of windows."""
    numbers = _numbers(layer)
    if numbers is None or numbers.weights.nbytes > _MOST_RAM:
        return None
    band = Band.of(numbers)
    window = gather(segments(numbers, band.row_bytes))
    if len(window.pairs) > _FEW_PAIRS or numbers.output_shape[2] > 2000:
        return _compact(layer, numbers, in_ram=True)
    weights = packed_weights(numbers, window.pairs, 8)
    if weights is None:
        return None
    columns, depth, (down, across) = numbers.output_shape[1], numbers.input_shape[2], numbers.strides
    pixels = Pixels(band.rows * columns, columns, across * depth, down * band.row_bytes)
    lines = two_pixel_gemm(weights, window, pixels, core_named(layer.core).fpu, written_out=False)
    parameters = ("const int8_t *input", "const int32_t *stream", "int8_t *output")
    note = f"{numbers.weights[0].size} -> {weights.channels} channels, two windows and four channels at a time."
    function = shared_function("convolution_int8_in_ram", parameters, note, lines)
    return _kernel("convolution_int8_in_ram", layer, numbers, weights, function, in_ram=True)


def _numbers(layer: Layer) -> WeightedLayer | None:
    if layer.operator.kind not in ("conv_2d", "fully_connected") or not core_named(layer.core).dsp:
        return None
    try:
        numbers = weighted_layer(layer.program, layer.operator)
    except ValueError:
        return None
    rows, columns = numbers.output_shape[:2]
    return numbers if numbers.weights.shape[-1] == numbers.input_shape[2] and rows * columns > 1 else None


def _compact(layer: Layer, numbers: WeightedLayer, in_ram: bool) -> Kernel | None:
    band = Band.of(numbers)
    length, starts = _runs(numbers, band.row_bytes)
    if len({after - before for before, after in itertools.pairwise(starts)}) > 1:
        return None
    pairs = _pairs(length, len(starts))
    # A body that leaves few pairs empty, and goes round seldom.
    body = min(_BODIES, key=lambda size: -(-len(pairs) // size) * (12 * size + 3))
    pairs += [(None, None)] * (-len(pairs) % body)
    weights = packed_weights(numbers, pairs, 8)
    if weights is None or 8 * len(pairs) > 8192:
        return None
    shape = f"{layer.prefix}_shape"
    parameters = (
        *("const int8_t *input", "const int32_t *stream", "int8_t *output"),
        *("const int32_t *shape", "int32_t *pairs"),
    )
    note = "Convolution by two windows and four channels at a time; the shape is in a table."
    function = shared_function("convolution_int8_compact", parameters, note, _instructions(weights, body))
    table = Constant(shape, np.array(_table(numbers, band, weights, length, starts), np.int32), ", ".join(_TABLE))
    name = "convolution_int8_in_ram" if in_ram else "convolution_int8_compact"
    return _kernel(name, layer, numbers, weights, function, in_ram, table)


def _kernel(
    name: str,
    layer: Layer,
    numbers: WeightedLayer,
    weights: Weights,
    function: tuple[str, str],
    in_ram: bool,
    table: Constant | None = None,
) -> Kernel:
    """The kernel around a function of (input, stream, output) and the table, if there is one."""
    band = Band.of(numbers)
    stream = f"{layer.prefix}_stream"
    product, source = function
    nbytes = weights.stream.nbytes if in_ram else 0
    rows = (band.nbytes + 3) // 4 * 4 if band.copied else 0
    read = "(const int32_t *){scratch}" if in_ram else stream
    more = f", {table.name}, (int32_t *){{scratch}} + {(nbytes + rows) // 4}" if table else ""
    constants = [Constant(stream, weights.stream, "per four channels: starting sums, weights, multipliers")]
    constants += [table] if table else []
    call = f"{product}({{input0}}, {read}, {{output0}}{more});"
    if band.copied:
        bands = band.table(numbers, f"{layer.prefix}_bands")
        constants.append(bands)
        outer, text = in_bands(product, [("const int32_t *", "shape"), ("int32_t *", "pairs")] if table else [])
        source += text
        call = f"{outer}({{input0}}, {read}, {{output0}}, {bands.name}, (int8_t *){{scratch}} + {nbytes}{more});"
    if in_ram:
        copy = f"{COPY_BYTES}((int8_t *){{scratch}}, (const int8_t *){stream}, {nbytes});"
        call = f"{{{{ {copy} {call} }}}}"
    return Kernel(
        name=name,
        call=call,
        constants=tuple(constants),
        source=(COPY_BYTES_SOURCE if in_ram else "") + source,
        scratch_bytes=nbytes + rows + (8 * weights.pairs if table else 0),
        leads=(least_lead(numbers, band),),
    )


def _runs(layer: WeightedLayer, row_bytes: int) -> tuple[int, list[int]]:
    """(length, offsets) of the equally long runs of bytes that a window consists of."""
    depth, (high, wide), (down, across) = layer.input_shape[2], layer.kernel, layer.dilations
    if across == 1 or wide == 1:
        return wide * depth, [row * down * row_bytes for row in range(high)]
    return depth, [row * down * row_bytes + x * across * depth for row in range(high) for x in range(wide)]


def _pairs(length: int, runs: int) -> list[tuple[int | None, int | None]]:
    """Index in the window of each pair's halves, run by run."""
    pairs: list[tuple[int | None, int | None]] = []
    for start in range(0, runs * length, length):
        whole = length // 4 * 4
        for k in range(start, start + whole, 4):
            pairs += [(k, k + 2), (k + 1, k + 3)]
        for k in range(start + whole, start + length, 2):
            pairs.append((k, k + 1 if k + 1 < start + length else None))
    return pairs


def _table(layer: WeightedLayer, band: Band, weights: Weights, length: int, starts: list[int]) -> list[int]:
    """The words of `_TABLE`, of runs that are equally far apart."""
    columns, outputs = layer.output_shape[1:]
    depth, (down, across) = layer.input_shape[2], layer.strides
    step = across * depth
    jump = down * band.row_bytes - (columns - 1) * step
    skip = (starts[1] - starts[0] if len(starts) > 1 else length) - length
    group = 4 + 2 * weights.pairs + 4 * weights.requantization.words.shape[1]
    return [
        band.rows * columns,
        columns,
        step,
        jump,
        len(starts),
        length // 4,
        length % 4,
        skip,
        8 * weights.pairs,
        outputs,
        4 * group * (outputs // 4),
        columns,
    ]


def _instructions(weights: Weights, body: int) -> list[str]:
    """Of a function of (input, stream, output, shape, pairs)."""
    rest = weights.channels % 4
    lines = ["push {r4-r11, lr}", f"sub sp, #{_FRAME}"]
    lines += ["add r5, sp, #24", "ldm r3!, {r6-r11}", "stm r5!, {r6-r11}", "ldm r3!, {r6-r11}", "stm r5!, {r6-r11}"]
    lines += [f"str r0, {_INPUT}", f"str r1, {_STREAM}", f"str r2, {_OUTPUT}"]
    lines += [f"ldr r4, {_AT['pairs']}", f"ldr r5, {_FIFTH}", f"str r5, {_PAIRS}", "add r5, r5, r4"]
    lines += [f"str r5, {_PAIRS_END}"]
    lines += [f"ldr r5, {_AT['stream']}", "add r5, r5, r1", f"str r5, {_STREAM_END}"]
    lines += [f"ldr r5, {_AT['outputs']}", f"str r5, {_SECOND}"]
    lines += ["1:", *_windows(), f"ldr r8, {_STREAM}"]
    if weights.channels >= 4:
        lines += ["2:", *_group(weights, 4, body), f"ldr r9, {_STREAM_END}", "cmp r8, r9", "blo.w 2b"]
    if rest:
        lines += _group(weights, rest, body)
    lines += [f"ldr r9, {_AT['outputs']}", "add lr, lr, r9", f"str lr, {_OUTPUT}"]
    lines += [f"ldr r9, {_AT['left']}", "subs r9, r9, #2", f"str r9, {_AT['left']}", "bgt.w 1b"]
    return [*lines, f"add sp, #{_FRAME}", "pop {r4-r11, pc}"]


def _windows() -> list[str]:
    """Both windows of the pair, widened; the second is the first again after the last one of an odd number."""
    lines = ["/* Where the next two windows begin; the last of an odd number is taken twice. */"]
    lines += [f"ldr r0, {_INPUT}", "mov r1, r0", f"ldr r12, {_AT['left']}", "cmp r12, #1", "beq 3f"]
    lines += [f"ldr r2, {_AT['column']}", f"ldr r3, {_AT['step']}", f"ldr r4, {_AT['jump']}"]
    lines += [f"ldr r5, {_AT['columns']}", *_advance("r1"), "mov r12, r1", *_advance("r12")]
    lines += [f"str r2, {_AT['column']}", f"str r12, {_INPUT}", "b 4f", "3:", "mov r2, #0", f"str r2, {_SECOND}", "4:"]
    lines += ["/* Both, row by row, widened to 16 bits in pairs. */"]
    lines += [f"ldr r2, {_PAIRS}", f"ldr r3, {_AT['rows']}"]
    lines += ["5:", f"ldr r4, {_AT['words']}", "cbz r4, 7f"]
    lines += ["6:", "ldr r5, [r0], #4", "ldr r6, [r1], #4", "sxtb16 r7, r5", "sxtb16 r8, r6", "strd r7, r8, [r2], #8"]
    lines += ["sxtb16 r7, r5, ror #8", "sxtb16 r8, r6, ror #8", "strd r7, r8, [r2], #8", "subs r4, r4, #1", "bne 6b"]
    lines += ["7:", f"ldr r4, {_AT['singles']}", "cbz r4, 10f"]
    lines += ["8:", "ldrsb r5, [r0], #1", "ldrsb r6, [r1], #1", "subs r4, r4, #1", "beq 9f"]
    lines += ["ldrsb r7, [r0], #1", "ldrsb r8, [r1], #1", "pkhbt r5, r5, r7, lsl #16", "pkhbt r6, r6, r8, lsl #16"]
    lines += ["subs r4, r4, #1", "9:", "strd r5, r6, [r2], #8", "bne 8b"]
    lines += ["10:", f"ldr r4, {_AT['skip']}", "add r0, r0, r4", "add r1, r1, r4", "subs r3, r3, #1", "bne 5b"]
    return lines


def _advance(pointer: str) -> list[str]:
    """To the next window, r2 being the columns left in the row."""
    return ["subs r2, r2, #1", "itte eq", f"addeq {pointer}, {pointer}, r4", "moveq r2, r5", f"addne {pointer}, r3"]


def _group(weights: Weights, channels: int, body: int) -> list[str]:
    """Up to four channels of both windows, stored; leaves the output pointer in lr."""
    first, second = [f"r{c}" for c in range(channels)], [f"r{4 + c}" for c in range(channels)]
    words = channel_words(channels, 8)
    lines = [f"/* {channels} channels of both windows: r0 to r3 and r4 to r7. */"]
    lines += [load_words("r8", first), *(f"mov {b}, {a}" for a, b in zip(first, second, strict=True))]
    lines += [f"ldr r9, {_PAIRS}", "3:"]
    for _ in range(body):
        lines += ["ldm r9!, {r10, r11}", load_words("r8", ["r12", "lr"][: len(words)])]
        for word, register in zip(words, ("r12", "lr"), strict=False):
            for number, channel in enumerate(reversed(word)):
                lines += [f"sxtb16 {register}, {register}"] if number == 1 else []
                lines.append(f"smlad {second[channel]}, r11, {register}, {second[channel]}")
                lines.append(f"smlad {first[channel]}, r10, {register}, {first[channel]}")
    lines += [f"ldr r10, {_PAIRS_END}", "cmp r9, r10", "blo 3b"]
    lines += split_sums(channels, (first, second), min(int(weights.requantization.prescale[0]), 8))
    sums = list(zip(first, second, strict=True))
    lines.append("/* To int8. */")
    lines += weights.requantization.instructions("r8", sums, ["r9", "r10", "r11", "r12", "lr"])
    lines += [f"ldr lr, {_OUTPUT}", f"ldr r9, {_SECOND}", "add r9, r9, lr"]
    lines += [*(f"strb r{4 + c}, [r9, #{c}]" for c in range(channels))]
    lines += [*(f"strb r{c}, [lr, #{c}]" for c in range(1, channels)), f"strb r0, [lr], #{channels}"]
    return [*lines, f"str lr, {_OUTPUT}"]

"""One short function for depthwise convolutions of one kernel size: little flash, little memory.

Pixel by pixel, four channels at a time: r0 to r3 are their sums, r4 the pixel's input, r5 the stream of constants, r6
the distance of neighbours in a row. 8-bit weights are widened as they are read, to 256 times what they are: masking by
r7 costs no more than extending the sign, and the sums arrive multiplied as the requantization wants them. Everything
else that differs between layers is in a table. Padded images are gone through in bands of rows with their padding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.program.weighted import weighted_layer

from ...cores import core_named
from ..assembly import move_constant, shared_function
from ..bands import Band, in_bands, least_lead
from ..gemm import bits_of_room, doublings
from ..requantize import requantization, sum_range

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Layer
    from leanedge.program.weighted import WeightedLayer

    from ..requantize import Requantization

__all__ = ["depthwise_compact"]

Array = np.ndarray[Any, Any]

_MOST_TAPS = 25
"""Taps are written out: about 40 bytes of code each."""

_AT_ONCE = 3
"""Neighbours that one address register reaches: at 0, 1 and 2 times their distance."""

_FRAME = 48
_INPUT, _STREAM, _OUTPUT, _LEFT = (f"[sp, #{at}]" for at in range(0, 16, 4))
_TABLE = ("next row", "back", "channels", "columns", "step", "jump", "pixels", "column")
_AT = {name: f"[sp, #{16 + 4 * place}]" for place, name in enumerate(_TABLE)}


def depthwise_compact(layer: Layer) -> Kernel | None:
    """8-bit weights, code that all layers of one kernel size share."""
    if layer.operator.kind != "depthwise_conv_2d" or not core_named(layer.core).dsp:
        return None
    try:
        numbers = weighted_layer(layer.program, layer.operator)
    except ValueError:
        return None
    channels = numbers.input_shape[2]
    band = Band.of(numbers)
    high, wide = numbers.kernel
    # The last channels are read as a whole word, whose end only a copy is sure to have.
    reads_beyond = channels % 4 != 0 and not band.copied
    if numbers.output_shape[2] != channels or high * wide > _MOST_TAPS or reads_beyond:
        return None
    rounding = _requantization(numbers)
    if rounding is None:
        return None
    stream, shape = f"{layer.prefix}_stream", f"{layer.prefix}_shape"
    parameters = ("const int8_t *input", "const int32_t *stream", "int8_t *output", "const int32_t *shape")
    note = f"Depthwise convolution by {high} x {wide} weights, four channels at a time; the shape is in a table."
    lines = _instructions(rounding, high, wide)
    function, source = shared_function(f"depthwise_compact_{high}x{wide}", parameters, note, lines)
    call = f"{function}({{input0}}, {stream}, {{output0}}, {shape});"
    constants = [
        Constant(stream, _stream(numbers, rounding), "per four channels: starting sums, weights, multipliers"),
        Constant(shape, np.array(_table(numbers, band), np.int32), ", ".join(("neighbour", *_TABLE))),
    ]
    if band.copied:
        constants.append(band.table(numbers, f"{layer.prefix}_bands"))
        outer, more = in_bands(function, [("const int32_t *", "shape")])
        source += more
        call = f"{outer}({{input0}}, {stream}, {{output0}}, {constants[2].name}, {{scratch}}, {shape});"
    return Kernel(
        name="depthwise_compact",
        call=call,
        constants=tuple(constants),
        source=source,
        scratch_bytes=(band.nbytes + 3) // 4 * 4 + 4 if band.copied else 0,
        leads=(least_lead(numbers, band) if band.copied else _lead(numbers),),
    )


def _requantization(layer: WeightedLayer) -> Requantization | None:
    low, high = sum_range(layer)
    room = np.minimum(bits_of_room(low), bits_of_room(high))
    if (room < 8).any():
        return None
    weights = layer.weights.astype(np.int64).reshape(-1, layer.weights.shape[-1])
    largest = np.maximum(np.maximum(weights.max(axis=0), -weights.min(axis=0)), 1)
    return requantization(layer, np.full_like(room, 8), np.minimum(room, 8 + doublings(largest, 127)))


def _stream(layer: WeightedLayer, rounding: Requantization) -> Array:
    """Channels beyond the last are all zeros."""
    channels = layer.input_shape[2]
    more = -channels % 4
    scale = np.maximum(rounding.prescale, 8)
    taps = layer.weights.astype(np.int64).reshape(-1, channels) << (scale - 8)
    sums = np.pad((layer.folded_bias.astype(np.int64) << scale).astype(np.int32), (0, more)).reshape(-1, 4)
    bytes_ = np.pad(taps.astype(np.int8), ((0, 0), (0, more))).reshape(len(taps), -1, 4).transpose(1, 0, 2)
    words = np.ascontiguousarray(bytes_).view(np.dtype("<i4")).reshape(len(sums), -1)
    last = np.pad(rounding.words, ((0, more), (0, 0))).reshape(len(sums), -1)
    return np.concatenate([sums, words, last], axis=1).reshape(-1).astype(np.int32)


def _table(layer: WeightedLayer, band: Band) -> list[int]:
    """The distance of neighbours, then the words of `_TABLE`."""
    columns, channels = layer.output_shape[1:]
    (high, wide), (down, across), (below, beside) = layer.kernel, layer.strides, layer.dilations
    neighbour, row = beside * channels, below * band.row_bytes
    moved = (wide - 1) // _AT_ONCE * _AT_ONCE * neighbour
    step = across * channels
    return [
        *(neighbour, row - moved, 4 - (high - 1) * row - moved, channels, columns),
        *(step, down * band.row_bytes - columns * step, band.rows * columns, columns),
    ]


def _lead(layer: WeightedLayer) -> int:
    """Of an image that is read where it lies: whole pixels are written while the next window is read."""
    _, width, depth = layer.input_shape
    rows, columns, outputs = layer.output_shape
    down, across = layer.strides
    return max(
        (pixel + 1) * outputs - (pixel // columns * down * width + pixel % columns * across) * depth
        for pixel in range(rows * columns)
    )


def _instructions(rounding: Requantization, high: int, wide: int) -> list[str]:
    """Of a function of (input, stream, output, shape)."""
    lines = ["push {r4-r11, lr}", f"sub sp, #{_FRAME}", f"str r0, {_INPUT}", f"str r1, {_STREAM}"]
    lines += [f"str r2, {_OUTPUT}", "ldr r6, [r3], #4", "add r2, sp, #16"]
    lines += ["ldm r3!, {r8-r11}", "stm r2!, {r8-r11}", "ldm r3!, {r8-r11}", "stm r2!, {r8-r11}"]
    lines += move_constant("r7", 0xFF00FF00)
    lines += ["/* A pixel. */", "1:", f"ldr r4, {_INPUT}", f"ldr r5, {_STREAM}"]
    lines += [f"ldr lr, {_AT['channels']}", f"str lr, {_LEFT}"]
    lines += ["/* Four channels: r0 to r3. */", "2:", "ldm r5!, {r0-r3}"]
    for row in range(high):
        lines += [f"ldr r12, {_AT['next row']}", "add r4, r4, r12"] if row else []
        for first in range(0, wide, _AT_ONCE):
            lines += ["add r4, r4, r6", "add r4, r4, r6, lsl #1"] if first else []
            lines += _taps(min(_AT_ONCE, wide - first))
    lines += [f"ldr r12, {_AT['back']}", "add r4, r4, r12"]
    arrive = min(int(rounding.prescale[0]), 8)
    lines += [f"asr r{c}, r{c}, #{8 - arrive}" for c in range(4)] if arrive < 8 else []
    lines.append("/* To int8. */")
    lines += rounding.instructions("r5", [["r0"], ["r1"], ["r2"], ["r3"]], ["r8", "r9", "r10", "r11", "r12"])
    lines += [f"ldr lr, {_OUTPUT}", f"ldr r8, {_LEFT}", "subs r8, r8, #4", "blo 3f"]
    lines += [*(f"strb r{c}, [lr, #{c}]" for c in range(1, 4)), "strb r0, [lr], #4"]
    lines += [f"str lr, {_OUTPUT}", f"str r8, {_LEFT}", "bne.w 2b", "b 5f"]
    lines += ["/* One to three channels are left. */", "3:", "strb r0, [lr], #1", "adds r8, r8, #3", "beq 4f"]
    lines += ["strb r1, [lr], #1", "subs r8, r8, #1", "beq 4f", "strb r2, [lr], #1", "4:", f"str lr, {_OUTPUT}"]
    lines += ["5:", f"ldr r4, {_INPUT}", f"ldr r8, {_AT['step']}", "add r4, r4, r8"]
    lines += [f"ldr r8, {_AT['column']}", "subs r8, r8, #1", "bne 6f", f"ldr r8, {_AT['jump']}", "add r4, r4, r8"]
    lines += [f"ldr r8, {_AT['columns']}", "6:", f"str r8, {_AT['column']}", f"str r4, {_INPUT}"]
    lines += [f"ldr r8, {_AT['pixels']}", "subs r8, r8, #1", f"str r8, {_AT['pixels']}", "bne.w 1b"]
    return [*lines, f"add sp, #{_FRAME}", "pop {r4-r11, pc}"]


def _taps(count: int) -> list[str]:
    """Neighbours in a row, from r4 on."""
    inputs = ["r8", "r9", "r10"][:count]
    lines = [f"ldr {r}, [r4{place}]" for r, place in zip(inputs, ("", ", r6", ", r6, lsl #1"), strict=False)]
    for r in inputs:
        lines += ["ldr r11, [r5], #4", f"sxtb16 lr, {r}", f"sxtb16 {r}, {r}, ror #8"]
        lines += ["and r12, r7, r11, lsl #8", "and r11, r7, r11"]
        lines += ["smlabb r0, lr, r12, r0", "smlatt r2, lr, r12, r2"]
        lines += [f"smlabb r1, {r}, r11, r1", f"smlatt r3, {r}, r11, r3"]
    return lines

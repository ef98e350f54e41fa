"""add, sub and mul of two int8 tensors.

Sums take one multiply-accumulate an operand, though TFLM rounds four times.

A result depends on 2^16 pairs of inputs only. So the rounding of TFLM is not imitated: a linear function is looked for
that agrees on all of them,

    q = clip((c + (a 2^8 m_a >> 16) + (b 2^8 m_b >> 16)) >> s)

and every pair is tried. SMLAWB and SMLAWT multiply a half-word whose upper byte is the input, which one AND isolates.
Where scales are such that many sums are exact ties there may be none; two tables of what TFLM makes of each input, and
its last rounding, always do.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.program.fixed_point import INT32_MAX, INT32_MIN, quantized_multiplier, scale_by
from leanedge.program.simulate import simulate_tensors
from leanedge.program.types import ElementwiseOptions, Program
from leanedge.program.weighted import WeightedLayer, output_limits

from ..cores import core_named
from .assembly import add_constant, move_constant, naked_function
from .requantize import requantization

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.export.c_source.kernel import Layer
    from leanedge.program.types import ProgramOperator

    from .requantize import Requantization

__all__ = ["product_int8", "sum_int8", "sum_int8_tables"]

Array = np.ndarray[Any, Any]

_MOST_SHIFT = 24
_CHANGES = (0, 1, -1, 4, -4, 16, -16, 64, -64)
"""By how much the factors may differ from the real ones, to reach a result that TFLM rounds to the other side."""

_ALL = np.arange(-128, 128, dtype=np.int8)


def sum_int8(layer: Layer) -> Kernel | None:
    """Sum or difference of two tensors of one shape; None where no such function agrees with TFLM's everywhere."""
    found = _linear_sum(layer) if _is_plain_sum(layer) else None
    if found is None:
        return None
    elements = layer.program.tensors[layer.operator.output].elements
    name = f"{layer.prefix}_{layer.operator.kind}"
    parameters = ("const int8_t *left", "const int8_t *right", "int8_t *output")
    return Kernel(
        name="sum_int8",
        call=f"{name}({{input0}}, {{input1}}, {{output0}});",
        source=naked_function(name, parameters, f"{elements} elements.", _linear_instructions(found, elements)),
        leads=(0, 0),
    )


def sum_int8_tables(layer: Layer) -> Kernel | None:
    """The same for any scales, by two tables of 256 words."""
    if not _is_plain_sum(layer):
        return None
    parts, multiplier, power = _parts(layer.program, layer.operator)
    low, high = (np.array([sum(int(edge(part)) for part in parts)]) for edge in (np.min, np.max))
    out = layer.program.tensors[layer.operator.output]
    found = _last_scale(layer, (multiplier, power), (low, high))
    if found is None:
        return None
    tables = np.stack(parts) << found.prescale[0]
    # The index is the input's byte as a number without sign.
    ordered = np.concatenate([np.roll(table, 128) for table in tables] + [found.words[0]]).astype(np.int32)
    name, table = f"{layer.prefix}_{layer.operator.kind}", f"{layer.prefix}_tables"
    parameters = ("const int8_t *left", "const int8_t *right", "int8_t *output", "const int32_t *tables")
    lines = _table_instructions(found, out.elements)
    return Kernel(
        name="sum_int8_tables",
        call=f"{name}({{input0}}, {{input1}}, {{output0}}, {table});",
        constants=(Constant(table, ordered, "scaled left inputs 0 to 255, scaled right inputs, last scale"),),
        source=naked_function(name, parameters, f"{out.elements} elements.", lines),
        leads=(0, 0),
    )


def product_int8(layer: Layer) -> Kernel | None:
    """Mul of two tensors of one shape, or of the last axes of one by the other's, repeated."""
    operator, tensors = layer.operator, layer.program.tensors
    if operator.kind != "mul" or not core_named(layer.core).dsp:
        return None
    left, right, out = (tensors[name] for name in (*operator.inputs, operator.output))
    if any(t.dtype != "int8" or t.data is not None for t in (left, right, out)) or left.shape != out.shape:
        return None
    trailing = tuple(right.shape)
    while trailing and trailing[0] == 1:
        trailing = trailing[1:]
    if not trailing or left.shape[-len(trailing) :] != trailing:
        return None
    found = _product_requantization(layer)
    if found is None:
        return None
    assert left.quant is not None
    assert right.quant is not None
    zeros = int(left.quant.zero_point), int(right.quant.zero_point)
    name, words = f"{layer.prefix}_mul", f"{layer.prefix}_words"
    parameters = ("const int8_t *left", "const int8_t *right", "int8_t *output", "const int32_t *words")
    lines = _product_instructions(found, zeros, right.elements, out.elements // right.elements)
    return Kernel(
        name="product_int8",
        call=f"{name}({{input0}}, {{input1}}, {{output0}}, {words});",
        constants=(Constant(words, found.words[0], "what requantizes"),),
        source=naked_function(name, parameters, f"{out.elements} elements.", lines),
        leads=(0, 0 if right.elements == out.elements else None),
    )


def _product_requantization(layer: Layer) -> Requantization | None:
    quants = [layer.program.tensors[name].quant for name in (*layer.operator.inputs, layer.operator.output)]
    scales = [float(np.float32(quant.scale)) for quant in quants if quant is not None]
    zeros = [int(quant.zero_point) for quant in quants if quant is not None]
    sides = [(-128 - zero, 127 - zero) for zero in zeros[:2]]
    corners = [a * b for a in sides[0] for b in sides[1]]
    reached = np.array([min(corners)]), np.array([max(corners)])
    return _last_scale(layer, quantized_multiplier(scales[0] * scales[1] / scales[2]), reached)


def _last_scale(layer: Layer, factor: tuple[int, int], reached: tuple[Array, Array]) -> Requantization | None:
    """From numbers within limits to the layer's output."""
    out = layer.program.tensors[layer.operator.output]
    assert out.quant is not None
    assert isinstance(layer.operator.options, ElementwiseOptions)
    last = WeightedLayer(
        "fully_connected",
        (1, 1, 1),
        (1, 1, 1),
        np.zeros((1, 1), np.int8),
        np.zeros(1, np.int64),
        0,
        int(out.quant.zero_point),
        np.array([factor[0]]),
        np.array([factor[1]]),
        *output_limits(layer.operator.options.activation, out),
    )
    room = 30 - int(max(-reached[0][0], reached[1][0])).bit_length()
    return requantization(last, np.array([0]), np.array([max(room, 0)]), reached)


def _product_instructions(found: Requantization, zeros: tuple[int, int], columns: int, rows: int) -> list[str]:
    """Of a function of (left, right, output, words): `rows` times `columns` products, `right` beginning anew each time.

    r4 and r5 hold minus the zero points in both halves, r6 to r9 the words.
    """
    lines = ["push {r4-r11, lr}", "sub sp, sp, #16", "str r1, [sp, #0]"]
    lines += [f"ldr r{6 + word}, [r3, #{4 * word}]" for word in range(found.words.shape[1])]
    for register, zero in (("r4", zeros[0]), ("r5", zeros[1])):
        lines += move_constant(register, (-zero & 0xFFFF) * 0x10001)
    quads, rest = divmod(columns, 4)
    lines += [*add_constant("r3", "r2", rows * columns, "r12"), "str r3, [sp, #8]", "1:", "ldr r1, [sp, #0]"]
    if quads:
        lines += [*add_constant("r3", "r2", 4 * quads, "r12"), "str r3, [sp, #4]", "2:"]
        lines += ["ldr r10, [r0], #4", "ldr r11, [r1], #4"]
        for half, rotated in ((0, ""), (1, ", ror #8")):
            lines += [f"sxtab16 r12, r4, r10{rotated}", f"sxtab16 lr, r5, r11{rotated}"]
            lines += ["smulbb r3, r12, lr", "smultt r12, r12, lr"]
            for register, at in (("r3", half), ("r12", half + 2)):
                lines += [*_requantized(found, register), f"strb {register}, [r2, #{at}]"]
        lines += ["add r2, r2, #4", "ldr r3, [sp, #4]", "cmp r2, r3", "blo.w 2b"]
    for _ in range(rest):
        lines += ["ldrsb r10, [r0], #1", "ldrsb r11, [r1], #1", "sadd16 r10, r10, r4", "sadd16 r11, r11, r5"]
        lines += ["smulbb r3, r10, r11", *_requantized(found, "r3"), "strb r3, [r2], #1"]
    return [*lines, "ldr r3, [sp, #8]", "cmp r2, r3", "blo.w 1b", "add sp, sp, #16", "pop {r4-r11, pc}"]


def _requantized(found: Requantization, register: str) -> list[str]:
    bits = int(found.prescale[0])
    shifted = [f"lsl {register}, {register}, #{bits}"] if bits else []
    return [*shifted, *found.one(register, ["r6", "r7", "r8", "r9"], "lr")]


def _parts(program: Program, operator: ProgramOperator) -> tuple[list[Array], int, int]:
    """What TFLM makes of each of the 256 values of either input, and the multiplier and power of their sum."""
    quants = [program.tensors[name].quant for name in (*operator.inputs, operator.output)]
    scales = [float(np.float32(quant.scale)) for quant in quants if quant is not None]
    zeros = [int(quant.zero_point) for quant in quants if quant is not None]
    widest = 2.0 * max(scales[:2])
    left, right = (
        scale_by((_ALL.astype(np.int64) - zero) << 20, *quantized_multiplier(scale / widest))
        for scale, zero in zip(scales[:2], zeros, strict=False)
    )
    return [left, right if operator.kind == "add" else -right], *quantized_multiplier(widest / (2**20 * scales[2]))


def _is_plain_sum(layer: Layer) -> bool:
    operator, tensors = layer.operator, layer.program.tensors
    if operator.kind not in ("add", "sub") or not core_named(layer.core).dsp:
        return False
    every = [tensors[name] for name in (*operator.inputs, operator.output)]
    return all(t.dtype == "int8" and t.data is None and t.shape == every[-1].shape for t in every)


@dataclass(frozen=True)
class LinearSum:
    """q = clip((constant + (a 2^8 left >> 16) + (b 2^8 right >> 16)) >> shift, low, high)."""

    left: int
    right: int
    constant: int
    shift: int
    low: int
    high: int

    def totals(self) -> Array:
        """What is shifted in the end, of all pairs of inputs: int64 (256, 256)."""
        a, b = _ALL.astype(np.int64)[:, None], _ALL.astype(np.int64)[None, :]
        return np.asarray(self.constant + ((a * 256 * self.left) >> 16) + ((b * 256 * self.right) >> 16))


def _linear_sum(layer: Layer) -> LinearSum | None:
    """A function equal to the layer's for every pair of inputs."""
    tensors, options = layer.program.tensors, layer.operator.options
    assert isinstance(options, ElementwiseOptions)
    out = tensors[layer.operator.output]
    quants = [tensors[name].quant for name in (*layer.operator.inputs, layer.operator.output)]
    scales = [float(np.float32(quant.scale)) for quant in quants if quant is not None]
    zeros = [int(quant.zero_point) for quant in quants if quant is not None]
    wanted = _reference(layer)
    slopes = [scales[0] / scales[2], scales[1] / scales[2] * (1 if layer.operator.kind == "add" else -1)]
    start = zeros[2] + 0.5 - slopes[0] * zeros[0] - slopes[1] * zeros[1]
    largest = abs(start) + 128 * (abs(slopes[0]) + abs(slopes[1])) + 1
    shift = _MOST_SHIFT
    while shift and (largest * 2.0**shift >= 2**31 or max(map(abs, slopes)) * 2.0 ** (shift + 8) >= 2**31 - 64):
        shift -= 1
    low, high = output_limits(options.activation, out)
    nearest = [round(slope * 2 ** (shift + 8)) for slope in slopes]
    tries = sorted(itertools.product(_CHANGES, repeat=2), key=lambda change: sum(map(abs, change)))
    for left, right in tries:
        found = LinearSum(nearest[0] + left, nearest[1] + right, 0, shift, low, high)
        # The constant must lift every total to its result's first step, none to the next, and none beyond 32 bits.
        totals = found.totals()
        least = ((wanted << shift) - totals)[wanted > low].max(initial=INT32_MIN - int(totals.min()))
        most = (((wanted + 1) << shift) - 1 - totals)[wanted < high].min(initial=INT32_MAX - int(totals.max()))
        if least <= most:
            return replace(found, constant=(int(least) + int(most)) // 2)
    return None


def _reference(layer: Layer) -> Array:
    """Results of all pairs of inputs: (256, 256)."""
    operator, shape = layer.operator, (256, 256)
    names = (*operator.inputs, operator.output)
    tensors = {name: _reshaped(layer.program, name, shape) for name in names}
    pairs = np.broadcast_to(_ALL[:, None], shape), np.broadcast_to(_ALL[None, :], shape)
    fed = dict(zip(operator.inputs, pairs, strict=True))
    return simulate_tensors(Program(tensors, (operator,), (), ()), fed)[operator.output].astype(np.int64)


def _reshaped(program: Program, name: str, shape: tuple[int, ...]) -> Any:
    return replace(program.tensors[name], shape=shape)


def _linear_instructions(total: LinearSum, elements: int) -> list[str]:
    """Of a function of (left, right, output)."""
    quads, rest = divmod(elements, 4)
    loops, odd = divmod(quads, 2)
    lines = ["push {r4-r11, lr}"]
    for register, number in (("r4", total.left), ("r5", total.right), ("r6", total.constant), ("r7", 0xFF00FF00)):
        lines += move_constant(register, number)
    if loops:
        lines += [*move_constant("r3", loops), "1:", *_quad(total), *_quad(total), "subs r3, r3, #1", "bne.w 1b"]
    lines += _quad(total) if odd else []
    for _ in range(rest):
        lines += ["ldrsb r8, [r0], #1", "ldrsb r9, [r1], #1", "lsl r8, r8, #8", "lsl r9, r9, #8"]
        lines += ["smlawb r8, r4, r8, r6", "smlawb r8, r5, r9, r8", *_saturate(total, ["r8"]), "strb r8, [r2], #1"]
    return [*lines, "pop {r4-r11, pc}"]


def _quad(total: LinearSum) -> list[str]:
    """Four elements."""
    sums = ["r12", "lr", "r10", "r8"]
    lines = ["ldr r8, [r0], #4", "ldr r9, [r1], #4"]
    lines += ["and r10, r7, r8, lsl #8", "and r8, r7, r8", "and r11, r7, r9, lsl #8", "and r9, r7, r9"]
    lines += ["smlawb r12, r4, r10, r6", "smlawb lr, r4, r8, r6", "smlawt r10, r4, r10, r6", "smlawt r8, r4, r8, r6"]
    lines += ["smlawb r12, r5, r11, r12", "smlawb lr, r5, r9, lr", "smlawt r10, r5, r11, r10", "smlawt r8, r5, r9, r8"]
    lines += _saturate(total, sums)
    return [*lines, *(f"strb {r}, [r2, #{n}]" for n, r in list(enumerate(sums))[1:]), "strb r12, [r2], #4"]


def _saturate(total: LinearSum, registers: Sequence[str]) -> list[str]:
    lines = [f"ssat {r}, #8, {r}{f', asr #{total.shift}' if total.shift else ''}" for r in registers]
    for r in registers:
        if total.low > -128:
            lines += [f"cmp {r}, #{total.low}", "it lt", f"movlt {r}, #{total.low}"]
        if total.high < 127:
            lines += [f"cmp {r}, #{total.high}", "it gt", f"movgt {r}, #{total.high}"]
    return lines


def _table_instructions(found: Requantization, elements: int) -> list[str]:
    """Of a function of (left, right, output, tables)."""
    words = found.words.shape[1]
    free = ["r9", "r10", "r11", "r12", "lr"]
    lines = ["push {r4-r11, lr}", "add r4, r3, #1024", "add r5, r3, #2048"]
    lines += [f"ldr {free[word]}, [r5, #{4 * word}]" for word in range(words)]
    loops, rest = divmod(elements, 2)
    if loops:
        lines += [*add_constant("r5", "r2", 2 * loops, "r6"), "1:", *_looked_up(found, free, 2), "cmp r2, r5", "blo 1b"]
    lines += _looked_up(found, free, rest)
    return [*lines, "pop {r4-r11, pc}"]


def _looked_up(found: Requantization, free: Sequence[str], elements: int) -> list[str]:
    """One or two elements."""
    totals, others = ("r6", "r7")[:elements], ("r8", "r8")
    lines = []
    for total, other in zip(totals, others, strict=False):
        lines += [f"ldrb {total}, [r0], #1", f"ldrb {other}, [r1], #1", f"ldr {total}, [r3, {total}, lsl #2]"]
        lines += [f"ldr {other}, [r4, {other}, lsl #2]", f"add {total}, {total}, {other}"]
    for total in totals:
        lines += found.one(total, free, free[4])
    return [*lines, *(f"strb {total}, [r2], #1" for total in totals)]

"""3x3 convolutions of stride 1 by exact integer Winograd: a third or less of the multiplications, the same bits.

A tile of outputs is computed from a transformed tile of inputs and transformed weights, whose products are summed over
the channels one position of the tile at a time (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
2016). The rows of G are scaled so that everything is an integer; the results are the sums of the plain convolution
times a known factor, and wrap modulo 2^32 on the way without harm:

    F(4x4, 3x3)   rows of G [6,0,0] [-1,-1,-1] [-1,1,-1] [1,2,4] [1,-2,4] [0,0,6]; factor 9 x 2^k, k of the place in the
                  tile, which one multiplication by the inverse of 9 modulo 2^32 (shifted) turns into a power of two
    F(2x2, 3x3)   rows of G [2,0,0] [1,1,1] [1,-1,1] [0,0,2]; factor 4

Inputs are taken as x + 128, which is not negative, so that two channels a word are transformed by plain additions and
subtractions of words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.program.weighted import weighted_layer

from ..cores import core_named
from .assembly import add_constant, move_constant, shared_function
from .requantize import requantization, sum_range

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.export.c_source.kernel import Layer
    from leanedge.program.weighted import WeightedLayer

    from .requantize import Requantization

__all__ = ["winograd_2x2", "winograd_4x4", "winograd_4x4_compact"]

Array = np.ndarray[Any, Any]

_COMPACT_GROUP = 16
"""Output channels whose sums the compact variants keep at a time."""

_INVERSE_OF_NINE = pow(9, -1, 1 << 32)


@dataclass(frozen=True)
class _Scheme:
    """F(m x m, 3x3).

    Attributes:
        name: Of the kernel.
        tile: m.
        weights: G, scaled to integers.
        exponents: k of each place along one axis; the factor of a sum is `odd` x 2^(k down + k across).
        odd: 9 or 1.
        bias: What the bias is multiplied by at position (1, 1).
        offset: What keeps the lower of two channels in a word from going below zero.
    """

    name: str
    tile: int
    weights: tuple[tuple[int, int, int], ...]
    exponents: tuple[int, ...]
    odd: int
    bias: int
    offset: int

    @property
    def size(self) -> int:
        """Positions along one axis of a transformed tile."""
        return self.tile + 2

    def transform_input(self) -> list[str]:
        """One axis: r1 ... in place; r7 to r10 are lost."""
        if self.tile == 2:
            return ["sub r7, r1, r3", "add r8, r2, r3", "sub r3, r3, r2", "sub r4, r2, r4", "mov r1, r7", "mov r2, r8"]
        return [
            "sub r7, r5, r3, lsl #2",
            "sub r8, r4, r2, lsl #2",
            "sub r9, r5, r3",
            "sub r10, r4, r2",
            "sub r1, r1, r3",
            "add r1, r9, r1, lsl #2",
            "sub r6, r6, r4",
            "sub r6, r6, r10, lsl #2",
            "add r2, r7, r8",
            "sub r3, r7, r8",
            "add r4, r9, r10, lsl #1",
            "sub r5, r9, r10, lsl #1",
        ]

    def lift(self) -> list[str]:
        """Adds `offset` to every result of the transformation that follows."""
        if self.tile == 2:
            twice, once = 2 * self.offset, self.offset
            return [f"add r1, r1, #{twice}", f"add r3, r3, #{once}", f"sub r4, r4, #{once}"]
        return [f"add r5, r5, #{self.offset}", f"add r6, r6, #{self.offset}"]

    def transform_output(self) -> list[str]:
        """One axis: r1 ... to r1 ... r(m); r7 to r10 are lost."""
        if self.tile == 2:
            return ["add r1, r1, r2", "add r1, r1, r3", "sub r2, r2, r3", "sub r2, r2, r4"]
        return [
            "add r7, r2, r3",
            "sub r8, r2, r3",
            "add r9, r4, r5",
            "sub r10, r4, r5",
            "add r1, r1, r9",
            "add r1, r1, r7, lsl #2",
            "add r2, r10, r8, lsl #1",
            "add r3, r7, r9",
            "add r4, r8, r10, lsl #1",
            "add r4, r4, r6",
        ]


_F4 = _Scheme(
    "winograd_4x4",
    4,
    ((6, 0, 0), (-1, -1, -1), (-1, 1, -1), (1, 2, 4), (1, -2, 4), (0, 0, 6)),
    (3, 2, 1, 1),
    9,
    36,
    12800,
)
_F2 = _Scheme("winograd_2x2", 2, ((2, 0, 0), (1, 1, 1), (1, -1, 1), (0, 0, 2)), (1, 1), 1, 4, 512)


def winograd_4x4(layer: Layer) -> Kernel | None:
    """Tiles of 4x4 outputs: fewest multiplications, 72 bytes of weights a pair of channels."""
    return _winograd(layer, _F4, None)


def winograd_4x4_compact(layer: Layer) -> Kernel | None:
    """The same with less code and scratch: loops over rows and columns, sums of 16 output channels at a time."""
    return _winograd(layer, _F4, _COMPACT_GROUP)


def winograd_2x2(layer: Layer) -> Kernel | None:
    """Tiles of 2x2 outputs: 32 bytes of weights a pair of channels, little scratch."""
    return _winograd(layer, _F2, _COMPACT_GROUP)


@dataclass(frozen=True)
class _Plan:
    """Everything that the generated code of a layer is made from.

    Attributes:
        prefix: Of all C names.
        scheme: Tile size.
        layer: The layer's numbers.
        requantization: From sums to int8.
        group: Output channels (a multiple of 4) whose sums are kept at a time.
        rolled: Whether transformations loop over rows and columns, for small caches of code.
    """

    prefix: str
    scheme: _Scheme
    layer: WeightedLayer
    requantization: Requantization
    group: int
    rolled: bool

    @property
    def inputs(self) -> int:
        """Input channels, filled up to a multiple of 4."""
        return -(-self.layer.input_shape[2] // 4) * 4

    @property
    def outputs(self) -> int:
        """Output channels."""
        return self.layer.output_shape[2]

    @property
    def positions(self) -> int:
        """Positions of a transformed tile."""
        return self.scheme.size**2

    @property
    def patch_columns(self) -> int:
        """Columns of input that two tiles side by side see."""
        return 2 * self.scheme.tile + 2

    @property
    def patch_bytes(self) -> int:
        """Input of two tiles."""
        return self.scheme.size * self.patch_columns * self.inputs

    @property
    def value_words(self) -> int:
        """Transformed inputs of two tiles."""
        return self.positions * self.inputs

    @property
    def sum_words(self) -> int:
        """Sums of two tiles."""
        return self.positions * self.group * 2

    @property
    def staged(self) -> bool:
        """Whether tiles are written to scratch first: where not all lie in the image, or its rows lie far apart."""
        rows, columns, channels = self.layer.output_shape
        tile = self.scheme.tile
        far = ((tile - 1) * columns + tile) * channels > 4095
        return rows % tile != 0 or columns % tile != 0 or far

    @property
    def staged_bytes(self) -> int:
        """Outputs of two tiles."""
        return self.scheme.tile * 2 * self.scheme.tile * self.outputs if self.staged else 0

    @property
    def multiplications(self) -> int:
        """Words a channel that turn sums into multiples of a power of two."""
        if self.scheme.odd == 1:
            return 0
        return len(self.factors) if self.requantization.form == "floor" else 1

    @property
    def factors(self) -> tuple[int, ...]:
        """Each k of the places in a tile, falling."""
        exponents = self.scheme.exponents
        return tuple(sorted({a + b for a in exponents for b in exponents}, reverse=True))


def _winograd(layer: Layer, scheme: _Scheme, group: int | None) -> Kernel | None:
    core = core_named(layer.core)
    if not (core.dsp and core.fpu) or layer.operator.kind != "conv_2d":
        return None
    try:
        numbers = weighted_layer(layer.program, layer.operator)
    except ValueError:
        return None
    channels = numbers.input_shape[2]
    plain = numbers.kernel == (3, 3) and numbers.strides == (1, 1) and numbers.dilations == (1, 1)
    outputs = -(-numbers.output_shape[2] // 4) * 4
    if not plain or numbers.weights.shape[3] != channels or max(numbers.pads) > 2:
        return None
    if group is None and outputs > 100:
        return None
    transformed = _transformed(numbers.weights.astype(np.int64), scheme)
    most_sum = np.maximum(*(np.abs(bound) for bound in sum_range(numbers)))
    # Beyond this the wrapped result would no longer be the sum times a power of two.
    least = 2 * max(scheme.exponents)
    if (most_sum << least).max() >= 1 << 31 or channels > 512:
        return None
    room = np.array([30 - int(bound).bit_length() for bound in most_sum])
    if scheme.odd == 1:
        largest = np.abs(transformed).max(axis=(0, 1, 3))
        room = np.minimum(room, least + 14 - np.array([int(value).bit_length() for value in largest]))
    least_bits = np.full(len(room), least)
    rounding = requantization(numbers, least_bits, np.maximum(room, least_bits))
    if rounding is None:
        return None
    plan = _Plan(
        layer.prefix, scheme, numbers, rounding, min(group or outputs, outputs), scheme is _F4 and group is not None
    )
    if plan.staged and ((scheme.tile - 1) * 2 * scheme.tile + scheme.tile) * plan.outputs > 4095:
        return None
    return Kernel(
        name=scheme.name if group is None or scheme is _F2 else f"{scheme.name}_compact",
        call=f"{layer.prefix}_winograd({{input0}}, {{output0}}, {{scratch}});",
        constants=(_weights(plan, transformed), _channels(plan)),
        source=_source(plan),
        scratch_bytes=4 * (plan.value_words + plan.sum_words) + plan.patch_bytes + -(-plan.staged_bytes // 4) * 4,
        leads=(_lead(plan),),
    )


def _transformed(weights: Array, scheme: _Scheme) -> Array:
    """G w G^T: (size, size, outputs, inputs) of weights (outputs, 3, 3, inputs)."""
    matrix = np.array(scheme.weights, np.int64)
    return np.asarray(np.einsum("ia,jb,oabc->ijoc", matrix, matrix, weights))


def _weights(plan: _Plan, transformed: Array) -> Constant:
    """For each group of channels, each position and each four outputs: four biases, then words of two weights."""
    scheme, numbers = plan.scheme, plan.layer
    size, outputs = scheme.size, plan.outputs
    padded = -(-outputs // 4) * 4
    scaled = np.zeros((size, size, padded, plan.inputs), np.int64)
    scaled[:, :, :outputs, : numbers.input_shape[2]] = transformed
    bias = np.zeros((size, size, padded), np.int64)
    plain = numbers.bias.astype(np.int64)
    plain = plain - (numbers.input_zero + 128) * numbers.weights.astype(np.int64).sum(axis=(1, 2, 3))
    bias[1, 1, :outputs] = scheme.bias * plain
    if scheme.odd == 1:
        more = np.zeros(padded, np.int64)
        if plan.requantization.form == "floor":
            more[:outputs] = plan.requantization.prescale - 2
        scaled <<= more[:, None]
        bias <<= more
    quads = scaled.reshape(size * size, padded, plan.inputs // 4, 4)
    # Channels 0 and 2 of four, then 1 and 3, as SXTAB16 widens them; the lower one of two is lifted by the offset.
    low, high = quads[..., :2], quads[..., 2:]
    bias = bias.reshape(size * size, padded) - scheme.offset * low.sum(axis=(2, 3))
    words = ((low & 0xFFFF) | (high << 16)).reshape(size * size, padded, plan.inputs // 2)
    parts = []
    for start in range(0, padded, plan.group):
        for position in range(size * size):
            for four in range(start, min(start + plan.group, padded), 4):
                parts.append(bias[position, four : four + 4])
                parts.append(words[position, four : four + 4].T.reshape(-1))
    stream = (np.concatenate(parts) & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    return Constant(f"{plan.prefix}_weights", stream, "transformed weights, two a word, and biases, as they are read")


def _channels(plan: _Plan) -> Constant:
    words = plan.requantization.words.astype(np.int64)
    if plan.multiplications == 1:
        words = np.concatenate([np.full((plan.outputs, 1), _INVERSE_OF_NINE), words], axis=1)
    elif plan.multiplications:
        prescale = plan.requantization.prescale
        # As plain integers: a shift of more than 32 bits is never asked for, and int64 would overflow.
        factors = [[(_INVERSE_OF_NINE << int(bits) - k) & 0xFFFFFFFF for k in plan.factors] for bits in prescale]
        words = np.concatenate([np.array(factors, np.int64), words], axis=1)
    array = (words & 0xFFFFFFFF).astype(np.uint32).view(np.int32)
    return Constant(
        f"{plan.prefix}_channels", array, "for each output channel: what undoes the scaling, what requantizes"
    )


def _lead(plan: _Plan) -> int:
    """Every pair of tiles is read before it is written: the furthest write before, against the nearest read after."""
    rows, columns, channels = plan.layer.output_shape
    height, width, depth = plan.layer.input_shape
    top, _, left, _ = plan.layer.pads
    tile = plan.scheme.tile
    places = [(row, column) for row in range(0, rows, tile) for column in range(0, columns, 2 * tile)]
    reads, writes = [], []
    for row, column in places:
        first = max(row - top, 0) * width + max(column - left, 0)
        inside = row - top < height and column - left < width
        reads.append(first * depth if inside else height * width * depth)
        last = (min(row + tile, rows) - 1) * columns + min(column + 2 * tile, columns)
        writes.append(last * channels)
    later = np.minimum.accumulate(np.array(reads[::-1]))[::-1][1:]
    before = np.maximum.accumulate(np.array(writes))[:-1]
    # Over one tile nothing is read after a write.
    return int((before - later).max()) if len(later) else -height * width * depth


# --- Assembly ---------------------------------------------------------------------------------------------------------


def _far_load(register: str, base: str, offset: int, spare: str) -> list[str]:
    if offset <= 4095:
        return [f"ldr {register}, [{base}, #{offset}]"]
    return [*add_constant(spare, base, offset & ~4095, spare), f"ldr {register}, [{spare}, #{offset & 4095}]"]


def _transform_function(plan: _Plan) -> tuple[str, str]:
    """Input transformation of one tile, four channels at a time."""
    scheme, size, depth = plan.scheme, plan.scheme.size, plan.inputs
    registers = [f"r{1 + n}" for n in range(size)]
    frame = -(-(size * size * 4 + 4) // 8) * 8
    end = size * size * 4
    stride = depth * 4
    lines = ["push {r4-r11, lr}", f"sub sp, sp, #{frame}", "mov r12, r1"]
    lines += [*add_constant("r11", "r0", depth, "r11"), f"str r11, [sp, #{end}]", "1:"]
    for half in (0, 1):
        rotated = ", ror #8" if half else ""
        lines += move_constant("lr", 0x00800080)
        for column in range(1 if plan.rolled else size):
            for row, register in enumerate(registers):
                load = _far_load(register, "r0", (row * plan.patch_columns + column) * depth, "r7")
                lines += ["mov r11, sp", "2:", *load] if plan.rolled and row == 0 else load
            lines += [f"sxtab16 {r}, lr, {r}{rotated}" for r in registers]
            lines += scheme.transform_input()
            lines += _store_column(plan, registers, "r11", size, column)
        if plan.rolled:
            lines += [*add_constant("r0", "r0", depth, "r7"), f"add r7, sp, #{4 * size}", "cmp r11, r7", "bne.w 2b"]
            lines += add_constant("r0", "r0", -size * depth, "r7")
        lines += ["mov lr, sp", "mov r11, r12", *(["3:"] if plan.rolled else [])]
        for row in range(1 if plan.rolled else size):
            lines += [f"ldm lr!, {{{', '.join(registers)}}}", *scheme.lift(), *scheme.transform_input()]
            for column, register in enumerate(registers):
                lines.append(f"str {register}, [r11, #{column * stride + half * 8}]")
            if plan.rolled or row < size - 1:
                lines += add_constant("r11", "r11", size * stride, "r7")
        lines += [f"add r7, sp, #{4 * size * size}", "cmp lr, r7", "bne.w 3b"] if plan.rolled else []
    lines += ["add r12, r12, #16", "add r0, r0, #4", f"ldr r11, [sp, #{end}]", "cmp r0, r11", "blo.w 1b"]
    lines += [f"add sp, sp, #{frame}", "pop {r4-r11, pc}"]
    note = (
        "Input transformation of one tile, two channels a word: down the columns into the stack, then along the rows.\n"
        "r0 patch, r12 where the values go, r1 on a column or row, lr 0x00800080 or the stack."
    )
    return shared_function("winograd_transform", ["const int8_t *patch", "int32_t *values"], note, lines)


def _store_column(plan: _Plan, registers: Sequence[str], pointer: str, size: int, column: int) -> list[str]:
    """A column of a matrix on the stack: at `pointer`, which moves on, or at its place."""
    if not plan.rolled:
        return [f"str {r}, [sp, #{(row * size + column) * 4}]" for row, r in enumerate(registers)]
    below = [f"str {r}, [{pointer}, #{row * size * 4}]" for row, r in enumerate(registers) if row]
    return [*below, f"str {registers[0]}, [{pointer}], #4"]


def _multiply_function(plan: _Plan) -> tuple[str, str]:
    """Products of two tiles with a group's weights, summed over the channels, one position after the other."""
    pairs = plan.inputs // 2
    in_registers = min(pairs, 16)
    on_stack = 2 * (pairs - in_registers)
    frame = -(-(on_stack * 4 + 24) // 8) * 8
    values, sums, fours, positions, left, skip = (on_stack * 4 + 4 * n for n in range(6))
    uneven = -(-plan.outputs // 4) * 4 % plan.group != 0
    lines = ["push {r4-r11, lr}", "vpush {s16-s31}", f"sub sp, sp, #{frame}"]
    lines += [f"str r0, [sp, #{values}]", f"str r2, [sp, #{sums}]", f"str r3, [sp, #{fours}]", "mov r8, r1"]
    if uneven:
        # The last group has fewer channels; its sums lie as far apart as those of the others.
        lines += [f"rsb r3, r3, #{plan.group // 4}", "lsl r3, r3, #5", f"str r3, [sp, #{skip}]"]
    lines += [f"mov r4, #{plan.positions}", f"str r4, [sp, #{positions}]", "1:", f"ldr r0, [sp, #{values}]"]
    lines += [f"vldmia r0!, {{s0-s{2 * in_registers - 1}}}"]
    if on_stack:
        lines.append("mov r10, sp")
    for start in range(0, on_stack, 8):
        some = [f"r{n}" for n in (1, 2, 3, 4, 5, 6, 7, 9)][: min(8, on_stack - start)]
        lines += [f"ldm r0!, {{{', '.join(some)}}}", f"stm r10!, {{{', '.join(some)}}}"]
    lines += [f"str r0, [sp, #{values}]", f"ldr r12, [sp, #{fours}]", f"str r12, [sp, #{left}]", "2:"]
    lines += ["ldm r8!, {r0-r3}"]
    for pair in range(pairs):
        at = [
            f"vmov lr, s{2 * pair + tile}"
            if pair < in_registers
            else f"ldr lr, [sp, #{(pair - in_registers) * 8 + 4 * tile}]"
            for tile in (0, 1)
        ]
        lines += ["ldm r8!, {r9-r12}", at[1]]
        lines += [f"smlad r{4 + n}, lr, r{9 + n}, r{n if pair == 0 else 4 + n}" for n in range(4)]
        lines += [at[0]]
        lines += [f"smlad r{n}, lr, r{9 + n}, r{n}" for n in range(4)]
    lines += [f"ldr lr, [sp, #{sums}]", f"ldr r9, [sp, #{left}]", "stm lr!, {r0-r7}", f"str lr, [sp, #{sums}]"]
    lines += ["subs r9, r9, #1", f"str r9, [sp, #{left}]", "bne.w 2b"]
    if uneven:
        lines += [f"ldr r0, [sp, #{skip}]", "add lr, lr, r0", f"str lr, [sp, #{sums}]"]
    lines += [f"ldr r0, [sp, #{positions}]", "subs r0, r0, #1", f"str r0, [sp, #{positions}]", "bne.w 1b"]
    lines += [f"add sp, sp, #{frame}", "vpop {s16-s31}", "pop {r4-r11, pc}"]
    note = (
        "Sums over the channels at each position of two tiles, four output channels at a time.\n"
        "r0-r3 sums of the first tile, r4-r7 of the second, r8 biases and weights, s0-s31 and the stack the values."
    )
    parameters = ["const int32_t *values", "const int32_t *weights", "int32_t *sums", "int32_t fours"]
    return shared_function("winograd_multiply", parameters, note, lines)


def _output_function(plan: _Plan) -> tuple[str, str]:
    """Output transformation and requantization of one tile, one channel after the other."""
    scheme, size, tile = plan.scheme, plan.scheme.size, plan.scheme.tile
    registers = [f"r{1 + n}" for n in range(size)]
    results = registers[:tile]
    frame = -(-(tile * size * 4 + 20) // 8) * 8
    sums, out, left, done = (tile * size * 4 + 4 * n for n in range(4))
    floor, words = plan.requantization.form == "floor", plan.requantization.words.shape[1]
    loaded = plan.multiplications + (0 if floor else words)
    row_bytes = (2 * tile if plan.staged else plan.layer.output_shape[1]) * plan.outputs
    stride = plan.group * 8
    lines = ["push {r4-r11, lr}", f"sub sp, sp, #{frame}", "mov r12, r1"]
    lines += [f"str r2, [sp, #{out}]", f"str r3, [sp, #{left}]", "mov r4, #0", f"str r4, [sp, #{done}]", "1:"]
    lines.append(f"str r0, [sp, #{sums}]")
    lines += ["mov lr, sp", "2:"] if plan.rolled else []
    for row in range(1 if plan.rolled else size):
        lines += [f"ldr {r}, [r0, #{column * stride}]" for column, r in enumerate(registers)]
        lines += scheme.transform_output()
        lines += _store_column(plan, results, "lr", size, row)
        if plan.rolled or row < size - 1:
            lines += add_constant("r0", "r0", size * stride, "r7")
    lines += [f"add r7, sp, #{4 * size}", "cmp lr, r7", "bne.w 2b"] if plan.rolled else []
    lines += ["mov lr, sp", f"ldr r0, [sp, #{out}]"]
    lines += [f"vldmia r12!, {{s0-s{loaded - 1}}}"] if loaded > 1 else ["vldmia r12!, {s0}"] * loaded
    # The floor form's two words stay in r11 and r12; the other forms' are brought again for each column.
    lines += ["vmov s8, r12", "ldm r12, {r11, r12}"] if floor else []
    for column in range(tile):
        lines += [f"ldm lr!, {{{', '.join(registers)}}}", *scheme.transform_output()]
        ks = [scheme.exponents[row] + scheme.exponents[column] for row in range(tile)]
        lines += _unscale(plan, results, ks)
        free = ["r11", "r12"]
        if not floor:
            free = [f"r{5 + n}" for n in range(words + 1)]
            lines += [f"vmov {r}, s{plan.multiplications + n}" for n, r in enumerate(free[:words])]
        lines += plan.requantization.one_channel(results, free)
        lines += [f"strb {r}, [r0, #{row * row_bytes + column * plan.outputs}]" for row, r in enumerate(results)]
    lines += ["vmov r12, s8", "add r12, r12, #8"] if floor else []
    lines += ["add r0, r0, #1", f"str r0, [sp, #{out}]", f"ldr r0, [sp, #{sums}]", "add r0, r0, #4"]
    lines += [f"ldr r1, [sp, #{done}]", "add r1, r1, #1", f"str r1, [sp, #{done}]"]
    lines += ["tst r1, #3", "it eq", "addeq r0, r0, #16", f"ldr r2, [sp, #{left}]", "cmp r1, r2", "blo.w 1b"]
    lines += [f"add sp, sp, #{frame}", "pop {r4-r11, pc}"]
    note = (
        "Output transformation of one tile: along the rows into the stack, then down the columns, then to int8.\n"
        "r0 sums, then output; r12 the channel's constants; r1 on a row or column."
    )
    parameters = ["const int32_t *sums", "const int32_t *channels", "int8_t *output", "int32_t count"]
    return shared_function("winograd_output", parameters, note, lines)


def _unscale(plan: _Plan, results: Sequence[str], ks: Sequence[int]) -> list[str]:
    """From odd x 2^k x sum to 2^prescale x sum."""
    form = plan.requantization.form
    lines = []
    if plan.multiplications == 1:
        lines.append("vmov r5, s0")
        lines += [f"mul {r}, {r}, r5" for r in results]
    elif plan.multiplications:
        needed = sorted(set(ks))
        register = {k: f"r{5 + n}" for n, k in enumerate(needed)}
        lines += [f"vmov {register[k]}, s{plan.factors.index(k)}" for k in needed]
        lines += [f"mul {r}, {r}, {register[k]}" for r, k in zip(results, ks, strict=True)]
    if form != "floor":
        wanted = 0 if form == "general" else 1
        lines += [f"asr {r}, {r}, #{k - wanted}" for r, k in zip(results, ks, strict=True)]
    return lines


def _copy_function() -> tuple[str, str]:
    """Copies words that need not be aligned where they come from."""
    lines = ["push {r4-r9, lr}", "subs r2, r2, #8", "blt 2f", "1:"]
    lines += [f"ldr {r}, [r0], #4" for r in ("r3", "r4", "r5", "r6", "r7", "r8", "r9", "r12")]
    lines += ["stm r1!, {r3-r9, r12}", "subs r2, r2, #8", "bge 1b", "2:", "adds r2, r2, #8", "beq 4f", "3:"]
    lines += ["ldr r3, [r0], #4", "str r3, [r1], #4", "subs r2, r2, #1", "bne 3b", "4:", "pop {r4-r9, pc}"]
    parameters = ["const int8_t *from", "int8_t *to", "int32_t words"]
    return shared_function("copy_words", parameters, "Copies words.", lines)


# --- C ----------------------------------------------------------------------------------------------------------------


def _source(plan: _Plan) -> str:
    made = {
        "transform": _transform_function(plan),
        "multiply": _multiply_function(plan),
        "output": _output_function(plan),
    }
    if plan.layer.input_shape[2] == plan.inputs:
        made["copy"] = _copy_function()
    names = {what: name for what, (name, _) in made.items()}
    return "\n".join([*(source for _, source in made.values()), _patch_source(plan, names), _main_source(plan, names)])


def _patch_source(plan: _Plan, names: Mapping[str, str]) -> str:
    """What two tiles see, with padding, into scratch."""
    p, depth = plan.prefix, plan.layer.input_shape[2]
    height, width, _ = plan.layer.input_shape
    pad = plan.layer.input_zero
    size, columns = plan.scheme.size, plan.patch_columns
    if depth == plan.inputs:
        fill = f"""        for (int32_t i = 0; i < {columns * depth // 4}; ++i)
                ((int32_t *)to)[i] = {(pad & 0xFF) * 0x01010101:#x};"""
        inner = f"""        int8_t *to = patch + i * {columns * depth};
        if (row + i < 0 || row + i >= {height} || first < 0 || end > {width}) {{
    {fill}
        }}
        if (row + i >= 0 && row + i < {height}) {{
            const int32_t from = first < 0 ? 0 : first, until = end > {width} ? {width} : end;
            if (from < until)
                {names["copy"]}(input + ((row + i) * {width} + from) * {depth}, to + (from - first) * {depth},
                    (until - from) * {depth // 4});
        }}"""
    else:
        inner = f"""        for (int32_t j = 0; j < {columns}; ++j) {{
            const int32_t inside = row + i >= 0 && row + i < {height} && first + j >= 0 && first + j < {width};
            const int8_t *from = input + ((row + i) * {width} + first + j) * {depth};
            int8_t *to = patch + (i * {columns} + j) * {plan.inputs};
            for (int32_t k = 0; k < {plan.inputs}; ++k)
                to[k] = inside && k < {depth} ? from[k] : {pad};
        }}"""
    end = f", end = first + {columns}" if depth == plan.inputs else ""
    return f"""/* What two tiles see of the input, from a row and a column on, with padding. */
static void {p}_patch(const int8_t *input, int8_t *patch, int32_t row, int32_t first)
{{
    {f"const int32_t end = first + {columns};" if end else ""}
    for (int32_t i = 0; i < {size}; ++i) {{
{inner}
    }}
}}
"""


def _main_source(plan: _Plan, names: Mapping[str, str]) -> str:
    p, tile, outputs = plan.prefix, plan.scheme.tile, plan.outputs
    rows, columns, _ = plan.layer.output_shape
    top, _, left, _ = plan.layer.pads
    padded = -(-outputs // 4) * 4
    channel_words = plan.multiplications + plan.requantization.words.shape[1]
    group_words = plan.positions * (1 + plan.inputs // 2)
    target = "staged" if plan.staged else f"output + (row * {columns} + column) * {outputs}"
    staged = f"\n    int8_t *staged = patch + {plan.patch_bytes};" if plan.staged else ""
    count = (
        str(outputs) if plan.group >= padded else f"{outputs} - group < {plan.group} ? {outputs} - group : {plan.group}"
    )
    store = (
        f"""
            for (int32_t i = 0; i < {tile} && row + i < {rows}; ++i) {{
                const int32_t bytes = ({columns} - column < {2 * tile} ? {columns} - column : {2 * tile}) * {outputs};
                int8_t *to = output + ((row + i) * {columns} + column) * {outputs};
                for (int32_t k = 0; k < bytes; ++k)
                    to[k] = staged[i * {2 * tile * outputs} + k];
            }}"""
        if plan.staged
        else ""
    )
    second = f"column + {tile} < {columns}"
    return f"""/* Winograd's convolution F({tile}x{tile}, 3x3), two tiles at a time. */
static void {p}_winograd(const int8_t *input, int8_t *output, void *scratch)
{{
    int32_t *values = scratch;
    int32_t *sums = values + {plan.value_words};
    int8_t *patch = (int8_t *)(sums + {plan.sum_words});{staged}

    for (int32_t row = 0; row < {rows}; row += {tile}) {{
        for (int32_t column = 0; column < {columns}; column += {2 * tile}) {{
            {p}_patch(input, patch, row - {top}, column - {left});
            {names["transform"]}(patch, values);
            {names["transform"]}(patch + {tile * plan.inputs}, values + 1);
            for (int32_t group = 0; group < {outputs}; group += {plan.group}) {{
                const int32_t count = {count};
                int8_t *to = {target} + group;
                {names["multiply"]}(values, {p}_weights + group * {group_words}, sums, (count + 3) / 4);
                {names["output"]}(sums, {p}_channels + group * {channel_words}, to, count);
                if ({second})
                    {names["output"]}(sums + 4, {p}_channels + group * {channel_words}, to + {tile * outputs}, count);
            }}{store}
        }}
    }}
}}
"""

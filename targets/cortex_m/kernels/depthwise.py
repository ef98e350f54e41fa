"""Depthwise convolution for cores with the DSP extension: planes of vertical pairs, one channel at a time.

Four channels at a time are spread into planes of 32-bit words that hold a pair of rows, widened to 16 bits; padding
stands in the plane, so that no border is checked. Then each channel is computed with its weights in registers, two
rows by two columns at once: a pair of rows meets a pair of weights in one SMLAD.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.program.weighted import weighted_layer

from .assembly import add_constant, move_constant, naked_function
from .requantize import Requantization, requantization

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.export.c_source.kernel import Layer
    from leanedge.program.weighted import WeightedLayer

__all__ = ["depthwise_planes", "depthwise_strips"]

Array = np.ndarray[Any, Any]

_DSP_CORES = ("cortex-m4", "cortex-m7", "cortex-m33")
_GROUP = 4
"""Channels that are gathered at a time: the bytes of a word."""


def depthwise_planes(layer: Layer) -> Kernel | None:
    """Whole planes of four channels in scratch: fastest, and may run in place."""
    return _depthwise(layer, None)


def depthwise_strips(layer: Layer) -> Kernel | None:
    """Strips of two groups of rows in scratch: little memory, a few percent more instructions."""
    return _depthwise(layer, 2)


@dataclass(frozen=True)
class _View:
    """An image whose rows are paired: of the layer itself, or of its transpose for windows one row high.

    Attributes:
        rows: Height of the input.
        columns: Width of the input.
        row_bytes: From a row of the input to the next.
        column_bytes: From a column of the input to the next.
        out_rows: Height of the output.
        out_columns: Width of the output.
        out_row_bytes: From a row of the output to the next.
        out_column_bytes: From a column of the output to the next.
        stride: Vertical and horizontal.
        top: Rows of padding before the first.
        left: Columns of padding before the first.
        weights: (kernel height, kernel width, channels).
    """

    rows: int
    columns: int
    row_bytes: int
    column_bytes: int
    out_rows: int
    out_columns: int
    out_row_bytes: int
    out_column_bytes: int
    stride: tuple[int, int]
    top: int
    left: int
    weights: Array

    @classmethod
    def of(cls, numbers: WeightedLayer) -> _View:
        """The layer's own view, or its transpose where only columns can be paired."""
        height, width, channels = numbers.input_shape
        out_height, out_width, outputs = numbers.output_shape
        top, _, left, _ = numbers.pads
        view = cls(
            height,
            width,
            width * channels,
            channels,
            out_height,
            out_width,
            out_width * outputs,
            outputs,
            numbers.strides,
            top,
            left,
            numbers.weights,
        )
        return view.transposed() if numbers.kernel[0] == 1 else view

    def transposed(self) -> _View:
        """Rows and columns exchanged."""
        return _View(
            self.columns,
            self.rows,
            self.column_bytes,
            self.row_bytes,
            self.out_columns,
            self.out_rows,
            self.out_column_bytes,
            self.out_row_bytes,
            (self.stride[1], self.stride[0]),
            self.left,
            self.top,
            self.weights.transpose(1, 0, 2),
        )


@dataclass(frozen=True)
class _Words:
    """Which weights stand in which register: pairs of vertical neighbours, and single ones for what is left.

    Attributes:
        halves: For each word its (low, high) taps as (row, column); None for nothing.
    """

    halves: tuple[tuple[tuple[int, int] | None, tuple[int, int] | None], ...]

    @classmethod
    def of(cls, kernel: tuple[int, int], *, both_parities: bool) -> _Words:
        """Words for output rows that begin on even rows of the plane, or on even and on odd ones."""
        height, width = kernel
        first = [0, 1] if both_parities else [0]
        pairs: list[tuple[tuple[int, int] | None, tuple[int, int] | None]] = [
            ((row, column), (row + 1, column))
            for begin in first
            for row in range(begin, height - 1, 2)
            for column in range(width)
        ]
        held = {tap for pair in pairs for tap in pair}
        alone = {height - 1} if height % 2 else set()
        if both_parities:
            alone |= {0} | ({height - 1} if height % 2 == 0 else set())
        single = [(row, column) for row in sorted(alone) for column in range(width) if (row, column) not in held]
        single_pairs = [
            (tap, single[i + 1] if i + 1 < len(single) else None) for i, tap in enumerate(single) if i % 2 == 0
        ]
        return cls((*pairs, *single_pairs))

    def pair(self, tap: tuple[int, int]) -> int:
        """The word that holds this tap low and the one below it high."""
        return self.halves.index((tap, (tap[0] + 1, tap[1])))

    def half(self, tap: tuple[int, int]) -> tuple[int, str]:
        """A word that holds this tap, and where: ``B`` low, ``T`` high."""
        for number, (low, high) in enumerate(self.halves):
            if tap in (low, high):
                return number, "B" if tap == low else "T"
        raise KeyError(tap)

    def array(self, weights: Array) -> Array:
        """int32 (channels, words) of scaled weights (kernel height, kernel width, channels)."""
        zero = np.zeros(weights.shape[2], np.int64)
        columns = []
        for low, high in self.halves:
            bottom, top = (zero if tap is None else weights[tap] for tap in (low, high))
            columns.append((bottom & 0xFFFF) | (top << 16))
        return np.stack(columns, axis=1).astype(np.uint32).view(np.int32)


@dataclass(frozen=True)
class _Plan:
    """Everything that the generated code of a layer is made from.

    Attributes:
        prefix: Of all C names.
        view: The image.
        channels: Of the input.
        multiplier: Output channels of an input channel.
        pad: What padding holds.
        words: Weights in registers.
        requantization: From sums to int8.
        rows_at_once: Output rows of a block.
        columns_at_once: Output columns of a block.
        strip: Groups of rows that are computed between two gatherings; None for the whole plane at once.
    """

    prefix: str
    view: _View
    channels: int
    multiplier: int
    pad: int
    words: _Words
    requantization: Requantization
    rows_at_once: int
    columns_at_once: int
    strip: int | None

    @property
    def pad_word(self) -> int:
        """Two padding values of 16 bits."""
        return (self.pad & 0xFFFF) * 0x10001

    @property
    def lanes(self) -> int:
        """Channels that are gathered together."""
        return _GROUP if self.channels >= _GROUP else 1

    @property
    def width(self) -> int:
        """Words of a row of a plane."""
        return (self.view.out_columns - 1) * self.view.stride[1] + int(self.view.weights.shape[1])

    @property
    def gathered(self) -> int:
        """Columns of the image that the plane holds."""
        return min(self.view.columns, self.width - self.view.left)

    def pairs_of(self, rows: int) -> int:
        """Pairs of rows that so many output rows see."""
        return (self.view.stride[0] * (rows - 1) + int(self.view.weights.shape[0]) - 1) // 2 + 1

    @property
    def groups(self) -> int:
        """Whole groups of output rows."""
        return self.view.out_rows // self.rows_at_once

    @property
    def rest(self) -> int:
        """Output rows after the last whole group."""
        return self.view.out_rows % self.rows_at_once

    @property
    def step(self) -> int:
        """Pairs of rows from one group of output rows to the next."""
        return max(self.rows_at_once * self.view.stride[0] // 2, 1)

    @property
    def overlap(self) -> int:
        """Pairs of rows that a group shares with the next."""
        return max(self.pairs_of(self.rows_at_once) - self.step, 0)

    @property
    def plane_rows(self) -> int:
        """Pairs of rows in a plane."""
        if self.strip is None:
            return self.pairs_of(self.view.out_rows)
        return self.overlap + self.step * self.strip

    @property
    def plane_words(self) -> int:
        """Words of a channel's plane."""
        return self.plane_rows * self.width

    def kind_of_pair(self, pair: int) -> str:
        """Which rows of a pair are in the image: ``both``, ``low``, ``high`` or ``none``."""
        row = 2 * pair - self.view.top
        low, high = 0 <= row < self.view.rows, 0 <= row + 1 < self.view.rows
        return {(True, True): "both", (True, False): "low", (False, True): "high", (False, False): "none"}[low, high]


def _depthwise(layer: Layer, strip: int | None) -> Kernel | None:
    if layer.core not in _DSP_CORES or layer.operator.kind != "depthwise_conv_2d":
        return None
    try:
        numbers = weighted_layer(layer.program, layer.operator)
    except ValueError:
        return None
    view = _View.of(numbers)
    vertical, _ = view.stride
    if numbers.dilations != (1, 1) or vertical > 2 or view.left >= view.columns + view.left:
        return None
    rows, columns = _block_size(view)
    words = _Words.of((view.weights.shape[0], view.weights.shape[1]), both_parities=vertical == 1 and rows > 1)
    if len(words.halves) > len(_WEIGHTS):
        return None
    most = _prescale_limit(numbers)
    rounding = requantization(numbers, np.zeros_like(most), most)
    if rounding is None:
        return None
    channels = numbers.input_shape[2]
    plan = _Plan(
        layer.prefix,
        view,
        channels,
        numbers.output_shape[2] // channels,
        numbers.input_zero,
        words,
        rounding,
        rows,
        columns,
        strip,
    )
    if (strip is not None and plan.groups <= strip) or plan.width * plan.plane_rows > 2**24 or _too_far(plan):
        return None
    return Kernel(
        name="depthwise_planes" if strip is None else "depthwise_strips",
        call=f"{layer.prefix}_depthwise({{input0}}, {{output0}}, {{scratch}});",
        constants=(_constants(plan, numbers),),
        source=_source(plan),
        scratch_bytes=4 * plan.lanes * plan.plane_words,
        leads=(0 if _runs_in_place(plan) else None,),
        exact=True,
    )


def _block_size(view: _View) -> tuple[int, int]:
    """(rows, columns) of the output that are computed together: four sums at most."""
    if view.out_rows == 1:
        return 1, 4
    if view.out_columns == 1 and view.out_rows % 4 == 0 and view.stride[0] == 1:
        return 4, 1
    return 2, 2


def _prescale_limit(numbers: WeightedLayer) -> Array:
    """Bits by which each channel's weights can be multiplied and still be int16."""
    weights = numbers.weights.astype(np.int64).reshape(-1, numbers.weights.shape[-1])
    limit = np.zeros(weights.shape[1], np.int64)
    for bits in range(1, 9):
        scaled = weights << bits
        limit[(scaled.min(axis=0) >= -(1 << 15)) & (scaled.max(axis=0) < 1 << 15)] = bits
    return limit


def _too_far(plan: _Plan) -> bool:
    """Whether a block's words lie further apart than a load can reach."""
    deepest = plan.pairs_of(plan.rows_at_once) - 1
    return 4 * (deepest * plan.width + _MOST_BLOCKS * plan.columns_at_once * plan.view.stride[1]) > 3800


def _runs_in_place(plan: _Plan) -> bool:
    """Whether each channel's outputs come to stand where only what was gathered before stood."""
    if plan.multiplier != 1:
        return False
    if plan.strip is None:
        return True
    view = plan.view
    for done in range(plan.strip, plan.groups + 1, plan.strip):
        written = ((done * plan.rows_at_once - 1) * view.out_row_bytes) + (view.out_columns - 1) * view.out_column_bytes
        needed = max(2 * (done * plan.step + plan.overlap) - view.top, 0) * view.row_bytes
        if written >= needed and needed < view.rows * view.row_bytes:
            return False
    # In a transposed view the order of rows is not the order of addresses.
    return view.row_bytes > view.column_bytes


def _constants(plan: _Plan, numbers: WeightedLayer) -> Constant:
    prescale = plan.requantization.prescale
    scaled = plan.view.weights.astype(np.int64) << prescale
    rows = np.concatenate(
        [
            plan.words.array(scaled),
            (numbers.folded_bias.astype(np.int64) << prescale)[:, None].astype(np.int32),
            plan.requantization.words,
        ],
        axis=1,
    )
    note = f"for each channel: {len(plan.words.halves)} words of two weights, the bias, what requantizes"
    return Constant(f"{plan.prefix}_channels", rows, note)


# --- Assembly ---------------------------------------------------------------------------------------------------------

_WEIGHTS = ("r3", "r4", "r5", "r6", "r7", "r8")
_SUMS = ("r9", "r10", "r11", "r12")
_MOST_BLOCKS = 6
"""Blocks of a row that are unrolled: more would not fit a small instruction cache."""

# Stack frame of the row function.
_BIAS, _ROUNDING, _ROWS_LEFT, _SAVED, _BLOCKS_LEFT, _FRAME = 0, 4, 20, 24, 40, 48


def _row_function(plan: _Plan, name: str, rows: int, columns: int, *, many: bool) -> str:
    """Computes groups of output rows of one channel from its plane."""
    view = plan.view
    words = plan.requantization.words.shape[1]
    weights = _WEIGHTS[: len(plan.words.halves)]
    bias = _WEIGHTS[len(weights)] if len(weights) < len(_WEIGHTS) else None
    lines = ["push {r4-r11, lr}", f"sub sp, sp, #{_FRAME}"]
    lines += [f"str r3, [sp, #{_ROWS_LEFT}]"] if many else []
    lines.append(f"ldm r1!, {{{', '.join(weights)}}}")
    lines += [f"ldr {bias or 'r9'}, [r1], #4"] + ([] if bias else [f"str r9, [sp, #{_BIAS}]"])
    for number in range(words):
        lines += [f"ldr r9, [r1, #{4 * number}]", f"str r9, [sp, #{_ROUNDING + 4 * number}]"]
    if _spare_registers(plan)[2:]:
        lines += [f"str r3, [sp, #{_SAVED + 8}]"]
    lines += ["1:"] if many else []
    whole, tail = divmod(view.out_columns, columns)
    unrolled = _unrolled(whole)
    block_in, block_out = 4 * columns * view.stride[1], columns * view.out_column_bytes
    moved_in = moved_out = 0
    if whole > unrolled:
        loops = whole // unrolled
        lines += [f"mov lr, #{loops}", f"str lr, [sp, #{_BLOCKS_LEFT}]", "2:"]
        for block in range(unrolled):
            lines += _block(plan, rows, columns, block * block_in, block * block_out, weights, bias)
        lines += add_constant("r0", "r0", unrolled * block_in, "lr") + add_constant(
            "r2", "r2", unrolled * block_out, "lr"
        )
        lines += [f"ldr lr, [sp, #{_BLOCKS_LEFT}]", "subs lr, lr, #1", f"str lr, [sp, #{_BLOCKS_LEFT}]", "bne.w 2b"]
        moved_in, moved_out = loops * unrolled * block_in, loops * unrolled * block_out
        whole -= loops * unrolled
    for block in range(whole):
        lines += _block(plan, rows, columns, block * block_in, block * block_out, weights, bias)
    if tail:
        lines += _block(plan, rows, tail, whole * block_in, whole * block_out, weights, bias)
    if many:
        lines += add_constant("r0", "r0", 4 * plan.step * plan.width - moved_in, "lr")
        lines += add_constant("r2", "r2", rows * view.out_row_bytes - moved_out, "lr")
        lines += [f"ldr lr, [sp, #{_ROWS_LEFT}]", "subs lr, lr, #1", f"str lr, [sp, #{_ROWS_LEFT}]", "bne.w 1b"]
    lines += [f"add sp, sp, #{_FRAME}", "pop {r4-r11, pc}"]
    note = (
        f"One channel, {rows} output row{'s' if rows > 1 else ''} at a time"
        f"{', `groups` times' if many else ''}: `pairs` is the channel's plane, `channel` its constants.\n"
        f"{weights[0]}-{weights[-1]} weights, {_SUMS[0]}-{_SUMS[-1]} sums, r0 plane, r2 output, r1 and lr pairs."
    )
    parameters = ["const int32_t *pairs", "const int32_t *channel", "int8_t *output"] + ["int32_t groups"] * many
    return naked_function(name, parameters, note, lines)


def _unrolled(blocks: int) -> int:
    """Blocks that the body of the loop over a row holds."""
    if blocks <= _MOST_BLOCKS:
        return max(blocks, 1)
    return next((n for n in range(_MOST_BLOCKS, 2, -1) if blocks % n == 0), 4)


def _block(
    plan: _Plan, rows: int, columns: int, offset: int, out_offset: int, weights: Sequence[str], bias: str | None
) -> list[str]:
    """Some rows by some columns of the output: at most four sums."""
    sums = {(row, column): _SUMS[row * columns + column] for row in range(rows) for column in range(columns)}
    uses = _uses(plan, sums, weights)
    places = sorted(uses)
    started: set[str] = set()
    lines = [] if bias else [f"ldr lr, [sp, #{_BIAS}]"]
    at = 0
    while at < len(places):
        alone = bias is None and len(started) < len(sums)
        together = [places[at]]
        if not alone and at + 1 < len(places):
            together.append(places[at + 1])
        temporaries = ("r1", "lr")[: len(together)]
        if len(together) == 2 and together[1] == together[0] + 4 and offset + together[0] <= 1020:
            lines.append(f"ldrd r1, lr, [r0, #{offset + together[0]}]")
        else:
            lines += [f"ldr {t}, [r0, #{offset + p}]" for t, p in zip(temporaries, together, strict=True)]
        for temporary, place in zip(temporaries, together, strict=True):
            for total, operation, weight in uses[place]:
                before = total if total in started else (bias or "lr")
                started.add(total)
                lines.append(f"{operation} {total}, {temporary}, {weight}, {before}")
        at += len(together)
    return lines + _finish(plan, sums, out_offset)


def _uses(
    plan: _Plan, sums: dict[tuple[int, int], str], weights: Sequence[str]
) -> dict[int, list[tuple[str, str, str]]]:
    """For each word of the plane, by its byte offset: the sums that it goes into, by which instruction and weights."""
    down, across = plan.view.stride
    height, width, _ = plan.view.weights.shape
    uses: dict[int, list[tuple[str, str, str]]] = {}
    for (row, column), total in sums.items():
        first = down * row
        for dx in range(width):
            for pair in range(first // 2, (first + height - 1) // 2 + 1):
                taps = [pair * 2 - first, pair * 2 + 1 - first]
                inside = [0 <= tap < height for tap in taps]
                if all(inside):
                    operation, weight = "smlad", weights[plan.words.pair((taps[0], dx))]
                else:
                    lane = 0 if inside[0] else 1
                    number, half = plan.words.half((taps[lane], dx))
                    operation, weight = f"smla{'bt'[lane]}{half.lower()}", weights[number]
                place = 4 * (pair * plan.width + across * column + dx)
                uses.setdefault(place, []).append((total, operation, weight))
    return uses


def _spare_registers(plan: _Plan) -> tuple[str, ...]:
    """Registers that requantization takes beyond the two that are free: they are saved around it."""
    extra = {"floor": 0, "signed": 1, "shifted": 2, "general": 3}[plan.requantization.form]
    return ("r0", "r2", "r3")[:extra]


def _finish(plan: _Plan, sums: dict[tuple[int, int], str], out_offset: int) -> list[str]:
    """Requantizes the sums and stores them."""
    view, spare = plan.view, _spare_registers(plan)
    free = ("r1", "lr", *spare)
    words = plan.requantization.words.shape[1]
    lines = [f"str {r}, [sp, #{_SAVED + 4 * n}]" for n, r in enumerate(spare) if r != "r3"]
    lines.append(f"ldrd r1, lr, [sp, #{_ROUNDING}]")
    lines += [f"ldr {free[n]}, [sp, #{_ROUNDING + 4 * n}]" for n in range(2, words)]
    lines += plan.requantization.one_channel(tuple(sums.values()), free)
    lines += [f"ldr {r}, [sp, #{_SAVED + 4 * n}]" for n, r in enumerate(spare)]
    base = 0
    for (row, column), total in sums.items():
        place = out_offset + row * view.out_row_bytes + column * view.out_column_bytes
        if place <= 4095:
            lines.append(f"strb {total}, [r2, #{place}]")
            continue
        if not base <= place <= base + 4095 or base == 0:
            lines += add_constant("lr", "r2", place, "lr")
            base = place
        lines.append(f"strb {total}, [lr, #{place - base}]")
    return lines


def _gather_function(plan: _Plan, name: str, kind: str) -> str:
    """Spreads pairs of rows of the image over the planes of a group of channels."""
    view = plan.view
    pointers = {"both": ("r0", "r1"), "low": ("r0",), "high": ("r1",)}[kind]
    planes = ("r2", "r3", "r12", "lr")[: plan.lanes]
    lines = ["push {r4-r11, lr}"]
    lines += ["sub sp, sp, #8", "str r2, [sp]"] if kind == "both" else []
    lines.append("mov r2, r1")
    for number in range(1, plan.lanes):
        lines += add_constant(planes[number], "r2", 4 * number * plan.plane_words, planes[number])
    lines += add_constant("r1", "r0", view.row_bytes, "r1") if kind == "both" else ["mov r1, r0"] * (kind == "high")
    lines += [] if kind == "both" else move_constant("r10", _pad_bytes(plan))
    lines += ["1:"] if kind == "both" else []
    columns = plan.gathered
    loop = 4 if columns > 8 else columns
    moved = 0
    short = view.column_bytes <= 255
    if columns > 8:
        lines += [f"mov r11, #{columns // loop}", "2:", *_gather_columns(plan, pointers, planes, loop)]
        lines += [] if short else [x for p in pointers for x in add_constant(p, p, loop * view.column_bytes, "r4")]
        lines += ["subs r11, r11, #1", "bne 2b"]
        moved = columns // loop * loop
    lines += _gather_columns(plan, pointers, planes, columns - moved)
    if kind == "both":
        passed = columns if short else moved
        for pointer in pointers:
            lines += add_constant(pointer, pointer, 2 * view.row_bytes - passed * view.column_bytes, "r4")
        for plane in planes:
            lines += add_constant(plane, plane, 4 * (plan.width - columns), "r4")
        lines += ["ldr r11, [sp]", "subs r11, r11, #1", "str r11, [sp]", "bne.w 1b", "add sp, sp, #8"]
    lines.append("pop {r4-r11, pc}")
    what = {"both": "`pairs` pairs of rows", "low": "The last row over padding", "high": "The first row under padding"}
    note = f"{what[kind]} into {plan.lanes} plane{'s' if plan.lanes > 1 else ''} of {plan.plane_words} words."
    parameters = ["const int8_t *row", "int32_t *planes"] + ["int32_t pairs"] * (kind == "both")
    return naked_function(name, parameters, note, lines)


def _pad_bytes(plan: _Plan) -> int:
    return (plan.pad & 0xFF) * 0x01010101 if plan.lanes == _GROUP else plan.pad & 0xFFFFFFFF


def _gather_columns(plan: _Plan, pointers: Sequence[str], planes: Sequence[str], columns: int) -> list[str]:
    """Two pixels of both rows at a time, so that loads follow each other."""
    lines: list[str] = []
    step = plan.view.column_bytes
    load = "ldr" if plan.lanes == _GROUP else "ldrsb"
    for start in range(0, columns, 2):
        pixels = range(start, min(start + 2, columns))
        words = []
        for number, pixel in enumerate(pixels):
            pair = []
            for row, pointer in enumerate(("r0", "r1")):
                if pointer not in pointers:
                    pair.append("r10")
                    continue
                register = f"r{4 + 2 * number + row}"
                place = f"[{pointer}], #{step}" if step <= 255 else f"[{pointer}, #{pixel * step}]"
                lines.append(f"{load} {register}, {place}")
                pair.append(register)
            words.append(pair)
        for low, high in words:
            own = low if low != "r10" else high
            if plan.lanes == 1:
                lines += [f"pkhbt {own}, {low}, {high}, lsl #16", f"str {own}, [{planes[0]}], #4"]
                continue
            lines += [
                f"pkhbt r8, {low}, {high}, lsl #16",
                f"pkhtb {own}, {high}, {low}, asr #16",
                "sxtb16 r9, r8",
                f"str r9, [{planes[0]}], #4",
                "sxtb16 r8, r8, ror #8",
                f"str r8, [{planes[1]}], #4",
                f"sxtb16 r9, {own}",
                f"str r9, [{planes[2]}], #4",
                f"sxtb16 {own}, {own}, ror #8",
                f"str {own}, [{planes[3]}], #4",
            ]
    return lines


# --- C ----------------------------------------------------------------------------------------------------------------


def _source(plan: _Plan) -> str:
    p = plan.prefix
    kinds = {plan.kind_of_pair(pair) for pair in range(plan.pairs_of(plan.view.out_rows))}
    parts = [_gather_function(plan, f"{p}_gather_{kind}", kind) for kind in ("both", "high", "low") if kind in kinds]
    if plan.groups:
        parts.append(_row_function(plan, f"{p}_rows", plan.rows_at_once, plan.columns_at_once, many=True))
    if plan.rest:
        parts.append(_row_function(plan, f"{p}_last_row", 1, 4, many=False))
    parts += [_gather_source(plan, kinds), _main_source(plan)]
    return "\n".join(parts)


def _gather_source(plan: _Plan, kinds: set[str]) -> str:
    """The C function that goes through pairs of rows, padding included."""
    p, view = plan.prefix, plan.view
    cases = []
    if "both" in kinds:
        cases.append(
            f"(row >= 0 && row + 1 < {view.rows}) {{\n"
            f"            done = ({view.rows} - row) / 2;\n"
            f"            done = done < count ? done : count;\n"
            f"            {p}_gather_both(image + row * {view.row_bytes}, planes + {view.left}, done);\n"
            "        }"
        )
    if "high" in kinds:
        cases.append(f"(row == -1) {{\n            {p}_gather_high(image, planes + {view.left});\n        }}")
    if "low" in kinds:
        last = view.rows - 1
        cases.append(
            f"(row == {last}) {{\n"
            f"            {p}_gather_low(image + {last * view.row_bytes}, planes + {view.left});\n        }}"
        )
    if "none" in kinds:
        cases.append(
            "(1) {\n"
            f"            for (int32_t plane = 0; plane < {plan.lanes}; ++plane)\n"
            f"                for (int32_t column = 0; column < {plan.width}; ++column)\n"
            f"                    planes[plane * {plan.plane_words} + column] = {plan.pad_word:#x};\n"
            "        }"
        )
    chain = "if " + " else if ".join(cases)
    return f"""/* Pairs of rows from number `pair` on into the planes' rows from `planes` on. */
static void {p}_gather(const int8_t *image, int32_t *planes, int32_t pair, int32_t count)
{{
    while (count > 0) {{
        const int32_t row = 2 * pair - {view.top};
        int32_t done = 1;
        {chain}
        planes += done * {plan.width};
        pair += done;
        count -= done;
    }}
}}
"""


def _main_source(plan: _Plan) -> str:
    p, view = plan.prefix, plan.view
    lanes, words = plan.lanes, plan.plane_words
    row_words = len(plan.words.halves) + 1 + plan.requantization.words.shape[1]
    after = view.left + plan.gathered
    body = [
        f"    for (int32_t row = 0; row < {lanes * plan.plane_rows}; ++row)\n"
        f"        for (int32_t column = {first}; column < {end}; ++column)\n"
        f"            planes[row * {plan.width} + column] = {plan.pad_word:#x};"
        for first, end in ((0, view.left), (after, plan.width))
        if first < end
    ]
    body.append(f"    for (int32_t group = 0; group < {plan.channels}; group += {lanes}) {{")
    if plan.channels % lanes:
        # The last group begins early enough to be whole; the channels before it are not computed again.
        body.append(
            f"        const int32_t first = group < {plan.channels - lanes} ? group : {plan.channels - lanes};\n"
            f"        const int32_t end = first + {lanes};"
        )
    else:
        body.append(f"        const int32_t first = group, end = group + {lanes};")
    body.append("        const int8_t *image = input + first;")
    if plan.strip is None:
        body.append(f"        {p}_gather(image, planes, 0, {plan.plane_rows});")
        body.append(_channels_source(plan, row_words, "8", "0", str(plan.groups), rest=True))
    else:
        last = plan.groups % plan.strip or plan.strip
        body.append(
            f"        {p}_gather(image, planes, 0, {plan.overlap});\n"
            f"        for (int32_t done = 0; done < {plan.groups}; done += {plan.strip}) {{\n"
            f"            const int32_t groups = {plan.groups} - done < {plan.strip} ? {last} : {plan.strip};\n"
            f"            {p}_gather(image, planes + {plan.overlap * plan.width}, "
            f"done * {plan.step} + {plan.overlap}, groups * {plan.step});\n"
            + _channels_source(plan, row_words, "12", f"done * {plan.rows_at_once * view.out_row_bytes}", "groups")
            + (
                f"\n            for (int32_t plane = 0; plane < {lanes}; ++plane) {{\n"
                f"                int32_t *to = planes + plane * {words};\n"
                f"                const int32_t *from = to + groups * {plan.step * plan.width};\n"
                f"                for (int32_t i = 0; i < {plan.overlap * plan.width}; ++i)\n"
                "                    to[i] = from[i];\n"
                "            }"
                if plan.overlap
                else ""
            )
            + "\n        }"
        )
        if plan.rest:
            more = plan.pairs_of(1) - plan.overlap
            if more > 0:
                body.append(
                    f"        {p}_gather(image, planes + {plan.overlap * plan.width}, "
                    f"{plan.groups * plan.step + plan.overlap}, {more});"
                )
            body.append(_channels_source(plan, row_words, "8", "0", "0", rest=True))
    body.append("    }")
    inner = "\n".join(body)
    return f"""/* Depthwise convolution over planes of pairs of rows; channels at a time: {lanes}. */
static void {p}_depthwise(const int8_t *input, int8_t *output, void *scratch)
{{
    int32_t *planes = scratch;
{inner}
}}
"""


def _channels_source(
    plan: _Plan, row_words: int, indent: str, out_offset: str, groups: str, *, rest: bool = False
) -> str:
    """The loop over the channels of a group."""
    p, view = plan.prefix, plan.view
    space = " " * int(indent)
    row = 0 if plan.strip is not None else plan.groups * plan.step
    calls = []
    outputs = "channel" if plan.multiplier == 1 else "out"
    if groups != "0":
        offset = "" if out_offset == "0" else f" + {out_offset}"
        calls.append(f"{p}_rows(plane, {p}_channels + {outputs} * {row_words}, output + {outputs}{offset}, {groups});")
    if rest and plan.rest:
        behind = plan.groups * plan.rows_at_once * view.out_row_bytes
        calls.append(
            f"{p}_last_row(plane + {row * plan.width}, {p}_channels + {outputs} * {row_words}, "
            f"output + {outputs} + {behind});"
        )
    lines = ["for (int32_t channel = group; channel < end; ++channel) {"]
    lines.append(f"    const int32_t *plane = planes + (channel - first) * {plan.plane_words};")
    if plan.multiplier == 1:
        lines += [f"    {call}" for call in calls]
    else:
        lines.append(
            f"    for (int32_t out = channel * {plan.multiplier}; out < (channel + 1) * {plan.multiplier}; ++out) {{"
        )
        lines += [f"        {call}" for call in calls]
        lines.append("    }")
    lines.append("}")
    return "\n".join(space + line for line in lines)

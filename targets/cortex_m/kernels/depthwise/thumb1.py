"""Depthwise convolution for Armv6-M cores (Cortex-M0, M0+): planes of bytes, four channels interleaved.

Four channels at a time are copied word by word as x + 128, which LDRB reads at an immediate offset; padding stands in
the plane. Then each channel is computed with its weights as words on the stack, up to four columns at once: a weight is
brought once for four columns, and a multiplication takes three instructions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.program.weighted import weighted_layer

from ...cores import core_named
from ..assembly import shared_function
from ..thumb1_requantize import DistanceRequantization, distance_requantization
from .view import View

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Layer
    from leanedge.program.weighted import WeightedLayer

__all__ = ["depthwise_bytes", "depthwise_bytes_strips"]

Array = np.ndarray[Any, Any]

_GROUP = 4
"""Channels of a plane: the bytes of a word."""

_SUMS = ("r4", "r5", "r6", "r7")
_REACH = 31
"""Furthest byte that LDRB reaches."""

_MOST_TAPS = 40
"""Beyond this the loops would be longer than a branch reaches."""


def depthwise_bytes(layer: Layer) -> Kernel | None:
    """The whole plane of four channels in scratch: fastest, and may run in place."""
    return _depthwise(layer, None)


def depthwise_bytes_strips(layer: Layer) -> Kernel | None:
    """Strips of four output rows in scratch: little memory, a few percent more instructions."""
    return _depthwise(layer, 4)


@dataclass(frozen=True)
class _Plan:
    """Everything that the generated code of a layer is made from.

    Attributes:
        prefix: Of all C names.
        view: The image.
        channels: Of the input.
        multiplier: Output channels of an input channel.
        pad: What padding holds.
        requantization: From sums to int8.
        strip: Output rows that are computed between two gatherings.
    """

    prefix: str
    view: View
    channels: int
    multiplier: int
    pad: int
    requantization: DistanceRequantization
    strip: int

    @property
    def width(self) -> int:
        """Columns of the plane."""
        return (self.view.out_columns - 1) * self.view.stride[1] + self.view.span[1]

    @property
    def height(self) -> int:
        """Rows of the plane."""
        return (self.strip - 1) * self.view.stride[0] + self.view.span[0]

    @property
    def overlap(self) -> int:
        """Rows that a strip shares with the next."""
        return max(self.height - self.strip * self.view.stride[0], 0)

    @property
    def gathered(self) -> int:
        """Columns of the image that the plane holds."""
        return min(self.view.columns, self.width - self.view.left)

    @property
    def pad_word(self) -> int:
        """Four bytes of padding, as they stand in the plane."""
        return ((self.pad + 128) & 0xFF) * 0x01010101

    @property
    def columns_at_once(self) -> int:
        """Output columns of a block: those whose inputs LDRB reaches."""
        return _columns_at_once(self.view)

    @property
    def record_words(self) -> int:
        """Words of a channel's constants: the bias, what requantizes, the weights as bytes."""
        taps = self.view.kernel[0] * self.view.kernel[1]
        return 1 + int(self.requantization.words.shape[1]) + -(-taps // 4)


def _depthwise(layer: Layer, strip: int | None) -> Kernel | None:
    if core_named(layer.core).dsp or layer.operator.kind != "depthwise_conv_2d":
        return None
    try:
        numbers = weighted_layer(layer.program, layer.operator)
    except ValueError:
        return None
    view = max(View.of(numbers), View.of(numbers).transposed(), key=_columns_at_once)
    height, width = view.kernel
    if _columns_at_once(view) < 1 or height * width > _MOST_TAPS:
        return None
    rounding = distance_requantization(numbers)
    if rounding is None or (strip is not None and view.out_rows <= strip):
        return None
    channels = numbers.input_shape[2]
    multiplier = numbers.output_shape[2] // channels
    plan = _Plan(layer.prefix, view, channels, multiplier, numbers.input_zero, rounding, strip or view.out_rows)
    if plan.gathered < 1:
        return None
    rows, rows_source = _row_function(plan)
    return Kernel(
        name="depthwise_bytes" if strip is None else "depthwise_bytes_strips",
        call=f"{layer.prefix}_depthwise({{input0}}, {{output0}}, {{scratch}});",
        constants=(_constants(plan, numbers),),
        source="\n".join([rows_source, _gather_source(plan), _main_source(plan, rows)]),
        scratch_bytes=_GROUP * plan.width * plan.height,
        leads=(0 if _runs_in_place(plan) else None,),
        exact=True,
    )


def _columns_at_once(view: View) -> int:
    """Output columns whose inputs LDRB reaches, at most as many as there are sums."""
    reach = (_REACH // _GROUP - (view.span[1] - 1)) // view.stride[1] + 1
    return min(reach, len(_SUMS), view.out_columns)


def _runs_in_place(plan: _Plan) -> bool:
    """Whether each channel's outputs come to stand where only what was gathered before stood."""
    view = plan.view
    if plan.multiplier != 1:
        return False
    for done in range(plan.strip, view.out_rows, plan.strip):
        written = (done - 1) * view.out_row_bytes + (view.out_columns - 1) * view.out_column_bytes
        needed = max(done * view.stride[0] + plan.overlap - view.top, 0) * view.row_bytes
        # In a transposed view the order of rows is not the order of addresses.
        if view.row_bytes <= view.column_bytes or (written >= needed and needed < view.rows * view.row_bytes):
            return False
    return True


def _constants(plan: _Plan, numbers: WeightedLayer) -> Constant:
    weights = plan.view.weights.astype(np.int64)
    taps = weights.reshape(-1, weights.shape[2]).T
    bias = numbers.bias.astype(np.int64) - (plan.pad + 128) * taps.sum(axis=1) - plan.requantization.base
    padded = np.zeros((len(taps), -(-taps.shape[1] // 4) * 4), np.int8)
    padded[:, : taps.shape[1]] = taps
    record = np.concatenate([_wrapped(bias)[:, None], plan.requantization.words, padded.view(np.dtype("<i4"))], axis=1)
    return Constant(f"{plan.prefix}_channels", record, "for each channel: bias, what requantizes, weights of 8 bits")


def _wrapped(numbers: Array) -> Array:
    return (numbers & 0xFFFFFFFF).astype(np.uint32).view(np.int32)


# --- Assembly ---------------------------------------------------------------------------------------------------------


def _constant(register: str, number: int) -> list[str]:
    """A number of up to 16 bits into a low register."""
    if number < 0:
        return [*_constant(register, -number), f"rsbs {register}, {register}, #0"]
    if number < 256:
        return [f"movs {register}, #{number}"]
    lines = [f"movs {register}, #{number >> 8}"] if number < 1 << 16 else _constant(register, number >> 8)
    return [
        *lines,
        f"lsls {register}, {register}, #8",
        *([f"adds {register}, #{number & 255}"] if number & 255 else []),
    ]


def _row_function(plan: _Plan) -> tuple[str, str]:
    """(name, source): computes rows of one channel from its plane."""
    view, words = plan.view, plan.requantization.words.shape[1]
    taps = plan.view.kernel[0] * plan.view.kernel[1]
    # On the stack: the weights, then the bias, what requantizes, a sum, rows to do, blocks to do.
    frame = 4 * (taps + 1 + words + 3)
    rows_left, blocks_left = frame - 8, frame - 4
    at_once = plan.columns_at_once
    blocks, rest = divmod(view.out_columns, at_once)
    lines = [
        "push {r4-r7, lr}",
        "mov r4, r8",
        "mov r5, r9",
        "mov r6, r10",
        "mov r7, r11",
        "push {r4-r7}",
        f"sub sp, #{frame}",
    ]
    lines += [f"str r3, [sp, #{rows_left}]", "mov r8, r2"]
    lines += [*_constant("r3", view.out_column_bytes), "mov r9, r3"]
    lines += [*_constant("r3", _GROUP * plan.width * view.dilation[0]), "mov r11, r3"]
    for number in range(1 + words):
        lines += [f"ldr r3, [r1, #{4 * number}]", f"str r3, [sp, #{4 * (taps + number)}]"]
    lines += [f"adds r1, #{4 * (1 + words)}"]
    for tap in range(taps):
        lines += [f"movs r2, #{tap}", "ldrsb r3, [r1, r2]", f"str r3, [sp, #{4 * tap}]"]
    lines.append("5:")
    step = at_once * view.stride[1] * _GROUP
    if blocks > 1:
        lines += [*_constant("r3", blocks), f"str r3, [sp, #{blocks_left}]", "6:"]
        lines += [*_block(plan, at_once), f"adds r0, #{step}"]
        lines += [
            f"ldr r3, [sp, #{blocks_left}]",
            "subs r3, #1",
            f"str r3, [sp, #{blocks_left}]",
            "beq 7f",
            "b 6b",
            "7:",
        ]
        moved = blocks * step
    else:
        lines += _block(plan, at_once)
        moved = 0
        if rest:
            lines.append(f"adds r0, #{step}")
            moved = step
    if rest:
        lines += _block(plan, rest)
    lines += [*_constant("r3", _GROUP * plan.width * view.stride[0] - moved), "adds r0, r0, r3"]
    if view.out_row_bytes != view.out_columns * view.out_column_bytes:
        lines += [*_constant("r3", view.out_row_bytes - view.out_columns * view.out_column_bytes), "add r8, r3"]
    lines += [f"ldr r3, [sp, #{rows_left}]", "subs r3, #1", f"str r3, [sp, #{rows_left}]", "beq 8f", "b 5b", "8:"]
    lines += [
        f"add sp, #{frame}",
        "pop {r4-r7}",
        "mov r8, r4",
        "mov r9, r5",
        "mov r10, r6",
        "mov r11, r7",
        "pop {r4-r7, pc}",
    ]
    note = (
        "Rows of one channel: `pixels` is its byte in the plane's first word, `channel` its constants. "
        "r0 plane, r4-r7 sums, r8 output, r9 a column of it, r11 a row of the plane."
    )
    parameters = ["const uint8_t *pixels", "const int32_t *channel", "int8_t *output", "int32_t rows"]
    return shared_function("depthwise_byte_rows", parameters, note, lines)


def _block(plan: _Plan, columns: int) -> list[str]:
    """Some columns of one output row."""
    height, width = plan.view.kernel
    taps = height * width
    sums = _SUMS[:columns]
    lines = [f"ldr r4, [sp, #{4 * taps}]", *(f"movs {total}, r4" for total in sums[1:])]
    lines += ["mov r12, r0"] if height > 1 else []
    for row in range(height):
        lines += ["add r0, r11"] if row else []
        for column in range(width):
            lines.append(f"ldr r2, [sp, #{4 * (row * width + column)}]")
            for number, total in enumerate(sums):
                offset = _GROUP * (number * plan.view.stride[1] + column * plan.view.dilation[1])
                lines += [f"ldrb r3, [r0, #{offset}]", "muls r3, r2, r3", f"adds {total}, {total}, r3"]
    lines += ["mov r0, r12"] if height > 1 else []
    # The sums make room for the words: the first goes on at once, the others wait.
    waiting = ["r10", "r12", f"[sp, #{4 * (taps + 1 + plan.requantization.words.shape[1])}]"][: columns - 1]
    for place, total in zip(waiting, sums[1:], strict=True):
        lines.append(f"str {total}, {place}" if place.startswith("[") else f"mov {place}, {total}")
    lines += ["mov r1, r4", f"add r2, sp, #{4 * (taps + 1)}", "ldm r2, {r2-r5}"]
    if plan.requantization.signed:
        lines += [f"ldr r6, [sp, #{4 * (taps + 5)}]", "mov lr, r6"]
    for place in ("r1", *waiting):
        lines += [f"ldr r1, {place}"] if place.startswith("[") else []
        total = "r1" if place.startswith("[") else place
        lines += plan.requantization.instructions(total, f"[sp, #{4 * (taps + 6)}]")
        lines += ["mov r1, r8", "strb r6, [r1]", "add r8, r9"]
    return lines


# --- C ----------------------------------------------------------------------------------------------------------------


def _gather_source(plan: _Plan) -> str:
    p, view = plan.prefix, plan.view
    if plan.channels % _GROUP == 0:
        # The arena's tensors begin at words.
        body = f"""            for (int32_t column = 0; column < {plan.gathered}; ++column) {{
                uint32_t word;
                __builtin_memcpy(&word, __builtin_assume_aligned(from, 4), 4);
                to[column] = word ^ 0x80808080u;
                from += {view.column_bytes};
            }}"""
    else:
        lanes = min(_GROUP, plan.channels)
        body = f"""            for (int32_t column = 0; column < {plan.gathered}; ++column) {{
                for (int32_t i = 0; i < {lanes}; ++i)
                    ((uint8_t *)(to + column))[i] = (uint8_t)(from[i] + 128);
                from += {view.column_bytes};
            }}"""
    inside = f"row >= 0 && row < {view.rows}"
    return f"""/* Rows of the image from `row` on into the plane, four channels a word, each as x + 128. */
static void {p}_gather(const int8_t *image, uint32_t *plane, int32_t row, int32_t count)
{{
    for (; count > 0; --count, ++row, plane += {plan.width}) {{
        uint32_t *const to = plane + {view.left};
        if ({inside}) {{
            const int8_t *from = image + row * {view.row_bytes};
{body}
        }} else {{
            for (int32_t column = 0; column < {plan.gathered}; ++column)
                to[column] = {plan.pad_word:#x}u;
        }}
    }}
}}
"""


def _main_source(plan: _Plan, compute_rows: str) -> str:
    p, view = plan.prefix, plan.view
    last = max(plan.channels - _GROUP, 0)
    after = view.left + plan.gathered
    fill = "".join(
        f"    for (int32_t row = 0; row < {plan.height}; ++row)\n"
        f"        for (int32_t column = {first}; column < {end}; ++column)\n"
        f"            plane[row * {plan.width} + column] = {plan.pad_word:#x}u;\n"
        for first, end in ((0, view.left), (after, plan.width))
        if first < end
    )
    strips = -(-view.out_rows // plan.strip)
    left = f"{view.out_rows} - done"
    rows = plan.strip if view.out_rows % plan.strip == 0 else f"{left} < {plan.strip} ? {left} : {plan.strip}"
    step = view.stride[0]
    compute = f"""for (int32_t channel = group; channel < first + {_GROUP} && channel < {plan.channels}; ++channel)
                for (int32_t out = channel * {plan.multiplier}; out < (channel + 1) * {plan.multiplier}; ++out)
                    {compute_rows}((const uint8_t *)plane + (channel - first), {p}_channels + out * {plan.record_words},
                        output + out + done * {view.out_row_bytes}, rows);"""
    if strips == 1:
        body = f"""        const int32_t done = 0, rows = {view.out_rows};
        {p}_gather(input + first, plane, {-view.top}, {plan.height});
            {compute}"""
    else:
        keep = (
            f"""
            for (int32_t i = 0; i < {plan.overlap * plan.width}; ++i)
                plane[i] = plane[i + {plan.strip * step * plan.width}];"""
            if plan.overlap
            else ""
        )
        body = f"""        {p}_gather(input + first, plane, {-view.top}, {plan.overlap});
        for (int32_t done = 0; done < {view.out_rows}; done += {plan.strip}) {{
            const int32_t rows = {rows};
            {p}_gather(input + first, plane + {plan.overlap * plan.width}, done * {step} + {plan.overlap - view.top},
                {plan.height - plan.overlap});
            {compute}{keep}
        }}"""
    return f"""/* Depthwise convolution, four channels at a time. */
static void {p}_depthwise(const int8_t *input, int8_t *output, void *scratch)
{{
    uint32_t *const plane = scratch;
{fill}    for (int32_t group = 0; group < {plan.channels}; group += {_GROUP}) {{
        /* The last group begins early enough to be whole; the channels before it are not computed again. */
        const int32_t first = group < {last} ? group : {last};
{body}
    }}
}}
"""

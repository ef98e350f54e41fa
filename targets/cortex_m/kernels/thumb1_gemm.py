"""Convolutions and fully connected layers for cores without SIMD (Armv6-M): five windows by one channel in registers.

Windows are widened to words beforehand, five side by side, so that one LDM brings an input of each and MULS may
overwrite them; sums stay in r8 to r12, which ADD reaches. That makes twelve instructions of five multiply-accumulates.
Weights are bytes without sign (w + 128), for LDRB has an immediate offset and LDRSB has none; each window's last entry
is minus the sum of its inputs, to be multiplied by 128.

A fully connected layer has one window: four channels by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.program.weighted import weighted_layer

from ..cores import core_named
from .assembly import shared_function
from .thumb1_requantize import distance_requantization

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Layer
    from leanedge.program.weighted import WeightedLayer

    from .thumb1_requantize import DistanceRequantization

__all__ = ["five_windows", "one_window"]

Array = np.ndarray[Any, Any]

_WINDOWS = 5
_BODY = 24
"""Inputs that the loop's body takes; a multiple of eight."""

_NOT_UNROLLED = '_Pragma("GCC unroll 1")'
"""For loops beside which the product takes most of the time; compilers would spend kilobytes on them."""

_FRAME = 24
_COLUMNS, _WORDS, _OUTPUT, _END, _DROP = (f"[sp, #{at}]" for at in range(0, 20, 4))


def five_windows(layer: Layer) -> Kernel | None:
    """conv_2d of any window, and fully_connected of several rows."""
    numbers = _numbers(layer)
    if numbers is None:
        return None
    rows, columns, outputs = numbers.output_shape
    depth, count = numbers.weights[0].size, rows * columns
    found = distance_requantization(numbers)
    if found is None or count < 2 or outputs > 510:
        return None
    weights = np.concatenate([_bytes(numbers), np.full((outputs, 1), 128)], axis=1).astype(np.uint8)
    words = np.concatenate([_starts(numbers, found)[:, None], found.words], axis=1)
    name, columns_bytes = layer.prefix, 4 * _WINDOWS * (depth + 1)
    parameters = ("const int32_t *columns", "const uint8_t *weights", "const int32_t *words", "int8_t *output")
    note = f"Five windows of {depth} inputs -> {outputs} channels."
    function, source = shared_function("five_windows", parameters, note, _five(found, depth + 1, outputs))
    return Kernel(
        name="five_windows",
        call=f"{name}_windows({{input0}}, {{output0}}, {{scratch}});",
        constants=_constants(layer, weights, words),
        source=source + _gathering(numbers, name, function),
        scratch_bytes=columns_bytes + (outputs * _WINDOWS + 3) // 4 * 4 * bool(count % _WINDOWS),
        leads=(_lead(numbers),),
    )


def one_window(layer: Layer) -> Kernel | None:
    """fully_connected of one row, and 1x1 convolutions of one pixel."""
    numbers = _numbers(layer)
    if numbers is None or numbers.output_shape[:2] != (1, 1):
        return None
    outputs, depth = numbers.output_shape[2], numbers.weights[0].size
    found = distance_requantization(numbers)
    if found is None or numbers.input_shape != (1, 1, depth):
        return None
    padded = np.concatenate([_bytes(numbers), np.full((outputs, 1), 128)], axis=1).astype(np.uint8)
    weights = np.concatenate([padded[at : at + 4].T.reshape(-1) for at in range(0, outputs, 4)])
    starts = _starts(numbers, found)
    groups = [(starts[at : at + 4], found.words[at : at + 4].reshape(-1)) for at in range(0, outputs, 4)]
    words = np.concatenate([part for group in groups for part in group])
    name = layer.prefix
    parameters = ("const int32_t *columns", "const uint8_t *weights", "const int32_t *words", "int8_t *output")
    note = f"{depth} inputs -> {outputs} channels."
    function, source = shared_function("one_window", parameters, note, _one(found, depth + 1, outputs))
    source += (
        f"static void {name}_window(const int8_t *input, int8_t *output, int32_t *columns)\n{{\n"
        f"    int32_t sum = 0;\n    {_NOT_UNROLLED}\n    for (int32_t k = 0; k < {depth}; k++) {{\n"
        f"        columns[k] = input[k];\n        sum -= input[k];\n    }}\n    columns[{depth}] = sum;\n"
        f"    {function}(columns, {name}_weights, {name}_words, output);\n}}\n"
    )
    return Kernel(
        name="one_window",
        call=f"{name}_window({{input0}}, {{output0}}, {{scratch}});",
        constants=_constants(layer, weights, words),
        source=source,
        scratch_bytes=4 * (depth + 1),
        leads=(-depth,),
    )


def _numbers(layer: Layer) -> WeightedLayer | None:
    if core_named(layer.core).dsp or layer.operator.kind not in ("conv_2d", "fully_connected"):
        return None
    try:
        numbers = weighted_layer(layer.program, layer.operator)
    except ValueError:
        return None
    return numbers if numbers.weights.shape[-1] == numbers.input_shape[2] else None


def _bytes(layer: WeightedLayer) -> Array:
    return np.asarray(layer.weights.reshape(len(layer.weights), -1).astype(np.int64) + 128)


def _starts(layer: WeightedLayer, found: DistanceRequantization) -> Array:
    return np.asarray(((layer.folded_bias - found.base) & 0xFFFFFFFF).astype(np.uint32).view(np.int32))


def _constants(layer: Layer, weights: Array, words: Array) -> tuple[Constant, ...]:
    return (
        Constant(f"{layer.prefix}_weights", weights, "w + 128, each channel's followed by 128"),
        Constant(f"{layer.prefix}_words", words.astype(np.int32), "starting sum, then what requantizes"),
    )


def _gathering(layer: WeightedLayer, name: str, function: str) -> str:
    """C that widens five windows and has them multiplied; results of windows beyond the last go to scratch."""
    height, width, depth = layer.input_shape
    rows, columns, outputs = layer.output_shape
    high, wide = layer.kernel
    (down, across), (below, beside), (top, _, left, _) = layer.strides, layer.dilations, layer.pads
    count, size = rows * columns, high * wide * depth
    run = wide * depth if beside == 1 else depth
    if any(layer.pads):
        run = depth
    taps = size // high // run
    source = f"input + (y * {width} + x) * {depth}"
    body = [
        f"static void {name}_widen(const int8_t *input, int32_t *column, int32_t window)",
        "{",
        f"    const int32_t first = window / {columns} * {down} - {top};",
        f"    const int32_t start = window % {columns} * {across} - {left};",
        "    int32_t sum = 0;",
        f"    {_NOT_UNROLLED}",
        f"    for (int32_t row = 0; row < {high}; row++) {{",
        f"        const int32_t y = first + row * {below};",
        f"        {_NOT_UNROLLED}",
        f"        for (int32_t tap = 0; tap < {taps}; tap++) {{",
        f"            const int32_t x = start + tap * {beside};",
    ]
    inner = [
        f"const int8_t *from = {source};",
        _NOT_UNROLLED,
        f"for (int32_t c = 0; c < {run}; c++) {{",
        "    const int32_t value = from[c];",
        "    *column = value;",
        "    sum -= value;",
        f"    column += {_WINDOWS};",
        "}",
    ]
    if any(layer.pads):
        zero = layer.input_zero
        body.append(f"            if ((uint32_t)y < {height}u && (uint32_t)x < {width}u) {{")
        body += [f"                {line}" for line in inner]
        body += [
            "            } else {",
            f"                {_NOT_UNROLLED}",
            f"                for (int32_t c = 0; c < {run}; c++) {{",
        ]
        body += [f"                    *column = {zero};", f"                    column += {_WINDOWS};"]
        body += ["                }", f"                sum -= {zero * run};", "            }"]
    else:
        body += [f"            {line}" for line in inner]
    body += ["        }", "    }", "    *column = sum;", "}"]
    body += [
        f"static void {name}_windows(const int8_t *input, int8_t *output, int32_t *columns)",
        "{",
        f"    for (int32_t first = 0; first < {count}; first += {_WINDOWS}) {{",
        f"        {_NOT_UNROLLED}",
        f"        for (int32_t n = 0; n < {_WINDOWS}; n++) {{",
        f"            const int32_t window = first + n < {count} ? first + n : {count - 1};",
        f"            {name}_widen(input, columns + n, window);",
        "        }",
    ]
    if count % _WINDOWS:
        tile = f"(int8_t *)(columns + {_WINDOWS * (size + 1)})"
        left_over = count % _WINDOWS * outputs
        body += [
            f"        int8_t *target = first + {_WINDOWS} <= {count} ? output + first * {outputs} : {tile};",
            f"        {function}(columns, {name}_weights, {name}_words, target);",
            "    }",
            f"    const int8_t *last = {tile};",
            f"    for (int32_t n = 0; n < {left_over}; n++) {{",
            f"        output[{count // _WINDOWS * _WINDOWS * outputs} + n] = last[n];",
            "    }",
        ]
    else:
        body += [
            f"        {function}(columns, {name}_weights, {name}_words, output + first * {outputs});",
            "    }",
        ]
    return "\n".join([*body, "}", ""])


def _lead(layer: WeightedLayer) -> int:
    """Least distance at which no output overwrites what is still to be read."""
    height, width, depth = layer.input_shape
    rows, columns, outputs = layer.output_shape
    (down, across), (top, _, left, _) = layer.strides, layer.pads
    distances = []
    for window in range(_WINDOWS, rows * columns, _WINDOWS):
        y, x = window // columns * down - top, window % columns * across - left
        # A window that begins left of its row may see the row's first pixel; one before it in the image, none.
        start = (
            (max(y, 0) * width + max(x, 0)) * depth if y >= 0 and layer.kernel[0] == 1 else max(y, 0) * width * depth
        )
        distances.append(window * outputs - start)
    return max(distances, default=-height * width * depth)


def _constant(target: str, number: int) -> list[str]:
    """Sets a low register to a number below 2^24 without a literal pool."""
    lines: list[str] = []
    for shift in (16, 8, 0):
        byte = number >> shift & 255
        if lines:
            lines.append(f"lsls {target}, {target}, #8")
            lines += [f"adds {target}, #{byte}"] if byte else []
        elif byte or shift == 0:
            lines = [f"movs {target}, #{byte}"]
    return lines


def _entry(extra: list[str]) -> list[str]:
    lines = ["push {r4-r7, lr}", "mov r4, r8", "mov r5, r9", "mov r6, r10", "mov r7, r11", "push {r4-r7}"]
    lines += [f"sub sp, #{_FRAME}", f"str r0, {_COLUMNS}", f"str r2, {_WORDS}", f"str r3, {_OUTPUT}"]
    return [*lines, *extra, "mov r7, r1"]


_EXIT = [
    f"add sp, #{_FRAME}",
    "pop {r4-r7}",
    "mov r8, r4",
    "mov r9, r5",
    "mov r10, r6",
    "mov r11, r7",
    "pop {r4-r7, pc}",
]


def _five(found: DistanceRequantization, depth: int, outputs: int) -> list[str]:
    """Of a function of (columns, weights, words, output); `depth` counts the sum of inputs too."""
    lines = _entry([*_constant("r4", depth * outputs), "adds r4, r4, r1", f"str r4, {_END}"])
    lines += ["/* One channel of five windows: r8 to r12. */"]
    lines += ["3:", f"ldr r6, {_WORDS}", "ldr r1, [r6]", "adds r6, #4", f"str r6, {_WORDS}"]
    lines += [*(f"mov r{r}, r1" for r in range(8, 13)), f"ldr r0, {_COLUMNS}"]
    loops, rest = divmod(depth, _BODY)
    if loops > 1:
        lines += [*_constant("r1", loops * _BODY), "adds r1, r1, r7", "mov lr, r1", "4:"]
    lines += _five_products(_BODY if loops else 0)
    if loops > 1:
        lines += ["cmp r7, lr", "beq 5f", "b 4b", "5:"]
    lines += _five_products(rest)
    lines += _load_words(found)
    lines += [f"ldr r0, {_OUTPUT}", "adds r0, #1", f"str r0, {_OUTPUT}", "subs r0, #1"]
    for window in range(_WINDOWS):
        lines += [*found.instructions(f"r{8 + window}", _DROP), "strb r6, [r0]"]
        if window + 1 < _WINDOWS:
            lines += [f"adds r0, #{min(outputs, 255)}"] + ([f"adds r0, #{outputs - 255}"] if outputs > 255 else [])
    # LR holds `turn` now; the weights' pointer was kept in the stack meanwhile.
    return [*lines, "ldr r7, [sp, #20]", f"ldr r1, {_END}", "cmp r7, r1", "beq 6f", "b 3b", "6:", *_EXIT]


def _five_products(inputs: int) -> list[str]:
    lines = []
    for k in range(inputs):
        lines += ["ldm r0!, {r1-r5}", f"ldrb r6, [r7, #{k}]"]
        for window in range(_WINDOWS):
            lines += [f"muls r{1 + window}, r6, r{1 + window}", f"add r{8 + window}, r{1 + window}"]
    return [*lines, f"adds r7, #{inputs}"] if inputs else []


def _load_words(found: DistanceRequantization) -> list[str]:
    """The channel's words into r2 to r5, lr and the stack; r7 is kept on the stack."""
    lines = ["/* To int8. */", "str r7, [sp, #20]", f"ldr r7, {_WORDS}", "ldm r7!, {r2-r5}"]
    if found.signed:
        lines += ["ldm r7!, {r0, r6}", "mov lr, r0", f"str r6, {_DROP}"]
    return [*lines, f"str r7, {_WORDS}"]


def _one(found: DistanceRequantization, depth: int, outputs: int) -> list[str]:
    """Of a function of (columns, weights, words, output); `depth` counts the sum of inputs too."""
    groups, rest = divmod(outputs, 4)
    lines = _entry([*_constant("r4", groups * 4 * depth), "adds r4, r4, r1", f"str r4, {_END}"])
    if groups:
        lines += ["3:", *_one_group(found, depth, 4)]
        lines += [f"ldr r1, {_END}", "cmp r7, r1", "beq 6f", "b 3b", "6:"] if groups > 1 else []
    if rest:
        lines += _one_group(found, depth, rest)
    return [*lines, *_EXIT]


def _one_group(found: DistanceRequantization, depth: int, channels: int) -> list[str]:
    totals = [f"r{8 + c}" for c in range(channels)]
    lines = [f"/* {channels} channels of the window. */", f"ldr r6, {_WORDS}"]
    for total in totals:
        lines += ["ldm r6!, {r1}", f"mov {total}, r1"]
    lines += [f"str r6, {_WORDS}", f"ldr r0, {_COLUMNS}"]
    loops, rest = divmod(depth, _BODY)
    if loops > 1:
        lines += [*_constant("r1", loops * _BODY * channels), "adds r1, r1, r7", "mov lr, r1", "4:"]
    lines += _one_products(_BODY if loops else 0, channels)
    if loops > 1:
        lines += ["cmp r7, lr", "beq 5f", "b 4b", "5:"]
    lines += _one_products(rest, channels)
    for total in totals:
        lines += [*_load_words(found), *found.instructions(total, _DROP)]
        lines += [f"ldr r0, {_OUTPUT}", "strb r6, [r0]", "adds r0, #1", f"str r0, {_OUTPUT}", "ldr r7, [sp, #20]"]
    return lines


def _one_products(inputs: int, channels: int) -> list[str]:
    lines = []
    at = 0
    for k in range(inputs):
        if k % 3 == 0:
            taken = ["r1", "r2", "r3"][: inputs - k]
            lines.append(f"ldm r0!, {{{', '.join(taken)}}}")
        for channel in range(channels):
            if at == 32:
                lines.append("adds r7, #32")
                at = 0
            lines += [f"ldrb r4, [r7, #{at}]", f"muls r4, r{1 + k % 3}, r4", f"add r{8 + channel}, r4"]
            at += 1
    return [*lines, f"adds r7, #{at}"] if at else lines

"""Pooling and means for cores with the DSP extension: four channels a word.

Sums grow in halves of a word, which hold 256 values of 8 bits; maxima in bytes, by SSUB8 and SEL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from leanedge.export.c_source.kernel import Kernel
from leanedge.export.c_source.leads import sequential_lead
from leanedge.program.fixed_point import quantized_multiplier
from leanedge.program.types import PoolOptions, ReduceOptions
from leanedge.program.weighted import output_limits

from ..cores import core_named
from .assembly import add_constant, shared_function

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Layer
    from leanedge.program.types import ProgramTensor

__all__ = ["pooling"]

_LANE = 256
"""Values of 8 bits whose sum fits 16 bits."""
_UNROLLED = 8
_FAR = 4095


@dataclass(frozen=True)
class _Windows:
    """The windows of a layer, none of which reaches into padding.

    Attributes:
        prefix: Of all C names.
        columns: Width of the input.
        channels: Of input and output.
        kernel: Height and width of a window.
        strides: Between windows.
        outputs: Height and width of the output.
    """

    prefix: str
    columns: int
    channels: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    outputs: tuple[int, int]

    @property
    def runs(self) -> tuple[int, int]:
        """(runs of pixels that follow each other in memory, their length)."""
        height, width = self.kernel
        return (1, height * width) if width == self.columns else (height, width)

    @property
    def lead(self) -> int | None:
        """Windows are read before their outputs are written, in the outputs' order."""
        if self.channels % 4:
            return None
        words = self.channels // 4
        rows, columns, word = np.indices((*self.outputs, words))
        first = (rows * self.strides[0] * self.columns + columns * self.strides[1]) * words + word
        last = ((self.outputs[0] - 1) * self.strides[0] + self.kernel[0]) * self.columns * words
        return sequential_lead(first, last, 4, 4)


def pooling(layer: Layer) -> Kernel | None:
    """average_pool, max_pool and mean over the image, where all windows lie inside it."""
    windows = _windows(layer) if core_named(layer.core).dsp else None
    if windows is None:
        return None
    maximum = layer.operator.kind == "max_pool"
    name, function = _function(windows, maximum=maximum)
    finish = _clamp_source(layer, windows) if maximum else _result_source(layer, windows)
    main = _main_source(windows, name, "to" if maximum else "sums", finish)
    return Kernel(
        name=f"{layer.operator.kind}_four_channels",
        call=f"{layer.prefix}_pool({{input0}}, {{output0}}, {{scratch}});",
        source=f"{function}\n{main}",
        library=("leanedge_fixed_point.h",) if "leanedge_" in finish else (),
        scratch_bytes=0 if maximum else 4 * windows.channels,
        leads=(windows.lead,),
    )


def _windows(layer: Layer) -> _Windows | None:
    operator = layer.operator
    source, out = (layer.program.tensors[name] for name in (operator.inputs[0], operator.output))
    if len(source.shape) != 4 or source.shape[0] != 1 or source.dtype != "int8" or out.dtype != "int8":
        return None
    _, height, width, channels = source.shape
    if channels < 4 or (_UNROLLED - 1) * channels > 8 * _FAR:
        return None
    options = operator.options
    if operator.kind == "mean" and isinstance(options, ReduceOptions) and options.axes == (1, 2):
        return _Windows(layer.prefix, width, channels, (height, width), (1, 1), (1, 1))
    if operator.kind not in ("max_pool", "average_pool") or not isinstance(options, PoolOptions):
        return None
    outputs = (out.shape[1], out.shape[2])
    reach = [(outputs[axis] - 1) * options.strides[axis] + options.kernel[axis] for axis in range(2)]
    if options.pads[0] or options.pads[2] or reach[0] > height or reach[1] > width:
        return None
    return _Windows(layer.prefix, width, channels, options.kernel, options.strides, outputs)


def _function(windows: _Windows, *, maximum: bool) -> tuple[str, str]:
    """(name, source): goes over one window for groups of four channels."""
    runs, length = windows.runs
    channels = windows.channels
    split = not maximum and runs * length > _LANE
    segments = [length] if not split else [_LANE] * (length // _LANE) + [length % _LANE] * (length % _LANE > 0)
    lines = ["push {r4-r11, lr}", "1:", "mov r4, r0"]
    lines += ["mov r10, #0x80808080"] if maximum else ["mov r10, #0", "mov r11, #0"]
    lines += [f"mov r{n}, #0" for n in range(6, 10)] if split else []
    lines += [f"mov r3, #{runs}", "2:"] if runs > 1 else []
    for segment in segments:
        lines += _segment(segment, channels, maximum=maximum)
        lines += [*_widen(add=True), "mov r10, #0", "mov r11, #0"] if split else []
    if runs > 1:
        lines += add_constant("r4", "r4", (windows.columns - length) * channels, "r12")
        lines += ["subs r3, r3, #1", "bne.w 2b"]
    if maximum:
        lines.append("str r10, [r1], #4")
    else:
        lines += [*([] if split else _widen(add=False)), "stm r1!, {r6-r9}"]
    lines += ["add r0, r0, #4", "subs r2, r2, #1", "bne.w 1b", "pop {r4-r11, pc}"]
    what, target = ("maxima", "int8_t *output") if maximum else ("sums", "int32_t *sums")
    note = f"The {what} of a window of {windows.kernel[0]} x {windows.kernel[1]} pixels, four channels at a time."
    parameters = ["const int8_t *pixel", target, "int32_t fours"]
    return shared_function(f"window_{what}", parameters, note, lines)


def _segment(pixels: int, channels: int, *, maximum: bool) -> list[str]:
    """Pixels one behind the other, from r4 on."""
    at_once = min(pixels, _UNROLLED, _FAR // channels + 1)
    loops, rest = divmod(pixels, at_once)

    def some(count: int) -> list[str]:
        lines: list[str] = []
        for start in range(0, count, 2):
            loaded = ("r12", "lr")[: min(2, count - start)]
            lines += [f"ldr {r}, [r4, #{(start + n) * channels}]" for n, r in enumerate(loaded)]
            for r in loaded:
                if maximum:
                    lines += [f"ssub8 r11, r10, {r}", f"sel r10, r10, {r}"]
                else:
                    lines += [f"sxtab16 r10, r10, {r}", f"sxtab16 r11, r11, {r}, ror #8"]
        return [*lines, *add_constant("r4", "r4", count * channels, "r12")]

    if loops == 1:
        return some(at_once) + (some(rest) if rest else [])
    return [f"movw r5, #{loops}", "3:", *some(at_once), "subs r5, r5, #1", "bne.w 3b", *(some(rest) if rest else [])]


def _widen(*, add: bool) -> list[str]:
    """Halves of words into words."""
    if add:
        return ["sxtah r6, r6, r10", "sxtah r7, r7, r11", "add r8, r8, r10, asr #16", "add r9, r9, r11, asr #16"]
    return ["sxth r6, r10", "sxth r7, r11", "asr r8, r10, #16", "asr r9, r11, #16"]


def _main_source(windows: _Windows, call: str, target: str, store: str) -> str:
    p, channels = windows.prefix, windows.channels
    rows, columns = windows.outputs
    down, across = windows.strides
    whole = channels // 4
    calls = f"{call}(pixel, {target}, {whole});"
    if channels % 4:
        # The last four channels overlap those before; what is computed again is the same.
        calls += f"\n            {call}(pixel + {channels - 4}, {target} + {channels - 4}, 1);"
    sums = "\n    int32_t *const sums = scratch;" if target == "sums" else "\n    (void)scratch;"
    return f"""static void {p}_pool(const int8_t *input, int8_t *output, void *scratch)
{{{sums}
    for (int32_t row = 0; row < {rows}; ++row) {{
        for (int32_t column = 0; column < {columns}; ++column) {{
            const int8_t *pixel = input + (row * {down * windows.columns} + column * {across}) * {channels};
            int8_t *to = output + (row * {columns} + column) * {channels};
            {calls}{store}
        }}
    }}
}}
"""


def _clamp_source(layer: Layer, windows: _Windows) -> str:
    """The fused activation of max_pool."""
    assert isinstance(layer.operator.options, PoolOptions)
    low, high = output_limits(layer.operator.options.activation, layer.program.tensors[layer.operator.output])
    if (low, high) == (-128, 127):
        return ""
    return f"""
            for (int32_t i = 0; i < {windows.channels}; ++i)
                to[i] = (int8_t)leanedge_clamp(to[i], {low}, {high});"""


def _result_source(layer: Layer, windows: _Windows) -> str:
    """From sums to int8."""
    pixels = windows.kernel[0] * windows.kernel[1]
    source, out = (layer.program.tensors[name] for name in (layer.operator.inputs[0], layer.operator.output))
    if isinstance(layer.operator.options, PoolOptions):
        low, high = output_limits(layer.operator.options.activation, out)
        half = pixels // 2
        mean = f"(sums[i] > 0 ? sums[i] + {half} : sums[i] - {half}) / {pixels}"
        value = mean if (low, high) == (-128, 127) else f"leanedge_clamp({mean}, {low}, {high})"
    else:
        multiplier, power = _mean_factor(source, out, pixels)
        zero, out_zero = (int(tensor.quant.zero_point) if tensor.quant else 0 for tensor in (source, out))
        total = f"sums[i] - {pixels * zero}" if zero >= 0 else f"sums[i] + {-pixels * zero}"
        value = f"leanedge_requantize({total}, {multiplier}, {power}, {out_zero}, -128, 127)"
    return f"""
            for (int32_t i = 0; i < {windows.channels}; ++i)
                to[i] = (int8_t)({value});"""


def _mean_factor(source: ProgramTensor, out: ProgramTensor, pixels: int) -> tuple[int, int]:
    """(multiplier, power): the division by the count goes into the multiplier, with as many bits as it can take."""
    assert source.quant is not None
    assert out.quant is not None
    scales = [float(np.float32(tensor.quant.scale)) for tensor in (source, out) if tensor.quant]
    multiplier, power = quantized_multiplier(scales[0] / scales[1])
    shift = min(pixels.bit_length() - 1, 32, 31 + power)
    return (multiplier << shift) // pixels, power - shift

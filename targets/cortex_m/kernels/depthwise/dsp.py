"""Depthwise convolution for cores with the DSP extension: planes of vertical pairs, one channel at a time.

Four channels at a time are spread into planes of 32-bit words that hold a pair of rows, widened to 16 bits; padding
stands in the plane, so that no border is checked. Then each channel is computed with its weights in registers, two
rows by two columns at once: a pair of rows meets a pair of weights in one SMLAD.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.export.c_source.kernel import Constant, Kernel
from leanedge.program.weighted import weighted_layer

from ...cores import core_named
from ..requantize import requantization
from .plan import Plan, Words
from .planes import gather_functions
from .rows import MOST_BLOCKS, WEIGHTS, products_of, row_function
from .view import View

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.export.c_source.kernel import Layer
    from leanedge.program.weighted import WeightedLayer

__all__ = ["depthwise_planes", "depthwise_strips"]

Array = np.ndarray[Any, Any]


def depthwise_planes(layer: Layer) -> Kernel | None:
    """Whole planes of four channels in scratch: fastest, and may run in place."""
    return _depthwise(layer, None)


def depthwise_strips(layer: Layer) -> Kernel | None:
    """Strips of two groups of rows in scratch: little memory, a few percent more instructions."""
    return _depthwise(layer, 2)


def _depthwise(layer: Layer, strip: int | None) -> Kernel | None:
    if not core_named(layer.core).dsp or layer.operator.kind != "depthwise_conv_2d":
        return None
    try:
        numbers = weighted_layer(layer.program, layer.operator)
    except ValueError:
        return None
    view = View.of(numbers)
    vertical, _ = view.stride
    if vertical > 2:
        return None
    rows, columns = _block_size(view)
    words = Words.of(view.kernel, both_parities=vertical == 1 and rows > 1, neighbours=view.dilation[0] == 1)
    most = _prescale_limit(numbers)
    rounding = requantization(numbers, np.zeros_like(most), most)
    if rounding is None:
        return None
    channels = numbers.input_shape[2]
    plan = Plan(
        layer.prefix,
        view,
        channels,
        numbers.output_shape[2] // channels,
        numbers.input_zero,
        words,
        len(words.halves) > len(WEIGHTS),
        rounding,
        rows,
        columns,
        strip,
    )
    if plan.streamed:
        plan = _in_order_of_use(plan)
    if (strip is not None and plan.groups <= strip) or plan.gathered < 1 or _too_far(plan):
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


def _block_size(view: View) -> tuple[int, int]:
    """(rows, columns) of the output that are computed together: four sums at most."""
    if view.out_rows == 1:
        return 1, 4
    if view.out_columns == 1:
        return min(view.out_rows, 4), 1
    return 2, 2


def _in_order_of_use(plan: Plan) -> Plan:
    """Words of weights in an order in which neighbours meet the same words of the plane."""
    outputs = [(row, column) for row in range(plan.rows_at_once) for column in range(plan.columns_at_once)]
    first: dict[int, int] = {}
    for product in sorted(products_of(plan, outputs), key=lambda product: product.place):
        first.setdefault(product.word, product.place)
    order = sorted(first, key=lambda word: first[word])
    return replace(plan, words=Words(tuple(plan.words.halves[word] for word in order)))


def _prescale_limit(numbers: WeightedLayer) -> Array:
    """Bits by which each channel's weights can be multiplied and still be int16."""
    weights = numbers.weights.astype(np.int64).reshape(-1, numbers.weights.shape[-1])
    limit = np.zeros(weights.shape[1], np.int64)
    for bits in range(1, 9):
        scaled = weights << bits
        limit[(scaled.min(axis=0) >= -(1 << 15)) & (scaled.max(axis=0) < 1 << 15)] = bits
    return limit


def _too_far(plan: Plan) -> bool:
    """Whether a block's words lie further apart than a load can reach."""
    deepest = plan.pairs_of(plan.rows_at_once) - 1
    return 4 * (deepest * plan.width + MOST_BLOCKS * plan.columns_at_once * plan.view.stride[1]) > 3800


def _runs_in_place(plan: Plan) -> bool:
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


def _constants(plan: Plan, numbers: WeightedLayer) -> Constant:
    prescale = plan.requantization.prescale
    scaled = plan.view.weights.astype(np.int64) << prescale
    rows = np.concatenate(
        [
            (numbers.folded_bias.astype(np.int64) << prescale)[:, None].astype(np.int32),
            plan.requantization.words,
            plan.words.array(scaled),
        ],
        axis=1,
    )
    note = f"for each channel: the bias, what requantizes, {len(plan.words.halves)} words of two weights"
    return Constant(f"{plan.prefix}_channels", rows, note)


def _source(plan: Plan) -> str:
    parts, names = gather_functions(plan), {"rows": "", "last": ""}
    if plan.groups:
        names["rows"], source = row_function(plan, plan.rows_at_once, plan.columns_at_once, many=True)
        parts.append(source)
    if plan.rest:
        names["last"], source = row_function(plan, plan.rest, 4 if plan.rest == 1 else 1, many=False)
        parts.append(source)
    return "\n".join([*parts, _main_source(plan, names)])


def _main_source(plan: Plan, names: Mapping[str, str]) -> str:
    p, view = plan.prefix, plan.view
    lanes, words = plan.lanes, plan.plane_words
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
        body.append(_channels_source(plan, names, "8", "0", str(plan.groups), rest=True))
    else:
        last = plan.groups % plan.strip or plan.strip
        body.append(
            f"        {p}_gather(image, planes, 0, {plan.overlap});\n"
            f"        for (int32_t done = 0; done < {plan.groups}; done += {plan.strip}) {{\n"
            f"            const int32_t groups = {plan.groups} - done < {plan.strip} ? {last} : {plan.strip};\n"
            f"            {p}_gather(image, planes + {plan.overlap * plan.width}, "
            f"done * {plan.step} + {plan.overlap}, groups * {plan.step});\n"
            + _channels_source(plan, names, "12", f"done * {plan.rows_at_once * view.out_row_bytes}", "groups")
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
            more = plan.pairs_of(plan.rest) - plan.overlap
            if more > 0:
                body.append(
                    f"        {p}_gather(image, planes + {plan.overlap * plan.width}, "
                    f"{plan.groups * plan.step + plan.overlap}, {more});"
                )
            body.append(_channels_source(plan, names, "8", "0", "0", rest=True))
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
    plan: Plan,
    names: Mapping[str, str],
    indent: str,
    out_offset: str,
    groups: str,
    *,
    rest: bool = False,
) -> str:
    """The loop over the channels of a group."""
    p, view = plan.prefix, plan.view
    row_words = len(plan.words.halves) + 1 + plan.requantization.words.shape[1]
    space = " " * int(indent)
    row = 0 if plan.strip is not None else plan.groups * plan.step
    calls = []
    outputs = "channel" if plan.multiplier == 1 else "out"
    if groups != "0":
        offset = "" if out_offset == "0" else f" + {out_offset}"
        calls.append(
            f"{names['rows']}(plane, {p}_channels + {outputs} * {row_words}, output + {outputs}{offset}, {groups});"
        )
    if rest and plan.rest:
        behind = plan.groups * plan.rows_at_once * view.out_row_bytes
        calls.append(
            f"{names['last']}(plane + {row * plan.width}, {p}_channels + {outputs} * {row_words}, "
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

"""The report's drawings, as SVG text: candidates, layers, memory. Their colours are classes of ``report.css``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leanedge.report.svg import Box, Circle, Scale, drawing, element, linear_ticks, log_ticks, place, text_width
from leanedge.report.wording import (
    FIGURE_TITLES,
    STATUS_WORDS,
    count,
    cut,
    figure,
    interval,
    limit,
    loss_limit,
    quantity,
    round_quantity,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from markupsafe import Markup

    from leanedge.report.content import CandidateRow, LayerRow, MemoryInfo, Report

__all__ = ["candidates_chart", "layers_chart", "memory_chart"]

WIDTH = 920.0
LARGEST_RADIUS, SMALLEST_RADIUS = 17.0, 3.5
RING = 4.5
MET = ("chosen", "fits")


@dataclass(frozen=True)
class Dot:
    """A candidate on the plot, in its figures' own units."""

    number: int
    row: CandidateRow
    x: float
    accuracy: float
    bytes: float | None


def _dots(report: Report, axis: str) -> list[Dot]:
    dots = []
    for number, row in enumerate(report.candidates, 1):
        x, accuracy, size = (row.figures.get(name) for name in (axis, "accuracy", "flash_bytes"))
        if x is not None and x.value and accuracy is not None and accuracy.value is not None:
            dots.append(Dot(number, row, x.value, accuracy.value, size.value if size else None))
    return dots


def candidates_chart(report: Report) -> Markup | None:
    """Accuracy over latency (over bytes where no latency is known), the area of a circle being the model's bytes.

    None when count than two candidates have both numbers.
    """
    axis = next((name for name in ("latency_ms", "flash_bytes") if len(_dots(report, name)) > 1), None)
    if axis is None:
        return None
    dots, height = _dots(report, axis), 460.0
    frame = Box(64, 34, WIDTH - 16, height - 52)
    x, y = _candidate_scales(report, dots, axis, frame)
    largest = max((dot.bytes or 0 for dot in dots), default=0)

    def radius(size: float | None) -> float:
        return max(SMALLEST_RADIUS, LARGEST_RADIUS * math.sqrt(size / largest)) if size and largest else 6.0

    unit = report.data.unit
    axis_unit = "bytes" if axis == "flash_bytes" else "ms"
    parts: list[Markup] = []
    x_ticks = log_ticks(x.low, x.high) if x.log else linear_ticks(x.low, x.high, 8)
    for value in x_ticks:
        parts.append(element("line", x1=x(value), x2=x(value), y1=frame.top, y2=frame.bottom, class_="grid"))
        parts.append(_text(x(value), frame.bottom + 18, round_quantity(value, axis_unit), "middle", "tick"))
    for value in linear_ticks(min(y.low, y.high), max(y.low, y.high), 6):
        parts.append(element("line", x1=frame.left, x2=frame.right, y1=y(value), y2=y(value), class_="grid"))
        parts.append(_text(frame.left - 8, y(value) + 4, round_quantity(value, unit), "end", "tick"))
    hows = sorted({dot.row.figures[axis].how for dot in dots})
    parts.append(
        _text(frame.right, height - 10, f"{FIGURE_TITLES[axis]}, {' or '.join(hows)} →  left is better", "end", "axis")
    )
    better = "up is better" if report.data.higher_is_better else "lower values are better, drawn upwards"
    parts.append(_text(frame.left - 48, 16, f"↑ {report.data.metric} on the selection set, {better}", "start", "axis"))
    circles = {dot.number: Circle(x(dot.x), y(dot.accuracy), radius(dot.bytes)) for dot in dots}
    taken, limits = _limits(report, axis, x, y, frame, list(circles.values()))
    parts += limits
    for dot in dots:
        if dot.row.status in MET:
            bars, boxes = _error_bars(dot, axis, x, y, frame)
            parts += bars
            taken += boxes
    # Large circles first, the chosen one last, so that none hides behind another.
    order = sorted(dots, key=lambda dot: (dot.row.status == "chosen", -(dot.bytes or 0)))
    for dot in order:
        parts += _circle(dot, axis, x(dot.x), y(dot.accuracy), radius(dot.bytes))
    wanted = sorted(dots, key=lambda dot: (dot.row.status != "chosen", dot.row.status not in MET, dot.number))
    for dot in wanted:
        bold = dot.row.status == "chosen"
        short = f"{dot.row.scheme}{'' if dot.row.pattern == 'dense' else f' −{dot.row.level * 100:.0f} %'}"
        texts = [f"chosen: {short}"] if bold else [f"{dot.number}  {short}", str(dot.number)]
        circle = circles[dot.number]
        if bold:
            circle = Circle(circle.x, circle.y, circle.radius + RING)
        # A circle hidden by a larger one of nearly the same place shares its surroundings.
        others = [
            each
            for number, each in circles.items()
            if number != dot.number and math.hypot(each.x - circle.x, each.y - circle.y) > circle.radius
        ]
        found = place(circle, texts, taken=taken, others=others, frame=frame, bold=bold)
        if found:
            text, box = found
            taken.append(box)
            middle = (box.left + box.right) / 2
            style = "label strong" if bold else "label" if dot.row.status in MET else "label aside"
            parts.append(_text(middle, box.bottom - 3, text, "middle", style))
    if largest:
        parts += _size_legend(largest, radius)
    return drawing(WIDTH, height, f"Accuracy and {FIGURE_TITLES[axis]} of {len(dots)} candidates", parts)


def _candidate_scales(report: Report, dots: list[Dot], axis: str, frame: Box) -> tuple[Scale, Scale]:
    values = [dot.x for dot in dots]
    chosen_x = [
        pair for dot in dots if dot.row.status == "chosen" for pair in [interval(dot.row.figures[axis])] if pair
    ]
    high = max([*values, *(pair[1] for pair in chosen_x)])
    bound = report.budget.limits.get(axis)
    if bound is not None and bound <= 1.5 * high:
        high = max(high, bound)
    log = max(values) / min(values) > 20
    x = Scale(min(values) / 1.3 if log else 0.0, high * (1.3 if log else 1.06), frame.left, frame.right, log)
    heights = [dot.accuracy for dot in dots]
    spread = (max(heights) - min(heights)) or abs(heights[0]) * 0.05 or 1.0
    bars = [pair for dot in dots for pair in [interval(dot.row.figures["accuracy"])] if pair and dot.row.status in MET]
    # The intervals of what could be chosen are shown whole, unless the circles would be squeezed into a line.
    low = max(min([*heights, *(pair[0] for pair in bars)]), min(heights) - 1.5 * spread)
    top = min(max([*heights, *(pair[1] for pair in bars)]), max(heights) + 1.5 * spread)
    if report.budget.worst_accuracy is not None and low - spread <= report.budget.worst_accuracy <= top + spread:
        low, top = min(low, report.budget.worst_accuracy), max(top, report.budget.worst_accuracy)
    margin = 0.12 * (top - low)
    low, top = low - margin, top + margin
    if report.data.unit == "fraction":
        low, top = max(low, -0.02), min(top, 1.02)
    ends = (frame.bottom, frame.top) if report.data.higher_is_better else (frame.top, frame.bottom)
    return x, Scale(low, top, *ends)


def _limits(
    report: Report, axis: str, x: Scale, y: Scale, frame: Box, circles: list[Circle]
) -> tuple[list[Box], list[Markup]]:
    """The lines of the budget and the area that they leave, with the boxes of their labels."""
    parts: list[Markup] = []
    boxes: list[Box] = []
    bound, worst = report.budget.limits.get(axis), report.budget.worst_accuracy
    right = frame.right if bound is None or not x.low < bound < x.high else x(bound)
    bottom = frame.bottom if worst is None or not y.low < worst < y.high else y(worst)
    if right < frame.right or bottom < frame.bottom:
        parts.append(
            element(
                "rect", x=frame.left, y=frame.top, width=right - frame.left, height=bottom - frame.top, class_="met"
            )
        )
    if right < frame.right and bound is not None:
        parts.append(element("line", x1=right, x2=right, y1=frame.top, y2=frame.bottom, class_="limit"))
        text = limit(axis, bound)
        width = text_width(text)
        left = right + 6 if right + 6 + width < frame.right else right - 6 - width
        parts.append(_text(left, frame.bottom - 8, text, "start", "label limit-label"))
        boxes.append(Box(left, frame.bottom - 20, left + width, frame.bottom - 4))
        boxes.append(Box(right - 1, frame.top, right + 1, frame.bottom))
    if bottom < frame.bottom and report.budget.max_drop is not None:
        parts.append(element("line", x1=frame.left, x2=frame.right, y1=bottom, y2=bottom, class_="limit"))
        text = f"{loss_limit(report.budget.max_drop, report.data.unit)} lost"
        width = text_width(text)
        # At the end of the line where no candidate is near.
        near = [
            min((abs(circle.x - end) for circle in circles if abs(circle.y - bottom) < 120), default=1e9)
            for end in (frame.left, frame.right)
        ]
        left = frame.left + 6 if near[0] > width + 20 or near[0] >= near[1] else frame.right - 6 - width
        parts.append(_text(left, bottom + 14, text, "start", "label limit-label"))
        boxes.append(Box(left, bottom + 2, left + width, bottom + 18))
        boxes.append(Box(frame.left, bottom - 1, frame.right, bottom + 1))
    return boxes, parts


def _error_bars(dot: Dot, axis: str, x: Scale, y: Scale, frame: Box) -> tuple[list[Markup], list[Box]]:
    """The bars of a candidate and, for the chosen one, the boxes that no label may cover."""
    strong = dot.row.status == "chosen"
    style = "bar strong" if strong else "bar"
    parts, boxes = [], []
    if pair := interval(dot.row.figures["accuracy"]):
        top, bottom = sorted(min(max(y(value), frame.top), frame.bottom) for value in pair)
        parts.append(element("line", x1=x(dot.x), x2=x(dot.x), y1=top, y2=bottom, class_=style))
        boxes.append(Box(x(dot.x) - 1, top, x(dot.x) + 1, bottom))
    if pair := interval(dot.row.figures[axis]):
        left, right = sorted(min(max(x(value), frame.left), frame.right) for value in pair)
        parts.append(element("line", x1=left, x2=right, y1=y(dot.accuracy), y2=y(dot.accuracy), class_=style))
        boxes.append(Box(left, y(dot.accuracy) - 1, right, y(dot.accuracy) + 1))
    return parts, boxes if strong else []


def _circle(dot: Dot, axis: str, x: float, y: float, radius: float) -> list[Markup]:
    row = dot.row
    tip = element(
        "title",
        f"{dot.number}: {row.scheme}, {cut(row)}, {row.runtime}: {STATUS_WORDS[row.status]}\n"
        f"accuracy {figure(row.figures['accuracy'])}, {FIGURE_TITLES[axis]} {figure(row.figures[axis])}, "
        f"flash {figure(row.figures.get('flash_bytes'))}",
    )
    parts = []
    if row.status == "chosen":
        parts.append(element("circle", cx=x, cy=y, r=radius + RING, class_="ring"))
    kind = row.status if row.status in MET else "over"
    parts.append(element("circle", tip, cx=x, cy=y, r=radius, class_=f"dot {kind}"))
    return parts


def _size_legend(largest: float, radius: Callable[[float], float]) -> list[Markup]:
    parts: list[Markup] = []
    right, middle = WIDTH - 16, 16.0
    for share in (1.0, 0.25):
        size = float(f"{largest * share:.1g}")
        text, reach = round_quantity(size, "bytes"), radius(size)
        parts.append(_text(right, middle + 4, text, "end", "tick"))
        right -= text_width(text) + reach + 6
        parts.append(element("circle", cx=right, cy=middle, r=min(reach, 15.0), class_="dot size"))
        right -= reach + 12
    parts.append(_text(right, middle + 4, "area: bytes of the model", "end", "tick"))
    return parts


def layers_chart(layers: tuple[LayerRow, ...]) -> Markup | None:
    """Each operator a column, in execution order: share of MACs, bits, channels kept. None without layers."""
    if not layers:
        return None
    left, right, strip, gap = 64.0, WIDTH - 16, 74.0, 40.0
    pitch = (right - left) / len(layers)
    width = max(0.3, min(pitch * 0.78, 26.0))
    total = sum(row.macs or 0 for row in layers)
    shares = [(row.macs or 0) / total if total else 0.0 for row in layers]
    was_cut = any(row.channels != row.channels_before for row in layers)
    titles = ["share of the MACs", "bits of the weights (bar) and of the output (line); hatched: computes in float"]
    if was_cut:
        titles.append("output channels kept of those before (outline)")
    parts: list[Markup] = [_hatch()]
    tops = [24 + index * (strip + gap) for index in range(len(titles))]
    most = max(shares) or 1.0
    scales = [
        Scale(0, most, tops[0] + strip, tops[0]),
        Scale(0, 32, tops[1] + strip, tops[1]),
        *([Scale(0, 1, tops[2] + strip, tops[2])] if was_cut else []),
    ]
    ticks: list[list[float]] = [linear_ticks(0, most, 2), [0, 8, 16, 32], [0, 0.5, 1]]
    for index, (title, top, scale) in enumerate(zip(titles, tops, scales, strict=True)):
        parts.append(_text(left, top - 8, title, "start", "axis"))
        for value in ticks[index]:
            text = f"{value:g}" if index == 1 else f"{value * 100:g} %"
            parts.append(element("line", x1=left, x2=right, y1=scale(value), y2=scale(value), class_="grid"))
            parts.append(_text(left - 8, scale(value) + 4, text, "end", "tick"))
    for index, (row, share) in enumerate(zip(layers, shares, strict=True)):
        x = left + pitch * (index + 0.5) - width / 2
        style = "column in-float" if row.in_float else "column"
        bits = row.weight_bits or 0
        column = [_column(x, width, scales[0], share, style), _column(x, width, scales[1], bits, style)]
        y = scales[1](min(row.activation_bits, 32))
        column.append(element("line", x1=x - width * 0.1, x2=x + width * 1.1, y1=y, y2=y, class_="output"))
        if was_cut and row.channels is not None and row.channels_before:
            column.append(_column(x, width, scales[2], 1.0, "column before"))
            column.append(_column(x, width, scales[2], row.channels / row.channels_before, style))
        tip = f"{row.id} ({row.kind}): {count(row.macs)} MACs, {share * 100:.1f} %; {row.scheme}"
        tip += f"; weights {row.weight_bits} bits, {quantity(row.weight_bytes, 'bytes')}" if row.weight_bits else ""
        tip += f"; output {row.activation_bits} bits"
        if row.channels is not None and row.channels_before:
            tip += f"; {row.channels} of {row.channels_before} channels"
        parts.append(element("g", element("title", tip), *column))
    bottom = tops[-1] + strip
    parts.append(_text(left, bottom + 18, "first operator", "start", "tick"))
    parts.append(_text(right, bottom + 18, f"last of {len(layers)}", "end", "tick"))
    return drawing(WIDTH, bottom + 26, f"MACs, bits and channels of {len(layers)} operators", parts)


def _column(x: float, width: float, scale: Scale, value: float, style: str) -> Markup:
    top = scale(min(value, scale.high))
    return element("rect", x=x, y=top, width=width, height=max(0.0, scale.start - top), class_=style)


def _hatch() -> Markup:
    line = element("path", d="M0 6 L6 0 M-1 1 L1 -1 M5 7 L7 5", class_="hatch-line")
    pattern = element("pattern", line, id="hatch", width=6, height=6, patternUnits="userSpaceOnUse")
    return element("defs", pattern)


def memory_chart(memory: MemoryInfo) -> Markup | None:
    """Bytes that are alive at each step, the peak marked. None when it is not known."""
    if not memory.steps:
        return None
    left, right, top, height = 64.0, WIDTH - 16, 26.0, 190.0
    peak = max(range(len(memory.steps)), key=lambda index: memory.steps[index].live_bytes)
    most = memory.steps[peak].live_bytes
    scale = Scale(0, max(most, 1) * 1.02, height, top)
    pitch = (right - left) / len(memory.steps)
    parts: list[Markup] = []
    for value in linear_ticks(0, scale.high, 4):
        parts.append(element("line", x1=left, x2=right, y1=scale(value), y2=scale(value), class_="grid"))
        parts.append(_text(left - 8, scale(value) + 4, round_quantity(value, "bytes"), "end", "tick"))
    path = [f"M{left:g} {height:g}"]
    for index, step in enumerate(memory.steps):
        y = scale(step.live_bytes)
        path.append(f"L{left + pitch * index:.2f} {y:.2f} L{left + pitch * (index + 1):.2f} {y:.2f}")
    parts.append(element("path", d=" ".join([*path, f"L{right:g} {height:g} Z"]), class_="area"))
    for index, step in enumerate(memory.steps):
        tip = element("title", f"{step.id}: {quantity(step.live_bytes, 'bytes')}")
        x = left + pitch * index
        parts.append(element("rect", tip, x=x, y=top, width=pitch, height=height - top, class_="hit"))
    x = left + pitch * (peak + 0.5)
    text = f"peak {quantity(most, 'bytes')} at {memory.steps[peak].id}"
    width = text_width(text, bold=True)
    start = min(max(left, x + 6), right - width)
    parts.append(element("line", x1=x, x2=x, y1=scale(most), y2=10, class_="peak"))
    parts.append(_text(start, 16, text, "start", "label strong"))
    parts.append(_text(left, height + 18, "first operator", "start", "tick"))
    parts.append(_text(right, height + 18, f"last of {len(memory.steps)}", "end", "tick"))
    return drawing(WIDTH, height + 26, f"Memory over {len(memory.steps)} steps", parts)


def _text(x: float, y: float, text: str, anchor: str, style: str) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor, class_=style)

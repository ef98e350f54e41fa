"""Small tested pieces of SVG: elements, scales, ticks and labels that do not overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Box", "Circle", "Scale", "drawing", "element", "linear_ticks", "log_ticks", "place", "text_width"]

FONT_SIZE = 12


def element(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """An SVG element, everything escaped; ``_`` in an attribute's name stands for ``-``, a trailing one is dropped.

    >>> element("circle", cx=1.25, r=3, class_="a<b")
    Markup('<circle cx="1.25" r="3" class="a&lt;b"/>')

    Raises:
        ValueError: A number is not finite.
    """
    parts = []
    for key, value in attributes.items():
        if value is None:
            continue
        text = value if isinstance(value, str) else _number(value, f"{key} of {name}")
        parts.append(f' {key.rstrip("_").replace("_", "-")}="{escape(text)}"')
    inside = "".join(escape(child) for child in children)
    return Markup(f"<{name}{''.join(parts)}>{inside}</{name}>" if inside else f"<{name}{''.join(parts)}/>")  # noqa: S704  escaped above


def _number(value: float, where: str) -> str:
    if not math.isfinite(value):
        raise ValueError(f"{where} is {value}")
    return f"{value:.2f}".rstrip("0").rstrip(".")


def drawing(width: float, height: float, title: str, children: Iterable[str]) -> Markup:
    """A whole drawing that scales with the page; `title` describes it to those who can't see it."""
    return element(
        "svg", element("title", title), *children, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=title
    )


@dataclass(frozen=True)
class Scale:
    """Takes values from [low, high] to positions from `start` to `end`, evenly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The position of `value`, outside [start, end] when it is outside [low, high]."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, 1e-300))
        share = (value - low) / (high - low) if high != low else 0.5
        return self.start + share * (self.end - self.start)


def linear_ticks(low: float, high: float, count: int = 6) -> list[float]:
    """At most `count` + 1 round values (1, 2 or 5 times a power of ten apart) within [low, high].

    >>> linear_ticks(0, 46, 5)
    [0.0, 10.0, 20.0, 30.0, 40.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times each power of ten within [low, high]; powers alone over four decades and more.

    >>> log_ticks(3, 60)
    [5.0, 10.0, 20.0, 50.0]
    """
    factors = (1, 2, 5) if math.log10(high / low) < 4 else (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [float(f"{factor * 10.0**exponent:.12g}") for exponent in exponents for factor in factors]
    return [value for value in values if low <= value <= high]


@dataclass(frozen=True)
class Box:
    """A rectangle on the drawing, left, top, right, bottom."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Whether they share any area."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        """Whether it lies inside `other` whole."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


def text_width(text: str, *, bold: bool = False) -> float:
    """Width of `text` at the charts' font size, on the generous side, as the reader's font is not known."""
    return len(text) * FONT_SIZE * (0.64 if bold else 0.58)


@dataclass(frozen=True)
class Circle:
    """A circle on the drawing."""

    x: float
    y: float
    radius: float

    def distance(self, box: Box) -> float:
        """From its edge to the nearest point of `box`, negative when that lies inside the circle."""
        return math.hypot(
            max(box.left - self.x, 0, self.x - box.right), max(box.top - self.y, 0, self.y - box.bottom)
        ) - self.radius  # fmt: skip


def place(
    circle: Circle,
    texts: Sequence[str],
    *,
    taken: Sequence[Box],
    others: Sequence[Circle],
    frame: Box,
    bold: bool = False,
) -> tuple[str, Box] | None:
    """A free place for a label beside a circle, nearer to it than to any other circle.

    Args:
        circle: What is labelled.
        texts: The label, then shorter ones; a short one close by is better than a long one further off.
        taken: What must not be covered.
        others: The other circles, none of which may be touched.
        frame: What must not be left.
        bold: Whether the label is bold.

    Returns:
        The text and its box, or None when there is no room.
    """
    height = FONT_SIZE * 1.15
    for gap in (4.0, 12.0, 20.0):
        reach = circle.radius + gap
        near = reach * 0.75
        for text in texts:
            width = text_width(text, bold=bold)
            for right, down in (
                (reach, -height / 2),
                (near, -near - height),
                (near, near),
                (-width / 2, -reach - height),
                (-width / 2, reach),
                (-reach - width, -height / 2),
                (-near - width, -near - height),
                (-near - width, near),
            ):
                left, top = circle.x + right, circle.y + down
                box = Box(left, top, left + width, top + height)
                if not box.within(frame) or any(box.overlaps(each) for each in taken):
                    continue
                own = circle.distance(box)
                if all(each.distance(box) > max(own, 0.0) for each in others):
                    return text, box
    return None

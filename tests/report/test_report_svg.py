from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanedge.report.svg import Box, Circle, Scale, drawing, element, linear_ticks, log_ticks, place

FINITE = st.floats(-1e9, 1e9, allow_nan=False)


def test_elements_are_escaped() -> None:
    hostile = '"><script>alert(1)</script>&'
    text = str(element("text", hostile, fill=hostile))
    assert "<script" not in text
    assert text.count("<") == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="cx of circle"):
        element("circle", cx=bad)


@given(st.integers(-1000, 1000), st.floats(1, 1e6))
def test_ticks_are_round_few_and_inside(low: int, width: float) -> None:
    high = low + width
    values = linear_ticks(low, high, 6)
    assert 2 <= len(values) <= 7
    assert all(low - 1e-6 <= value <= high + 1e-6 * width for value in values)
    step = values[1] - values[0]
    assert all(after - before == pytest.approx(step) for before, after in pairwise(values))
    assert any(step / 10.0 ** round(math.log10(step / factor)) == pytest.approx(factor) for factor in (1, 2, 5))


def test_log_ticks() -> None:
    assert log_ticks(0.9, 1100) == [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0]
    assert log_ticks(1, 1e5) == [1.0, 10.0, 100.0, 1e3, 1e4, 1e5]


@given(FINITE, st.floats(1e-3, 1e9), st.booleans())
def test_scales_map_ends_to_ends(low: float, width: float, log: bool) -> None:
    low = abs(low) + 1e-3 if log else low
    scale = Scale(low, low + width, 10.0, 110.0, log)
    assert scale(low) == pytest.approx(10.0)
    if low + width > low * (1 + 1e-9):
        assert scale(low + width) == pytest.approx(110.0)


def test_a_scale_without_a_range_is_its_middle() -> None:
    assert Scale(3, 3, 0, 100)(3) == 50


FRAME = Box(0, 0, 900, 500)


@given(st.lists(st.tuples(st.floats(20, 880), st.floats(20, 480), st.floats(3, 18)), min_size=1, max_size=40))
def test_labels_do_not_overlap_and_belong_to_their_circle(places: list[tuple[float, float, float]]) -> None:
    circles = [Circle(*each) for each in places]
    taken: list[Box] = []
    for index, circle in enumerate(circles):
        others = circles[:index] + circles[index + 1 :]
        found = place(circle, [f"{index} w8a8 −30 %", str(index)], taken=taken, others=others, frame=FRAME)
        if found is None:
            continue
        text, box = found
        assert str(index) in text
        assert box.within(FRAME)
        assert not any(box.overlaps(other) for other in taken)
        assert all(other.distance(box) > circle.distance(box) for other in others)
        taken.append(box)


def test_a_lone_circle_gets_its_whole_label() -> None:
    found = place(Circle(100, 100, 8), ["whole", "w"], taken=[], others=[], frame=FRAME)
    assert found is not None
    assert found[0] == "whole"


def test_there_may_be_no_room() -> None:
    assert place(Circle(5, 5, 4), ["a long label"], taken=[], others=[], frame=Box(0, 0, 10, 10)) is None


def test_a_drawing_is_described() -> None:
    text = str(drawing(10, 20, "what <it> shows", []))
    assert 'viewBox="0 0 10 20"' in text
    assert "<title>what &lt;it&gt; shows</title>" in text

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from made_up_report import make_report

from leanedge.figures import Figure, unavailable
from leanedge.report.charts import candidates_chart, layers_chart, memory_chart
from leanedge.report.content import (
    BudgetInfo,
    CandidateRow,
    Check,
    DataInfo,
    LayerRow,
    MemoryInfo,
    MemoryStep,
    Report,
    TargetInfo,
    Verdict,
)
from leanedge.report.html import to_html, write_html

if TYPE_CHECKING:
    from pathlib import Path

VOID = {"meta", "br", "link", "img", "input", "hr"}
HOSTILE = "</text></svg></style><script>alert('x')</script><img src=http://x onerror=alert(1)>\"'{{ 7*7 }}"


class Page(HTMLParser):
    """Collects tags and text, and fails on tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attributes]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Page:
    page = Page()
    page.feed(html)
    page.close()
    assert page.open == []
    return page


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", " ".join(read(html).text)).replace("\u00a0", " ")


def test_the_page_is_well_formed_and_loads_nothing(report: Report) -> None:
    html = to_html(report)
    page = read(html)
    assert page.tags["script"] == page.tags["link"] == page.tags["img"] == page.tags["iframe"] == 0
    assert page.tags["svg"] >= 3
    for tag, name, value in page.attributes:
        assert name not in ("src", "href", "srcset", "action", "data"), (tag, name, value)
        assert not name.startswith("on")
        assert "http:" not in value
        assert "https:" not in value
    assert not re.search(r"@import|url\((?!#)", html)
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html


def test_it_says_what_matters(report: Report) -> None:
    text = text_of(to_html(report))
    for expected in (
        "Passed",
        "2.3× faster, 3.9× smaller, RAM 2.2× smaller, top1 0.8 points worse",
        "4 of 4 checks passed; not checked: on the device",
        "70.4 %",
        "95 % interval 67.6 to 73.2 %",
        "latency ≤ 30 ms, flash ≤ 8 MB, RAM ≤ 64 MB, at most 1 point of top1 lost",
        "unavailable: the profile states no power for this load",
        "bit for bit",
        "refused : the profile rpi4 has no runtime 'openvino'",
        "too slow : latency over by 10.5 ms",
        "tied with 2",
        report.model.sha256,
        "leanedge build mobilenet_v2.onnx --target rpi4",
        "Split by photograph",
    ):
        assert expected in text, expected


def test_every_figure_stands_with_its_word(report: Report) -> None:
    html = to_html(report)
    for tile in re.findall(r'<div class="tile".*?\n  </div>', html, re.S):
        assert re.search(r'class="badge">(proved|measured|predicted|unavailable)<', tile)
    header = re.search(r"<thead>.*?</thead>", html, re.S)
    assert header is not None
    assert re.findall(r"<small>(.*?)</small>", header[0]) == [
        "measured",
        "predicted",
        "proved",
        "measured",
    ]


def test_a_column_of_several_kinds_says_so_in_each_cell(report: Report) -> None:
    first = report.candidates[0]
    measured = Figure(21.0, "ms", "measured", {"runs": 3})
    changed = replace(first, figures={**first.figures, "latency_ms": measured})
    text = text_of(to_html(replace(report, candidates=(changed, *report.candidates[1:]))))
    assert "21.0 ms measured" in text
    assert "22.7 ms predicted" in text


def test_hostile_names_stay_text() -> None:
    layer = LayerRow(HOSTILE, HOSTILE, 10, 10, 8, 8, HOSTILE, 3, 4)
    row = CandidateRow("a", "dense", 0.0, "w8a8", HOSTILE, "refused", HOSTILE)
    report = make_report(
        target=TargetInfo(HOSTILE, HOSTILE, HOSTILE),
        layers=(layer, layer),
        memory=MemoryInfo(HOSTILE, "proved", (MemoryStep(HOSTILE, 5), MemoryStep("b", 7))),
        candidates=(*make_report().candidates, row),
        verdict=Verdict(False, (Check(HOSTILE, False, HOSTILE, HOSTILE),)),
        notes=(HOSTILE,),
        commands=(HOSTILE,),
        figures={"accuracy": Figure(0.5, "fraction", "measured", {"note": HOSTILE, HOSTILE: 1})},
    )
    page = read(to_html(report))
    assert page.tags["script"] == page.tags["img"] == 0
    assert not any(name in ("src", "onerror") for _, name, _ in page.attributes)
    assert "{{ 7*7 }}" in " ".join(page.text)


def numbers(svg: str) -> list[float]:
    values = re.findall(r'\b(?:x|y|x1|x2|y1|y2|cx|cy|r|width|height)="([^"]*)"', svg)
    return [float(value) for value in values]


def test_the_drawings_hold_finite_numbers_within_the_frame(report: Report) -> None:
    for svg in (candidates_chart(report), layers_chart(report.layers), memory_chart(report.memory)):
        assert svg is not None
        assert all(math.isfinite(value) and -30 <= value <= 960 for value in numbers(svg))


def test_the_chosen_one_is_marked_by_more_than_colour(report: Report) -> None:
    svg = str(candidates_chart(report))
    assert svg.count('class="ring"') == 1
    assert "chosen: w8a8" in svg
    assert svg.count('class="dot chosen"') == 1
    assert svg.count('class="dot fits"') == 3
    assert svg.count('class="dot over"') == 18


def test_area_stands_for_bytes(report: Report) -> None:
    svg = str(candidates_chart(report))
    by_title = {
        int(found[3]): float(found[1]) for found in re.finditer(r'r="([\d.]+)" class="dot (\w+)"><title>(\d+):', svg)
    }
    for number, row in enumerate(report.candidates, 1):
        if number in by_title:
            ratio = (by_title[number] / by_title[19]) ** 2
            sizes = [each.figures["flash_bytes"].value or 0 for each in (row, report.candidates[18])]
            assert ratio == pytest.approx(sizes[0] / sizes[1], rel=0.02)


def test_lower_is_better_is_drawn_upwards(report: Report) -> None:
    data = DataInfo(report.data.sets, 7, "mae", "", higher_is_better=False)
    svg = str(candidates_chart(replace(report, data=data, budget=BudgetInfo())))
    heights = {
        int(found[2]): float(found[1])
        for found in re.finditer(r'cy="([\d.]+)" r="[\d.]+" class="dot \w+"><title>(\d+):', svg)
    }
    values = {number: row.figures["accuracy"].value for number, row in enumerate(report.candidates, 1) if row.figures}
    low, high = min(heights, key=lambda n: values[n] or 0), max(heights, key=lambda n: values[n] or 0)
    assert heights[low] < heights[high]
    assert "lower values are better" in svg


def test_without_latency_bytes_are_drawn(report: Report) -> None:
    rows = tuple(
        replace(row, figures={**row.figures, "latency_ms": unavailable("ms", "no emulator")}) if row.figures else row
        for row in report.candidates
    )
    svg = str(candidates_chart(replace(report, candidates=rows)))
    assert "flash, proved" in svg


def test_one_candidate_is_no_drawing(report: Report) -> None:
    alone = replace(report, candidates=report.candidates[:1])
    assert candidates_chart(alone) is None
    read(to_html(alone))


def test_equal_candidates_can_be_drawn(report: Report) -> None:
    row = report.candidates[1]
    svg = candidates_chart(replace(report, candidates=(row, replace(row, id="other"))))
    assert svg is not None
    assert all(math.isfinite(value) for value in numbers(svg))


def test_far_apart_latencies_use_a_logarithm(report: Report) -> None:
    slow = {"latency_ms": Figure(4000.0, "ms", "predicted")}
    rows = (*report.candidates[:2], replace(report.candidates[2], figures={**report.candidates[2].figures, **slow}))
    svg = str(candidates_chart(replace(report, candidates=rows)))
    assert ">100 ms<" in svg
    assert ">1 s<" in svg


def test_odd_layers() -> None:
    assert layers_chart(()) is None
    assert memory_chart(MemoryInfo()) is None
    rows = (LayerRow("a", "other", None, 0, None, 32, "fp32"), LayerRow("b", "other", 0, 0, None, 64, "fp32"))
    svg = layers_chart(rows)
    assert svg is not None
    assert "channels kept" not in svg
    assert all(math.isfinite(value) for value in numbers(svg))
    assert memory_chart(MemoryInfo("x", "proved", (MemoryStep("a", 0),))) is not None


def test_nothing_fits(report: Report) -> None:
    rows = tuple(row for row in report.candidates if row.status not in ("chosen", "fits"))
    failed = Verdict(False, (Check("fits", False, "flash over by 4 MB"),))
    none = replace(report, chosen=None, candidates=rows, verdict=failed, layers=(), memory=MemoryInfo())
    text = text_of(to_html(none))
    assert "Nothing fits" in text
    assert "The table says by how much each is over" in text
    assert "What was chosen" not in text


def test_interrupted_and_failed(report: Report) -> None:
    assert "Interrupted, passed" in text_of(to_html(replace(report, interrupted=True)))
    failed = replace(report, verdict=Verdict(False, (Check("outputs", False, "3 differ"),)))
    assert "1 of 1 checks failed: outputs" in text_of(to_html(failed))


def test_writes_utf_8(report: Report, tmp_path: Path) -> None:
    write_html(report, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes().decode("utf-8") == to_html(report)

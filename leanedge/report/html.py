"""``report.html``: one file that needs nothing else, readable without scripts, in light, dark and on paper."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from leanedge.report import wording
from leanedge.report.charts import candidates_chart, layers_chart, memory_chart

if TYPE_CHECKING:
    from leanedge.figures import Figure
    from leanedge.report.content import Report

__all__ = ["to_html", "write_html"]

_TEMPLATES = Path(__file__).parent / "templates"
_TILES = (("latency_ms", "Latency"), ("flash_bytes", "Flash"), ("ram_bytes", "RAM"))
_COLUMNS = ("accuracy", "latency_ms", "flash_bytes", "ram_bytes")


def write_html(report: Report, path: Path) -> None:
    """Writes report.html at `path`."""
    path.write_text(to_html(report), encoding="utf-8")


def to_html(report: Report) -> str:
    """The text of report.html: no script, no address that would be loaded, every string escaped."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["capitalize_first"] = lambda text: text[:1].upper() + text[1:]
    environment.filters["sentence"] = wording.sentence
    environment.filters["keep"] = _keep_together
    word, sentence = wording.headline(report)
    return environment.get_template("report.html.j2").render(
        report=report,
        word=word,
        sentence=sentence,
        tone="good" if word == "Passed" else "bad" if word in ("Failed", "Nothing fits") else "open",
        wording=wording,
        tiles=_tiles(report),
        other_figures=_other_figures(report),
        columns=[(name, wording.column_title(report, name)) for name in _COLUMNS],
        one_how={name: wording.one_how(report, name) for name in _COLUMNS},
        tied_with=_ties(report),
        candidates_chart=candidates_chart(report),
        layers_chart=layers_chart(report.layers),
        memory_chart=memory_chart(report.memory),
    )


@dataclass(frozen=True)
class Bar:
    """A bar of a tile in percent of its track; with a `point` it is an interval around that."""

    name: str
    width: float
    left: float = 0.0
    point: float | None = None


@dataclass(frozen=True)
class Tile:
    """A headline figure, what it was in fp32, the change in words and the two as bars."""

    title: str
    after: Figure
    before: Figure | None
    change: str
    bars: tuple[Bar, ...]


def _tiles(report: Report) -> list[Tile]:
    figures = report.figures
    tiles = []
    if accuracy := figures.get("accuracy"):
        before = figures.get("accuracy_fp32")
        change = wording.accuracy_change(before, accuracy, higher_is_better=report.data.higher_is_better)
        tiles.append(Tile(report.data.metric, accuracy, before, change, _interval_bars(before, accuracy)))
    for name, title in _TILES:
        if after := figures.get(name):
            before = figures.get(f"{name}_fp32")
            tiles.append(Tile(title, after, before, wording.change(name, before, after), _size_bars(before, after)))
    return tiles


def _size_bars(before: Figure | None, after: Figure) -> tuple[Bar, ...]:
    if before is None or not before.value or not after.value:
        return ()
    most = max(before.value, after.value)
    return tuple(
        Bar(name, round(100 * value / most, 1)) for name, value in (("fp32", before.value), ("now", after.value))
    )


def _interval_bars(before: Figure | None, after: Figure) -> tuple[Bar, ...]:
    """The two 95 % intervals on one axis that just holds both."""
    known = [
        (name, each.value, pair)
        for name, each in (("fp32", before), ("now", after))
        if each is not None and each.value is not None and (pair := wording.interval(each))
    ]
    low = min((pair[0] for _, _, pair in known), default=0.0)
    width = max((pair[1] for _, _, pair in known), default=0.0) - low
    if not width > 0:
        return ()

    def percent(value: float) -> float:
        return round(100 * value / width, 1)

    return tuple(
        Bar(name, percent(pair[1] - pair[0]), percent(pair[0] - low), percent(value - low))
        for name, value, pair in known
    )


def _other_figures(report: Report) -> list[tuple[str, Figure, Figure | None]]:
    """Title, figure and the same of fp32, for what has no tile."""
    tiles = {"accuracy", *(name for name, _ in _TILES)}
    titles = wording.FIGURE_TITLES
    return [
        (titles.get(name, name.replace("_", " ")), known, report.figures.get(f"{name}_fp32"))
        for name, known in report.figures.items()
        if name.removesuffix("_fp32") not in tiles
        and not (name.endswith("_fp32") and name.removesuffix("_fp32") in report.figures)
    ]


def _ties(report: Report) -> dict[str, str]:
    """Candidate id -> the table's numbers of those it is tied with."""
    number = {row.id: number for number, row in enumerate(report.candidates, 1)}
    return {
        row.id: ", ".join(map(str, sorted(number[other] for other in row.tied_with if other in number)))
        for row in report.candidates
    }


def _keep_together(text: str) -> str:
    """No line break between a number and its unit."""
    return re.sub(r"(\d) (?=(?:%|[µm]?s|[KMG]?B|[µm]?J)\b|%)", "\\1\u00a0", text)

"""``report.md``: the result for the summary page of a CI run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from leanedge.report import wording

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from leanedge.report.content import Report

__all__ = ["to_markdown", "write_markdown"]

_COSTS = ("latency_ms", "flash_bytes", "ram_bytes", "energy_uj")
_COLUMNS = ("accuracy", "latency_ms", "flash_bytes", "ram_bytes")


def write_markdown(report: Report, path: Path) -> None:
    """Writes report.md at `path`."""
    path.write_text(to_markdown(report), encoding="utf-8")


def to_markdown(report: Report) -> str:
    """The text of report.md: GitHub-flavoured Markdown, names escaped so that they can't become markup."""
    word, sentence = wording.headline(report)
    lines = [
        f"# {_safe(report.model.name)} for {_safe(report.target.title)}",
        "",
        f"**{word}.** {_safe(sentence)} {_safe(wording.checks_sentence(report.verdict))}.",
        "",
    ]
    if report.chosen:
        lines += [f"Chosen: {_safe(wording.setup(report.chosen))}. {_safe(wording.sentence(report.chosen.why))}", ""]
    if report.chosen and report.figures:
        lines += _table(["", "fp32", "chosen", "change", "how it is known"], _figure_rows(report))
    if report.verdict.checks:
        lines += ["## Validation", ""]
        lines += _table(
            ["result", "check", "found", "rule"],
            ([wording.check_word(check), check.name, check.detail, check.rule] for check in report.verdict.checks),
        )
    lines += ["## Candidates", ""]
    hows = {name: wording.one_how(report, name) for name in _COLUMNS}
    titles = [f"{wording.column_title(report, name)} {hows[name]}".rstrip() for name in _COLUMNS]
    lines += _table(["numbers", "pruning", "runtime", *titles, "outcome"], _candidate_rows(report, hows))
    lines += [f"- {_safe(note)}" for note in (*report.notes, *report.data.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _figure_rows(report: Report) -> Iterable[list[str]]:
    figures = report.figures
    for name in ("accuracy", *_COSTS):
        if known := figures.get(name):
            before = figures.get(f"{name}_fp32")
            if name == "accuracy":
                title = report.data.metric
                change = wording.accuracy_change(before, known, higher_is_better=report.data.higher_is_better)
            else:
                title, change = wording.FIGURE_TITLES[name], wording.change(name, before, known)
            yield [title, wording.figure(before), wording.figure(known), change, wording.how_briefly(known)]


def _candidate_rows(report: Report, hows: dict[str, str]) -> Iterable[list[str]]:
    for row in report.candidates:
        cells = [row.scheme, wording.cut(row).replace(" MACs", ""), row.runtime]
        for name in _COLUMNS:
            known = row.figures.get(name)
            word = known.how if known is not None and known.value is not None and not hows[name] else ""
            cells.append(f"{wording.figure(known)} {word}".rstrip())
        yield [*cells, wording.outcome(row)]


def _table(titles: list[str], rows: Iterable[list[str]]) -> list[str]:
    lines = [titles, ["---"] * len(titles), *([_safe(cell) for cell in row] for row in rows)]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def _safe(text: str) -> str:
    r"""Text that Markdown shows as it is, on one line.

    >>> _safe("a|b <i>*c*")
    'a\\|b &lt;i&gt;\\*c\\*'
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~#!])", r"\\\1", text)

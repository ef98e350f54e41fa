"""The result of a build on the console: tables on a terminal, one line an item elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from leanedge.report import wording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.console import Console

    from leanedge.figures import Figure
    from leanedge.report.content import CandidateRow, Check, Report, Verdict

__all__ = ["print_result", "print_verdict"]

SHOWN_CANDIDATES = 8
WIDE = 112
"""Columns that the table of candidates needs to show all of its own."""

_WORD_STYLES = {"passed": "bold green", "failed": "bold red", "not checked": "bold yellow", "chosen": "bold cyan"}
_COSTS = (("latency_ms", "latency"), ("flash_bytes", "flash"), ("ram_bytes", "RAM"), ("energy_uj", "energy"))


def print_result(console: Console, report: Report, folder: Path | None = None, *, verbose: bool = False) -> None:
    """The result: verdict, figures before and after, candidates, checks, and where the report is.

    Args:
        console: Tables on a terminal, one line an item elsewhere.
        report: The result.
        folder: The output folder, when one was written.
        verbose: All candidates and how each figure is known.
    """
    word, sentence = wording.headline(report)
    style = _WORD_STYLES["passed" if word == "Passed" else "failed"]
    heading = Text.assemble("\n", (word, style), f"  {sentence}" if console.is_terminal else f": {sentence}")
    console.print(heading, soft_wrap=not console.is_terminal)
    if report.chosen is not None:
        why = f"{wording.setup(report.chosen)}: {report.chosen.why}"
        console.print(Text.assemble(("Chosen", "bold"), "  " if console.is_terminal else ": ", why), soft_wrap=True)
    rows = _shown(report, all_of_them=verbose or report.chosen is None)
    if console.is_terminal:
        _print_tables(console, report, rows, verbose)
    else:
        _print_lines(console, report, rows)
    left_out = len(report.candidates) - len(rows)
    if left_out:
        console.print(Text(f"and {left_out} more candidates in the report (-v shows all)", style="bright_black"))
    _print_checks(console, report.verdict.checks)
    for note in report.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)
    if folder is not None:
        for title, name in (
            ("artifact", ", ".join(each.path for each in report.artifact.files)),
            ("report", "report.html"),
        ):
            if name:
                console.print(Text(f"{title}: {folder / name}"), soft_wrap=True)


def print_verdict(console: Console, verdict: Verdict) -> None:
    """The checks of an artifact that was validated again, and their outcome."""
    _print_checks(console, verdict.checks)
    word = "Passed" if verdict.passed else "Failed"
    console.print(
        Text.assemble((word, _WORD_STYLES[word.lower()]), f": {wording.checks_sentence(verdict)}"), soft_wrap=True
    )


def _print_checks(console: Console, checks: tuple[Check, ...]) -> None:
    for check in checks:
        word = wording.check_word(check)
        start = f"{word:<12}" if console.is_terminal else f"{word}: "
        rule = f" ({check.rule})" if check.rule else ""
        line = Text.assemble((start, _WORD_STYLES[word]), f"{check.name}: {check.detail}{rule}")
        console.print(line, soft_wrap=True)


def _shown(report: Report, *, all_of_them: bool) -> list[tuple[int, CandidateRow]]:
    numbered = list(enumerate(report.candidates, 1))
    if all_of_them or len(numbered) <= SHOWN_CANDIDATES:
        return numbered
    return numbered[:SHOWN_CANDIDATES]


def _figures(report: Report) -> Iterator[tuple[str, Figure | None, Figure, str]]:
    """Title, before, after and change of each figure that stands in the result."""
    figures = report.figures
    if accuracy := figures.get("accuracy"):
        before = figures.get("accuracy_fp32")
        change = wording.accuracy_change(before, accuracy, higher_is_better=report.data.higher_is_better)
        yield report.data.metric, before, accuracy, change
    for name, title in _COSTS:
        if after := figures.get(name):
            before = figures.get(f"{name}_fp32")
            yield title, before, after, wording.change(name, before, after)


def _print_tables(console: Console, report: Report, rows: list[tuple[int, CandidateRow]], verbose: bool) -> None:
    if report.chosen is not None:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for title in ("", "fp32", "chosen"):
            table.add_column(title, justify="right" if title else "left", no_wrap=True)
        table.add_column("change", no_wrap=True)
        table.add_column("how it is known", overflow="fold")
        for title, before, after, change in _figures(report):
            how = wording.how(after) if verbose or after.value is None else wording.how_briefly(after)
            table.add_row(*map(Text, (title, wording.figure(before), wording.figure(after), change, how)))
        console.print(table)
    wide = console.width >= WIDE
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("#", justify="right", no_wrap=True)
    for title in ("numbers", "pruning", "runtime") if wide else ("candidate",):
        table.add_column(title, no_wrap=wide)
    names = (
        ("accuracy", "latency_ms", "flash_bytes", "ram_bytes") if wide else ("accuracy", "latency_ms", "flash_bytes")
    )
    hows = {name: wording.one_how(report, name) for name in names}
    for name in names:
        table.add_column(f"{wording.column_title(report, name)}\n{hows[name]}".rstrip(), justify="right", no_wrap=True)
    table.add_column("outcome", overflow="fold", min_width=14)
    for number, row in rows:
        cut = wording.cut(row).replace(" MACs", "")
        cells = [str(number), row.scheme, cut, row.runtime] if wide else [str(number), wording.setup(row)]
        for name in names:
            known = row.figures.get(name)
            word = known.how if known is not None and known.value is not None and not hows[name] else ""
            cells.append(f"{wording.figure(known)} {word}".rstrip())
        style = "bold cyan" if row.status == "chosen" else "" if row.status == "fits" else "bright_black"
        table.add_row(*(Text(cell) for cell in [*cells, wording.outcome(row)]), style=style)
    console.print(table)


def _print_lines(console: Console, report: Report, rows: list[tuple[int, CandidateRow]]) -> None:
    for title, before, after, change in _figures(report) if report.chosen is not None else ():
        parts = [wording.figure(after)] if after.value is not None else []
        if before is not None and before.value is not None:
            parts.append(f"fp32 {wording.figure(before)}")
        parts += [change] if change else []
        console.print(Text(f"{title}: {', '.join([*parts, wording.how_briefly(after)])}"), soft_wrap=True)
    for number, row in rows:
        known = []
        for name, each in row.figures.items():
            if each.value is not None:
                known.append(f"{wording.column_title(report, name)} {wording.figure(each)} {each.how}")
        line = f"candidate {number}: {'; '.join([wording.setup(row), *known, wording.outcome(row)])}"
        console.print(Text(line), soft_wrap=True)

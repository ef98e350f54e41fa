"""What the command line shows: a line for each step, the result as tables; plain lines where it is not a terminal."""

from __future__ import annotations

import io
import sys
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Table
from rich.text import Text

from leanedge.report import wording

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from leanedge.errors import LeanEdgeError
    from leanedge.figures import Figure
    from leanedge.report.content import CandidateRow, Report

__all__ = ["Steps", "make_console", "print_error", "print_report"]

SHOWN_CANDIDATES = 8
WIDE = 112
"""Columns that the table of candidates needs to show all of its own."""

QUIET_SECONDS = 10.0
"""Without a terminal, a long step says where it is no more often than this."""

_WORD_STYLES = {"passed": "bold green", "failed": "bold red", "not checked": "bold yellow", "chosen": "bold cyan"}
_COSTS = (("latency_ms", "latency"), ("flash_bytes", "flash"), ("ram_bytes", "RAM"), ("energy_uj", "energy"))


def make_console(*, json: bool = False) -> Console:
    """The console for steps and results: standard output, or standard error when that is kept for JSON."""
    stream = sys.stderr if json else sys.stdout
    # A terminal that lacks a character shows a question mark in its place rather than stopping the build.
    if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
        stream.reconfigure(errors="replace")
    return Console(file=stream, highlight=False)


class Steps:
    """A `leanedge.report.progress.Progress` on a console.

    On a terminal a running step shows a bar and the time left. Elsewhere it is one line when it ends, and a line now
    and then while it is long.

    Args:
        console: Where to write; it decides whether this is a terminal.
        clock: Seconds, for tests.
    """

    def __init__(self, console: Console, *, clock: Callable[[], float] = monotonic) -> None:
        self._console = console
        self._clock = clock
        self._live: Progress | None = None
        self._depth = 0

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[RunningStep]:
        """Opens a step; steps may be nested. An exception marks it as failed and goes on."""
        live = self._open_live()
        running = RunningStep(title, total, self._depth, self._clock, live, self._console)
        self._depth += 1
        failed = True
        try:
            yield running
            failed = False
        finally:
            self._depth -= 1
            running.close()
            if live is not None and self._depth == 0:
                live.stop()
                self._live = None
            self._console.print(running.line(failed=failed), soft_wrap=True)

    def say(self, text: str) -> None:
        """A line that belongs to no step."""
        self._console.print(Text("  " * self._depth + text), soft_wrap=True)

    def _open_live(self) -> Progress | None:
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            return None
        if self._live is None:
            self._live = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                _TimeLeft(),
                console=self._console,
                transient=True,
            )
            self._live.start()
        return self._live


class RunningStep:
    """A step on the console; see `leanedge.report.progress.Step`."""

    def __init__(
        self,
        title: str,
        total: int | None,
        depth: int,
        clock: Callable[[], float],
        live: Progress | None,
        console: Console,
    ) -> None:
        self._title = title
        self._total = total
        self._depth = depth
        self._clock = clock
        self._live = live
        self._console = console
        self._task = live.add_task("  " * depth + title, total=total) if live is not None else None
        self._note = ""
        self._done = 0
        self._start = self._last_line = clock()

    def advance(self, count: int = 1) -> None:
        """`count` more of the step's total are done."""
        self._done += count
        if self._live is not None and self._task is not None:
            self._live.advance(self._task, count)
            return
        now = self._clock()
        if self._total and now - self._last_line >= QUIET_SECONDS and self._done < self._total:
            self._last_line = now
            left = seconds_left(now - self._start, self._done, self._total)
            indent = "  " * self._depth
            line = f"{indent}{self._title}: {100 * self._done // self._total} %, {left}"
            self._console.print(Text(line), soft_wrap=True)

    def note(self, text: str) -> None:
        """What the step found, shown on its line when it ends."""
        self._note = text

    def close(self) -> None:
        """Takes the running line off the terminal."""
        if self._live is not None and self._task is not None:
            self._live.remove_task(self._task)

    def line(self, *, failed: bool) -> Text:
        """The line that stays."""
        seconds = f"{self._clock() - self._start:.1f} s"
        indent = "  " * self._depth
        if self._live is None:
            result = f"stopped after {seconds}" if failed else f"{self._note}, {seconds}" if self._note else seconds
            return Text(f"{indent}{self._title}: {result}")
        utf8 = self._console.encoding.lower().replace("-", "") == "utf8"
        mark = ("✗" if utf8 else "x") if failed else ("✓" if utf8 else "-")
        colour = "red" if failed else "green"
        took = (f" {'stopped after ' if failed else ''}{seconds:>7}", "red" if failed else "bright_black")
        title = f"{self._title:<{max(1, 34 - len(indent))}}"
        return Text.assemble((f"{indent}{mark} ", colour), title, took, f"  {self._note}" if self._note else "")


class _TimeLeft(ProgressColumn):
    """The time left, once there is something to tell it from."""

    def render(self, task: Task) -> Text:
        elapsed = task.elapsed or 0.0
        if not task.total or not task.completed:
            return Text(f"{elapsed:.0f} s")
        return Text(seconds_left(elapsed, task.completed, task.total))


def seconds_left(elapsed: float, done: float, total: float) -> str:
    """The time left in words, if the rest goes as the part that is done did.

    >>> seconds_left(10.0, 25, 100), seconds_left(100.0, 10, 100)
    ('about 30 s left', 'about 15 min left')
    """
    left = max(1.0, elapsed * (total - done) / done)
    return f"about {left:.0f} s left" if left < 90 else f"about {left / 60:.0f} min left"


def print_error(console: Console, error: LeanEdgeError) -> None:
    """An error of ours: what, where, what is allowed, what to do."""
    console.print(Text.assemble(("error: ", "bold red"), str(error)), soft_wrap=True)


def print_report(console: Console, report: Report, folder: Path | None = None, *, verbose: bool = False) -> None:
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
    rows = _shown(report, all_of_them=verbose or report.chosen is None)
    if console.is_terminal:
        _print_tables(console, report, rows, verbose)
    else:
        _print_lines(console, report, rows)
    left_out = len(report.candidates) - len(rows)
    if left_out:
        console.print(Text(f"and {left_out} more candidates in the report (-v shows all)", style="bright_black"))
    for check in report.verdict.checks:
        word = wording.check_word(check)
        start = f"{word:<12}" if console.is_terminal else f"{word}: "
        rule = f" ({check.rule})" if check.rule else ""
        line = Text.assemble((start, _WORD_STYLES[word]), f"{check.name}: {check.detail}{rule}")
        console.print(line, soft_wrap=True)
    for note in report.notes:
        console.print(Text(f"note: {note}"), soft_wrap=True)
    if folder is not None:
        for title, name in (
            ("artifact", ", ".join(each.path for each in report.artifact.files)),
            ("report", "report.html"),
        ):
            if name:
                console.print(Text(f"{title}: {folder / name}"), soft_wrap=True)


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
    if report.figures:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for title in ("", "fp32", "chosen"):
            table.add_column(title, justify="right" if title else "left", no_wrap=True)
        table.add_column("change", no_wrap=True)
        table.add_column("how it is known", overflow="fold")
        for title, before, after, change in _figures(report):
            how = wording.how(after) if verbose or after.value is None else after.how
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
    for title, before, after, change in _figures(report):
        parts = [wording.figure(after)] if after.value is not None else []
        if before is not None and before.value is not None:
            parts.append(f"fp32 {wording.figure(before)}")
        parts += [change] if change else []
        console.print(Text(f"{title}: {', '.join([*parts, wording.how(after)])}"), soft_wrap=True)
    for number, row in rows:
        known = [
            f"{wording.column_title(report, name)} {wording.how(each) if each.value is None else wording.figure(each)}"
            + (f" {each.how}" if each.value is not None else "")
            for name, each in row.figures.items()
        ]
        line = f"candidate {number}: {'; '.join([wording.setup(row), *known, wording.outcome(row)])}"
        console.print(Text(line), soft_wrap=True)

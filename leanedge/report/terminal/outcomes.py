"""What came of several devices, on the console: one row each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanedge.report import wording
from leanedge.report.terminal.rows import print_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from leanedge.report.content import Report

__all__ = ["print_outcomes"]

_FIGURES = ("accuracy", "latency_ms", "flash_bytes", "ram_bytes")


def print_outcomes(console: Console, outcomes: Sequence[tuple[str, Report | None]]) -> None:
    """One table: what was chosen for each device, its figures with how they are known, and the verdict.

    Args:
        console: Where it is written.
        outcomes: (Device, its report), the report None where the build ended with an error.
    """
    titles = ("target", "chosen", *(wording.FIGURE_TITLES[name] for name in _FIGURES), "verdict")
    print_rows(console, titles, [_row(target, report) for target, report in outcomes])


def _row(target: str, report: Report | None) -> tuple[str, ...]:
    if report is None:
        return (target, "–", *("–" for _ in _FIGURES), "Error")
    chosen = "–" if report.chosen is None else wording.setup(report.chosen)
    figures = [report.figures.get(name) for name in _FIGURES]
    cells = [
        f"{wording.figure(known)} {known.how}" if known is not None and known.value is not None else "–"
        for known in figures
    ]
    return (target, chosen, *cells, wording.headline(report)[0])

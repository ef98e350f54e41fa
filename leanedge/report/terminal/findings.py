"""What is installed and what is missing, on the console."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from leanedge.report.terminal.rows import print_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from leanedge.doctor import Finding

__all__ = ["print_findings"]


def print_findings(console: Console, findings: Sequence[Finding]) -> None:
    """One line each, then the commands that get what is missing."""
    rows = [
        (finding.name, finding.found or ("missing, needed" if finding.needed else "missing"), finding.what_for)
        for finding in findings
    ]
    print_rows(console, ("", "found", "what for"), rows)
    missing = [finding for finding in findings if not finding.found]
    if not missing:
        console.print(Text("nothing is missing", style="bold green"))
        return
    console.print(Text("to get what is missing:", style="bold"))
    for command in dict.fromkeys(finding.get for finding in missing if finding.get):
        console.print(Text(f"  {command}"), soft_wrap=True)

"""Rows of cells on the console: a table that wraps on a terminal, aligned lines that don't elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

__all__ = ["print_rows"]


def print_rows(
    console: Console, titles: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str] = ()
) -> None:
    """Prints rows under their titles; the columns named in `right` hold numbers and never wrap."""
    if console.is_terminal:
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for index, title in enumerate(titles):
            justify = "right" if title in right else "left"
            whole = title in right or index == 0
            table.add_column(title, justify=justify, no_wrap=whole, overflow="ellipsis" if whole else "fold")  # type: ignore[arg-type]  # a literal
        for row in rows:
            table.add_row(*map(Text, row))
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        cells = [
            cell.rjust(width) if title in right else cell.ljust(width)
            for title, cell, width in zip(titles, row, widths, strict=True)
        ]
        console.print(Text("  ".join(cells).rstrip()), soft_wrap=True)

"""A line for each step of a build, with the time left on long ones."""

from __future__ import annotations

import codecs
import io
import sys
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["RunningStep", "Steps", "make_console", "silent_steps"]

QUIET_SECONDS = 10.0
"""Without a terminal, a long step says where it is no more often than this."""


_PLAIN = {"µ": "u", "×": "x", "−": "-", "–": "-", "≤": "<=", "✓": "-", "✗": "x", "─": "-"}


def make_console(*, json: bool = False) -> Console:
    """The console for steps and results: standard output, or standard error when that is kept for JSON."""
    stream = sys.stderr if json else sys.stdout
    if isinstance(stream, io.TextIOWrapper) and stream.encoding.lower().replace("-", "") != "utf8":
        codecs.register_error("leanedge.plain", _plain_characters)
        stream.reconfigure(errors="leanedge.plain")
    return Console(file=stream, highlight=False)


def _plain_characters(error: UnicodeError) -> tuple[str, int]:
    """What a terminal gets in place of the characters that it lacks, rather than an end of the build."""
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character, "?") for character in lacking), error.end


class Steps:
    """Steps on a console, one line each.

    Example::

        with steps.step("Calibrating", total=len(samples)) as step:
            for sample in samples:
                ...
                step.advance()
            step.done(f"{len(samples)} samples")

    On a terminal a running step shows a bar and the time left. Elsewhere it is one line when it ends, and a line now
    and then while it is long.

    Args:
        console: Where to write; it decides whether this is a terminal.
        verbose: Show what `RunningStep.say` is told as lines of their own.
        clock: Seconds, for tests.
    """

    def __init__(self, console: Console, *, verbose: bool = False, clock: Callable[[], float] = monotonic) -> None:
        self._console = console
        self._verbose = verbose
        self._clock = clock
        self._live: Progress | None = None
        self._depth = 0

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[RunningStep]:
        """Opens a step; steps may be nested. An exception marks it as failed and goes on."""
        live = self._open_live()
        running = RunningStep(title, total, self._depth, self._clock, live, self._console, self._verbose)
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
    """A step that is running; `Steps.step` makes it."""

    def __init__(
        self,
        title: str,
        total: int | None,
        depth: int,
        clock: Callable[[], float],
        live: Progress | None,
        console: Console,
        verbose: bool,
    ) -> None:
        self._verbose = verbose
        self._title = title
        self._total = total
        self._depth = depth
        self._clock = clock
        self._live = live
        self._console = console
        self._task = live.add_task("  " * depth + title, total=total) if live is not None else None
        self._found = ""
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

    def say(self, text: str) -> None:
        """What the step is at: shown while it runs, and kept as a line of its own when verbose."""
        indent = "  " * self._depth
        if self._live is not None and self._task is not None:
            self._live.update(self._task, description=f"{indent}{self._title}: {text}")
        if self._verbose:
            self._console.print(Text(f"{indent}  {text}"), soft_wrap=True)

    def done(self, text: str) -> None:
        """What the step found, shown on its line when it ends; the last text counts."""
        self._found = text

    def close(self) -> None:
        """Takes the running line off the terminal."""
        if self._live is not None and self._task is not None:
            self._live.remove_task(self._task)

    def line(self, *, failed: bool) -> Text:
        """The line that stays."""
        seconds = f"{self._clock() - self._start:.1f} s"
        indent = "  " * self._depth
        if self._live is None:
            result = f"stopped after {seconds}" if failed else f"{self._found}, {seconds}" if self._found else seconds
            return Text(f"{indent}{self._title}: {result}")
        utf8 = self._console.encoding.lower().replace("-", "") == "utf8"
        mark = ("✗" if utf8 else "x") if failed else ("✓" if utf8 else "-")
        colour = "red" if failed else "green"
        took = (f" {'stopped after ' if failed else ''}{seconds:>7}", "red" if failed else "bright_black")
        title = f"{self._title:<{max(1, 34 - len(indent))}}"
        return Text.assemble((f"{indent}{mark} ", colour), title, took, f"  {self._found}" if self._found else "")


def silent_steps() -> Steps:
    """Steps that show nothing, for use from Python."""
    return Steps(Console(file=io.StringIO(), quiet=True))


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

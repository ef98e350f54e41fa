"""How steps tell what they are doing; `terminal.Steps` shows it, `Silent` does not.

with progress.step("Calibrating", total=len(samples)) as step:
    for sample in samples:
        ...
        step.advance()
    step.note(f"{len(samples)} samples")
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

__all__ = ["Progress", "Silent", "Step"]


class Step(Protocol):
    """A step that is running."""

    def advance(self, count: int = 1) -> None:
        """`count` more of the step's total are done."""

    def note(self, text: str) -> None:
        """What the step found, shown on its line when it ends; the last note counts."""


class Progress(Protocol):
    """Shows steps, one line each."""

    def step(self, title: str, total: int | None = None) -> AbstractContextManager[Step]:
        """Opens a step; `total` is how often it will advance, None when that is not known."""

    def say(self, text: str) -> None:
        """A line that belongs to no step: a warning, a note."""


class Silent:
    """A `Progress` that shows nothing, for use from Python."""

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Step]:
        """Opens a step that shows nothing."""
        yield _SilentStep()

    def say(self, text: str) -> None:
        """Shows nothing."""


class _SilentStep:
    def advance(self, count: int = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass

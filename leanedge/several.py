"""One model for several devices: a build for each, and the worst of their exit codes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanedge.errors import LeanEdgeError, UsageError
from leanedge.pipeline import build
from leanedge.profile import load_profile
from leanedge.report.terminal import silent_steps
from leanedge.request import find_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.pipeline import Result
    from leanedge.report.terminal import Steps

__all__ = ["Outcome", "build_many", "worst_exit_code"]

_WORST_FIRST = (130, 2, 5, 4, 3, 0)
_INTERRUPTED = 130


@dataclass(frozen=True)
class Outcome:
    """What came of one device.

    Attributes:
        target: The device's name.
        result: What was built, or that nothing fits; None where the build ended with an error.
        error: That error, or None.
    """

    target: str
    result: Result | None
    error: LeanEdgeError | None

    @property
    def exit_code(self) -> int:
        """As of a build for this device alone."""
        if self.result is not None:
            return self.result.exit_code
        return self.error.exit_code if self.error else 0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, the content of report.json within."""
        return {
            "target": self.target,
            "exit_code": self.exit_code,
            "error": None if self.error is None else str(self.error),
            "report": None if self.result is None else self.result.to_dict(),
        }


def build_many(
    model: Any,
    targets: Sequence[str | Path],
    data: Any = None,
    *,
    output: str | Path | None = None,
    settings: str | Path | None = None,
    steps: Steps | None = None,
    **options: Any,
) -> tuple[Outcome, ...]:
    """Builds a model for each of several devices; an error for one device does not keep the others from being built.

    Args:
        model: As `build` takes it.
        targets: Devices' names or profile files.
        data: As `build` takes it, and such that it can be read more than once.
        output: Folder in which each device gets one of its name; default ``dist``.
        settings: As `build` takes it.
        steps: Where steps are shown; default nowhere.
        options: As `build` takes them.

    Returns:
        One outcome a device, in order; those after an interruption are missing.

    Raises:
        ProfileError: A device is unknown; nothing was built.
        UsageError: A device is given twice.
        LeanEdgeError: Every build ended with this error.
    """
    steps = steps or silent_steps()
    names = [load_profile(target).name for target in targets]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"{', '.join(twice)} is given twice", where="--target", hint="give each device once")
    folder = Path(output or find_settings(model, settings).output or "dist")
    outcomes = []
    for target, name in zip(targets, names, strict=True):
        steps.say(f"{name}:")
        try:
            made = build(model, target, data, output=folder / name, settings=settings, steps=steps, **options)
        except LeanEdgeError as error:
            outcomes.append(Outcome(name, None, error))
            continue
        outcomes.append(Outcome(name, made, None))
        if made.exit_code == _INTERRUPTED:
            break
    first = outcomes[0].error
    if first is not None and all(str(outcome.error) == str(first) for outcome in outcomes):
        raise first
    return tuple(outcomes)


def worst_exit_code(outcomes: Sequence[Outcome]) -> int:
    """The exit code that tells most of what went wrong: 130, then 2, 5, 4, 3, and 0 where all passed."""
    codes = {outcome.exit_code for outcome in outcomes}
    return next(code for code in _WORST_FIRST if code in codes)

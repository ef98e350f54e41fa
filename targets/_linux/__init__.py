"""What the Linux kinds share: the device-side runner, the emulated board, and trials on both."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leanedge.profile import DeviceProfile
    from leanedge.target import Trace, Trial

__all__ = ["run_trial"]


def run_trial(trial: Trial, profile: DeviceProfile) -> Trace:
    """`trial.run_trial`, imported when it is called: getting programs needs the standard library only."""
    from .trial import run_trial as run

    return run(trial, profile)

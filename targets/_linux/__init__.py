"""What the Linux kinds share: the device-side runner, the emulated board, and trials on both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from leanedge.profile import DeviceProfile
    from leanedge.target import Artifact, Trace, Trial

__all__ = ["open_artifact", "run_trial"]


def run_trial(trial: Trial, profile: DeviceProfile) -> Trace:
    """`trial.run_trial`, imported when it is called: getting programs needs the standard library only."""
    from .trial import run_trial as run

    return run(trial, profile)


def open_artifact(
    artifact: Artifact, threads: int, kernels: str = ""
) -> Callable[[Mapping[str, np.ndarray[Any, Any]]], dict[str, np.ndarray[Any, Any]]]:
    """`session.open_artifact`, imported when it is called."""
    from .session import open_artifact as opened

    return opened(artifact, threads, kernels)

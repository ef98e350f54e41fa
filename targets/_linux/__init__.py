"""What the Linux kinds share: the device-side runner, the emulated board, and trials on both."""

from leanedge.targets._linux.trial import run_trial

__all__ = ["run_trial"]

"""Every error LeanEdge raises on purpose, and the exit code each one ends the command with.

LeanEdgeError
├── InputError            2   the model, the data, a profile or the command line is wrong
│   ├── UsageError            an option or argument
│   ├── ModelError            the model file or module
│   ├── UnsupportedOperator   a graph node that no step can handle
│   ├── DataError             samples, labels, groups
│   ├── SettingsError         leanedge.yaml
│   ├── ProfileError          a device profile or an unknown target
│   └── OutputError           the output folder can't be written
├── DoesNotFit            3   nothing meets the budget; carries every candidate
├── ValidationFailed      4   the artifact does not do what the reference does
└── MissingProgram        5   a program or Python extra that this step needs is absent
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DataError",
    "DoesNotFit",
    "InputError",
    "LeanEdgeError",
    "MissingProgram",
    "ModelError",
    "OutputError",
    "ProfileError",
    "SettingsError",
    "UnsupportedOperator",
    "UsageError",
    "ValidationFailed",
    "nearest",
]


class LeanEdgeError(Exception):
    """What went wrong, where, what is allowed and what to do next.

    Args:
        message: What was asked or found, in one sentence.
        where: File, key, node or option, if there is one.
        allowed: What would have been accepted.
        hint: The next thing to do.
    """

    exit_code = 1

    def __init__(self, message: str, *, where: str = "", allowed: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.allowed = allowed
        self.hint = hint

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.message}" if self.where else self.message]
        if self.allowed:
            lines.append(f"  allowed: {self.allowed}")
        if self.hint:
            lines.append(f"  to do: {self.hint}")
        return "\n".join(lines)


class InputError(LeanEdgeError):
    """The caller gave something unusable."""

    exit_code = 2


class UsageError(InputError):
    """A command-line option or function argument is wrong."""


class ModelError(InputError):
    """The model can't be read or is damaged."""


class UnsupportedOperator(InputError):
    """A node of the model can't be handled by the step that met it."""


class DataError(InputError):
    """Samples, labels or groups don't match the model or each other."""


class SettingsError(InputError):
    """leanedge.yaml holds something that is not allowed."""


class ProfileError(InputError):
    """A device profile is wrong, or the target is unknown."""


class OutputError(InputError):
    """The output folder can't be written."""


class DoesNotFit(LeanEdgeError):
    """No candidate meets the budget: an answer, not a crash."""

    exit_code = 3


class ValidationFailed(LeanEdgeError):
    """The artifact differs from its reference, or could not be checked where a check was required."""

    exit_code = 4


class MissingProgram(LeanEdgeError):
    """A system program or a Python extra is absent."""

    exit_code = 5


def nearest(word: str, allowed: Iterable[str]) -> str:
    """Returns ``did you mean 'x'?`` for the allowed word closest to `word`, or an empty string.

    >>> nearest("latncy", ["latency", "ram"])
    "did you mean 'latency'?"
    """
    close = get_close_matches(word, list(allowed), n=1)
    return f"did you mean '{close[0]}'?" if close else ""

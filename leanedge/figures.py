"""A figure: a value with its unit and the way it is known. None is shown without that word."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.names import How

__all__ = ["Figure", "unavailable"]


@dataclass(frozen=True)
class Figure:
    """One number of a report.

    Attributes:
        value: The number in `unit`, or None when it is not known (never 0 for "not known").
        unit: ``bytes``, ``ms``, ``uJ``, ``fraction``, ``dB`` or the metric's own.
        how: ``proved``, ``measured``, ``predicted`` or ``unavailable``.
        detail: By what, where, how many runs, with which error; the reason when unavailable. Plain JSON values.
    """

    value: float | None
    unit: str
    how: How
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.value is None) != (self.how == "unavailable"):
            raise ValueError("a figure without a value is 'unavailable', and only that one")

    def to_dict(self) -> dict[str, Any]:
        """The figure as it stands in report.json."""
        return {"value": self.value, "unit": self.unit, "how": self.how, "detail": dict(self.detail)}


def unavailable(unit: str, reason: str) -> Figure:
    """A figure that is not known, with the reason why."""
    return Figure(None, unit, "unavailable", {"reason": reason})

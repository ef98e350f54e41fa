"""What the device has to spare, and how far an estimate is over it.

A budget and an estimate share their field names, so that ``budget.excess(estimate)`` is the whole test.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from leanedge.errors import UsageError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.figures import Figure

__all__ = ["Budget", "Estimate", "format_amount", "parse_amount", "parse_budget"]

UNITS: dict[str, dict[str, float]] = {
    "latency_ms": {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "s": 1e3},
    "ram_bytes": {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "flash_bytes": {"B": 1, "KB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30},
    "energy_uj": {"nJ": 1e-3, "uJ": 1.0, "mJ": 1e3, "J": 1e6},
}
"""For each field, its units and what each is worth in the field's own. KB and MB are 1000-based, KiB and MiB 1024."""

KEYS = {"latency": "latency_ms", "ram": "ram_bytes", "flash": "flash_bytes", "energy": "energy_uj"}
"""The words of ``--budget`` and the fields they set."""

_AMOUNT = re.compile(r"\s*(?P<sign>[-+]?)(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>[A-Za-z]*)\s*")


@dataclass(frozen=True)
class Estimate:
    """What one candidate costs, each figure with the way it is known; `more` by name, without a budget."""

    latency_ms: Figure
    ram_bytes: Figure
    flash_bytes: Figure
    energy_uj: Figure
    more: Mapping[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class Budget:
    """The most that a candidate may cost; None is no limit.

    Attributes:
        latency_ms: Batch 1, milliseconds.
        ram_bytes: Peak memory.
        flash_bytes: The model's files, or the linked image on a microcontroller.
        energy_uj: One inference, microjoules.
    """

    latency_ms: float | None = None
    ram_bytes: int | None = None
    flash_bytes: int | None = None
    energy_uj: float | None = None

    def __post_init__(self) -> None:
        for name in UNITS:
            limit = getattr(self, name)
            if limit is not None and not (limit > 0 and math.isfinite(limit)):
                raise UsageError(f"budget {name} is {limit}", allowed="a finite amount above zero")

    def excess(self, estimate: Estimate) -> dict[str, float]:
        """By how much each field is over, in the field's unit; empty when everything fits.

        Raises:
            UsageError: A limit is set on a figure that is not available: it can't be kept, so it can't be promised.
        """
        over: dict[str, float] = {}
        for item in fields(self):
            limit = getattr(self, item.name)
            if limit is None:
                continue
            figure: Figure = getattr(estimate, item.name)
            if figure.value is None:
                reason = figure.detail.get("reason", "no reason given")
                raise UsageError(
                    f"a budget on {item.name} can't be checked: the figure is unavailable ({reason})",
                    where="--budget",
                    hint=f"leave {_word(item.name)} out of the budget",
                )
            if figure.value > limit:
                over[item.name] = figure.value - limit
        return over

    def to_dict(self) -> dict[str, float | None]:
        """The limits as they stand in reports, None where there is none."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def parse_budget(text: str) -> Budget:
    """Reads ``latency=20ms,ram=64MB,flash=8MB,energy=5mJ``; any subset, in any order.

    Raises:
        UsageError: An unknown key or unit (with the nearest right one), a key twice, an amount that is not above zero.

    >>> parse_budget("latency=1.5s, flash=8MiB")
    Budget(latency_ms=1500.0, ram_bytes=None, flash_bytes=8388608, energy_uj=None)
    """
    limits: dict[str, float] = {}
    for part in text.split(","):
        if not part.strip():
            if text.strip():
                raise UsageError("an empty entry", where=f"--budget {text!r}", hint="remove the extra comma")
            continue
        word, equals, amount = part.partition("=")
        key = word.strip()
        if not equals:
            raise UsageError(
                f"{part.strip()!r} has no amount", where="--budget", allowed="key=amount, such as latency=20ms"
            )
        if key not in KEYS:
            hint = nearest(key, KEYS) or "use one of these"
            raise UsageError(f"unknown key {key!r}", where="--budget", allowed=", ".join(KEYS), hint=hint)
        if KEYS[key] in limits:
            raise UsageError(f"{key} is given twice", where="--budget", hint="keep one of them")
        limits[KEYS[key]] = parse_amount(amount, KEYS[key], where=f"--budget {key}")
    return Budget(
        latency_ms=limits.get("latency_ms"),
        ram_bytes=_whole(limits.get("ram_bytes")),
        flash_bytes=_whole(limits.get("flash_bytes")),
        energy_uj=limits.get("energy_uj"),
    )


def parse_amount(text: str, field: str, where: str = "") -> float:
    """An amount with its unit, in the unit of `field` (a key of `UNITS`).

    Raises:
        UsageError: No number, no unit, an unknown unit, or not above zero.

    >>> parse_amount("64KiB", "ram_bytes")
    65536.0
    """
    units = UNITS[field]
    shown = ", ".join(units)
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise UsageError(f"{text.strip()!r} is not an amount", where=where, allowed=f"a number and one of {shown}")
    unit = found["unit"]
    if not unit:
        raise UsageError(f"{text.strip()!r} has no unit", where=where, allowed=shown)
    if unit not in units:
        same = [name for name in units if name.lower() == unit.lower()]
        hint = f"did you mean {same[0]!r}?" if same else nearest(unit, units) or "use one of these"
        raise UsageError(f"unknown unit {unit!r}", where=where, allowed=shown, hint=hint)
    amount = float(found["sign"] + found["number"]) * units[unit]
    if not (amount > 0 and math.isfinite(amount)):
        raise UsageError(f"{text.strip()!r} can never be met", where=where, allowed="a finite amount above zero")
    return amount


def format_amount(value: float, field: str) -> str:
    """A value of `field` with the unit that reads best, 1000-based.

    >>> format_amount(8388608, "flash_bytes")
    '8.39 MB'
    """
    units = {name: worth for name, worth in UNITS[field].items() if not name.endswith("iB")}
    fitting = [name for name, worth in units.items() if abs(value) >= worth] or list(units)[:1]
    unit = max(fitting, key=lambda name: units[name])
    return f"{value / units[unit]:.3g} {unit}"


def _whole(value: float | None) -> int | None:
    if value is None:
        return None
    return max(1, math.floor(value))


def _word(field: str) -> str:
    return next(word for word, name in KEYS.items() if name == field)

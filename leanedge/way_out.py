"""When nothing fits the device's own memory: which shipped devices would hold the smallest candidate that was tried."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from leanedge.profile import list_profiles, load_profile
from leanedge.target import load_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.plan import Choice, Priced
    from leanedge.profile import DeviceProfile
    from leanedge.target import Shortage

__all__ = ["devices_that_hold", "smallest", "with_way_out", "words_of"]

_NAMES = {"flash_bytes": "flash", "ram_bytes": "RAM"}


def with_way_out(choice: Choice, profile: DeviceProfile) -> Choice:
    """The choice; where none fits the device's memory, its words name the smallest candidate and who would hold it."""
    short = [row for row in choice.ranked if row.shortages]
    if choice.chosen is not None or not short or len(short) < len(choice.ranked):
        return choice
    least = smallest(short)
    over = "; ".join(map(words_of, least.shortages))
    names = devices_that_hold(least, profile)
    others = f"by flash and RAM these would hold it: {', '.join(names)}" if names else "no shipped device would hold it"
    return replace(choice, why=f"nothing fits {profile.title}; the smallest tried, {least.id}: {over}; {others}")


def words_of(short: Shortage) -> str:
    """By how much a memory of the device is exceeded, and where."""
    name = _NAMES[short.figure]
    return (
        f"{name} is {short.excess_bytes:,} bytes over the device's {short.limit_bytes:,}, fullest at {short.operator}"
    )


def smallest(rows: Sequence[Priced]) -> Priced:
    """Of candidates that exceed the device's memory, the one that exceeds it least, as a part of what there is."""

    def share(row: Priced) -> float:
        return max(short.excess_bytes / short.limit_bytes for short in row.shortages)

    return min(rows, key=lambda row: (share(row), row.id))


def devices_that_hold(row: Priced, profile: DeviceProfile) -> tuple[str, ...]:
    """Shipped devices of the same target kind with memory for it; those with the same core first.

    Code differs between cores, so that for another core the sizes are near, not exact.
    """
    kind = row.evaluation.candidate.kind
    room = load_target(kind).room
    assert room is not None  # only what is built can exceed a device's memory
    found = []
    for name in list_profiles():
        other = load_profile(name)
        if name == profile.name or all(entry.target != kind for entry in other.runtimes):
            continue
        there = room(other)
        needs = {figure: getattr(row.estimate, figure).value or 0 for figure in _NAMES}
        if all(needs[figure] <= there[figure] for figure in _NAMES):
            found.append((other.cpu.core != profile.cpu.core, name))
    return tuple(name for _, name in sorted(found))

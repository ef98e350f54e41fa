"""What flash behind its caches costs: cycles that the core waits for code and constants.

Each read of flash and each run of code is followed through caches of the device's sizes (least recently used goes
first); a miss costs the wait states. A model: arbitration between code and data, and what a core does while it waits,
are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from leanedge.profile import Cache, DeviceProfile

__all__ = ["CacheShape", "FlashModel", "Misses", "flash_model"]

_WAYS = 4
"""What caches are taken to have."""


@dataclass(frozen=True)
class CacheShape:
    """A cache: `lines` of `line_bytes` each, in sets of `ways`."""

    lines: int
    line_bytes: int
    ways: int


@dataclass(frozen=True)
class FlashModel:
    """Flash and its caches.

    Attributes:
        wait_states: Cycles that a read takes beyond the first.
        width_bytes: What a read brings.
        prefetch: Whether the next read of code is begun while this one's instructions are executed.
        code: The cache that code goes through; one line where there is none.
        data: The cache that constants go through; the same object as `code` where both share one.
    """

    wait_states: int
    width_bytes: int
    prefetch: bool
    code: CacheShape
    data: CacheShape

    def stall_cycles(self, misses: Misses, cycles: int, code_bytes: int) -> int:
        """Cycles that the core waited.

        Args:
            misses: What the caches did not have.
            cycles: What the core took without waiting.
            code_bytes: Bytes of the instructions that it executed.
        """
        jumped = followed = self._fill_cycles(self.code.line_bytes)
        data = self._fill_cycles(self.data.line_bytes)
        if self.prefetch and code_bytes:
            # While one line's instructions are executed, the next is on its way.
            followed = max(0, followed - round(cycles / code_bytes * self.code.line_bytes))
        return misses.jump * jumped + misses.next * followed + misses.data * data

    def _fill_cycles(self, line_bytes: int) -> int:
        reads = -(-line_bytes // self.width_bytes)
        return reads * (self.wait_states + 1) - 1


@dataclass(frozen=True)
class Misses:
    """Lines that caches did not have: code that follows what ran before, code that was jumped to, constants."""

    next: int
    jump: int
    data: int


def flash_model(profile: DeviceProfile) -> FlashModel | None:
    """The model of a device's flash, or None where the profile does not know its timing."""
    timing = profile.flash_timing
    if timing is None:
        return None
    first = {cache.kind: cache for cache in profile.caches if cache.level == 1}
    shared = first.get("unified")
    code = _shape(shared or first.get("instruction"), timing.width_bytes)
    data = code if shared else _shape(first.get("data"), timing.width_bytes)
    return FlashModel(timing.wait_states, timing.width_bytes, timing.prefetch, code, data)


def _shape(cache: Cache | None, width_bytes: int) -> CacheShape:
    if cache is None:
        return CacheShape(1, width_bytes, 1)
    lines = max(1, cache.bytes // cache.line_bytes)
    return CacheShape(lines, cache.line_bytes, min(lines, _WAYS))

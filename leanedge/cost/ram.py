"""Memory that a candidate takes while it runs, from what the device-side runner saw."""

from __future__ import annotations

from typing import Literal, Protocol

from leanedge.figures import Figure

__all__ = ["SeenMemory", "measured_ram"]


class SeenMemory(Protocol):
    """What the runner reports of a process: resident bytes at the moments that matter."""

    @property
    def ram_bytes(self) -> int:
        """Peak after the first inferences less the size before the runtime was imported."""

    @property
    def runtime_bytes(self) -> int:
        """The part of it that importing the runtime took."""

    @property
    def inferences(self) -> int:
        """After how many inferences the peak was read."""

    @property
    def counted(self) -> str:
        """Which pages count."""


def measured_ram(memory: SeenMemory, where: Literal["host", "emulator", "device"]) -> Figure:
    """Peak resident bytes with the runtime's share apart: kind ``measured``.

    Under emulation the program's pages are counted, not the emulator's own.
    """
    detail = {
        "where": where,
        "runtime_bytes": memory.runtime_bytes,
        "model_bytes": memory.ram_bytes - memory.runtime_bytes,
        "inferences": memory.inferences,
        "counted": memory.counted,
    }
    return Figure(memory.ram_bytes, "bytes", "measured", detail)

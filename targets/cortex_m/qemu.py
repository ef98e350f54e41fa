"""System emulation of Cortex-M boards: qemu-system-arm and the plug-in that counts its instructions."""

from __future__ import annotations

from pathlib import Path

from .._programs.qemu import Qemu, QemuProgram

__all__ = ["QEMU", "count_plugin"]

QEMU = QemuProgram("qemu-system-arm", "qemu-system-arm")


def count_plugin(qemu: Qemu) -> Path:
    """The counting plug-in for this QEMU, compiled on first use.

    Raises:
        MissingProgram: This QEMU takes no plug-ins, or there is no C compiler.
    """
    return qemu.plugin(Path(__file__).with_name("count_plugin.c"), "cortex-m-count-plugin")

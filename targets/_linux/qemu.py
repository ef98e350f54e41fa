"""User-mode emulation of arm64: qemu-aarch64 and the plug-in that counts its instructions."""

from __future__ import annotations

from pathlib import Path

from .._programs.qemu import Qemu, QemuProgram

__all__ = ["QEMU", "count_plugin"]

QEMU = QemuProgram("qemu-aarch64", "qemu-user", wheel_architecture="aarch64")


def count_plugin(qemu: Qemu) -> Path:
    """The counting plug-in for this QEMU, compiled on first use.

    Raises:
        MissingProgram: This QEMU takes no plug-ins, or there is no C compiler.
    """
    return qemu.plugin(Path(__file__).with_name("count_plugin.c"), "count-plugin")

"""What is installed, what is missing, and the one command that gets it."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from leanedge.errors import MissingProgram

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Finding", "examine"]

_CORE = ("numpy", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "flatbuffers", "tflite", "pydantic", "pyyaml")
_EXTRAS = {
    "ai-edge-litert": ("tflite", "builds and checks .tflite artifacts"),
    "openvino": ("openvino", "offers OpenVINO on x86"),
    "torch": ("torch", "takes an nn.Module as the model"),
    "pillow": ("images", "reads folders of images"),
    "ziglang": ("mcu", "compiles for microcontrollers"),
    "unicorn": ("mcu", "emulates Cortex-M cores and counts instructions"),
    "capstone": ("mcu", "decodes instructions: classes, cycles, the stack"),
    "pyelftools": ("mcu", "reads linked images"),
    "highspy": ("mcu", "chooses kernels and places the arena"),
}
_GET = f"{Path(sys.executable).name} -m leanedge.targets._programs.get_programs"


@dataclass(frozen=True)
class Finding:
    """One thing that LeanEdge can use.

    Attributes:
        name: Package or program.
        found: Its version or place, empty when it is missing.
        needed: Whether nothing works without it.
        what_for: What it is used for.
        get: The command that gets it, empty when it is there.
    """

    name: str
    found: str
    needed: bool
    what_for: str
    get: str


def examine() -> tuple[Finding, ...]:
    """Looks at everything LeanEdge can use; downloads nothing."""
    findings = [Finding("python", platform.python_version(), True, "runs LeanEdge", "")]
    for name in _CORE:
        found = _version(name)
        findings.append(Finding(name, found, True, "core", "" if found else f"pip install {name}"))
    for name, (extra, what_for) in _EXTRAS.items():
        found = _version(name)
        findings.append(Finding(name, found, False, what_for, "" if found else f"pip install 'leanedge[{extra}]'"))
    findings.append(_probe("qemu-aarch64", "emulates 64-bit Arm boards and counts instructions", _qemu))
    findings.append(_probe("arm64 root", "the emulated device's system files and runtimes", _root))
    findings.append(_probe("arm-none-eabi-gcc", "a second compiler for microcontrollers", _gcc))
    findings.append(_probe("qemu-system-arm", "a second emulator of Cortex-M cores", _qemu_system))
    return tuple(findings)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _probe(name: str, what_for: str, find: Callable[[], str]) -> Finding:
    try:
        return Finding(name, find(), False, what_for, "")
    except MissingProgram as error:
        return Finding(
            name, "", False, what_for, error.hint or f"{sys.executable} -m leanedge.targets._programs.get_programs"
        )


def _qemu() -> str:
    from leanedge.targets._linux.qemu import QEMU

    qemu = QEMU.find()
    counts = f"; {qemu.no_plugins}" if qemu.no_plugins else ""
    return f"{'.'.join(map(str, qemu.version))} at {qemu.path}{counts}"


def _root() -> str:
    from leanedge.targets._linux.arm64_root import arm64_root, has_root

    if not has_root():
        raise MissingProgram("there is no arm64 root file system yet", hint=_GET)
    return str(arm64_root().folder)


def _gcc() -> str:
    from leanedge.targets.cortex_m.gcc import find_gcc

    gcc = find_gcc()
    return f"{gcc.version} at {gcc.path}"


def _qemu_system() -> str:
    from leanedge.targets.cortex_m.qemu import QEMU

    qemu = QEMU.find()
    return f"{'.'.join(map(str, qemu.version))} at {qemu.path}"

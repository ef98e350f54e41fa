"""This machine as a device profile, read from the kernel."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Literal

from leanedge.errors import ProfileError
from leanedge.profile import Cache, Cpu, DeviceProfile, Gain, Region, RuntimeEntry

__all__ = ["detect_host", "missing_features"]

_ISA: dict[str, Literal["aarch64", "x86_64"]] = {
    "x86_64": "x86_64",
    "AMD64": "x86_64",
    "aarch64": "aarch64",
    "arm64": "aarch64",
}
_RUNTIMES = (
    ("linux_onnxruntime", "onnxruntime", "onnxruntime", ("x86_64", "aarch64")),
    ("linux_tflite", "ai_edge_litert", "ai-edge-litert", ("x86_64", "aarch64")),
    ("linux_openvino", "openvino", "openvino", ("x86_64",)),
)
"""Target kind, runtime, distribution, and the instruction sets it is offered for."""

_CACHE_KIND: dict[str, Literal["data", "instruction", "unified"]] = {
    "Data": "data",
    "Instruction": "instruction",
    "Unified": "unified",
}

_DOT_PRODUCT = {"avx512_vnni", "avx_vnni", "asimddp"}
"""Kernel flags for instructions that multiply and add four 8-bit pairs at once."""


def detect_host(root: Path = Path("/")) -> DeviceProfile:
    """The machine that this runs on: cores it may use, memory, caches, flags, runtimes and their sizes.

    Args:
        root: Where ``proc`` and ``sys`` are, for tests.

    Raises:
        ProfileError: Not a Linux machine with an instruction set that the runtimes are built for.
    """
    machine = platform.machine()
    if machine not in _ISA or not (root / "proc/cpuinfo").is_file():
        raise ProfileError(
            f"this machine ({platform.system()} on {machine}) can't be the target 'host'",
            allowed="Linux on x86_64 or aarch64",
            hint="name a device: leanedge targets",
        )
    isa = _ISA[machine]
    fields = _cpuinfo((root / "proc/cpuinfo").read_text(encoding="utf-8"))
    features = tuple(sorted(fields.get("flags", fields.get("Features", "")).split()))
    return DeviceProfile(
        schema=1,
        name="host",
        title=f"this machine: {fields.get('model name', isa)}",
        cpu=Cpu(
            core=None,
            isa=isa,
            cores=len(os.sched_getaffinity(0)),
            clock_hz=_clock_hz(root),
            features=features,
            source="/proc/cpuinfo, sched_getaffinity and /sys/devices/system/cpu of this machine",
        ),
        memory=(
            Region(name="ram", kind="ram", bytes=_ram_bytes(root), source="MemTotal of /proc/meminfo, cgroup limit"),
        ),
        caches=_caches(root),
        runtimes=tuple(
            _runtime(target, runtime, package, features) for target, runtime, package, isas in _RUNTIMES if isa in isas
        ),
        emulator=None,
        power=None,
        latency=(),
    )


def missing_features(profile: DeviceProfile, host: DeviceProfile) -> tuple[str, ...]:
    """CPU flags that the device has and `host` lacks: with none missing, `host` can execute its kernels."""
    if profile.cpu.isa != host.cpu.isa:
        return (profile.cpu.isa,)
    return tuple(flag for flag in profile.cpu.features if flag not in host.cpu.features)


def _cpuinfo(text: str) -> dict[str, str]:
    """The first processor's fields."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon and key.strip() not in fields:
            fields[key.strip()] = value.strip()
    return fields


def _clock_hz(root: Path) -> int | None:
    path = root / "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"
    return int(path.read_text()) * 1000 if path.is_file() else None


def _ram_bytes(root: Path) -> int:
    total = next(
        int(line.split()[1]) * 1024
        for line in (root / "proc/meminfo").read_text().splitlines()
        if line.startswith("MemTotal:")
    )
    limit = root / "sys/fs/cgroup/memory.max"
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(total, int(text)) if text != "max" else total


def _caches(root: Path) -> tuple[Cache, ...]:
    """cpu0's caches; none where the kernel shows none, as in many virtual machines."""
    caches = []
    for folder in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind = _CACHE_KIND.get((folder / "type").read_text().strip())
        if kind is None:
            continue
        caches.append(
            Cache(
                level=int((folder / "level").read_text()),
                kind=kind,
                bytes=_size((folder / "size").read_text().strip()),
                line_bytes=int((folder / "coherency_line_size").read_text()),
                shared_by=_listed((folder / "shared_cpu_list").read_text().strip()),
                source=f"/{folder.relative_to(root)} of this machine",
            )
        )
    return tuple(caches)


def _size(text: str) -> int:
    """Bytes of sysfs's ``32K`` or ``2M``."""
    factor = {"K": 1024, "M": 1024**2, "G": 1024**3}.get(text[-1])
    return int(text[:-1]) * factor if factor else int(text)


def _listed(text: str) -> int:
    """How many processors a list such as ``0-3,8`` names."""
    count = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        count += int(last or first) - int(first) + 1
    return count


def _runtime(target: str, runtime: str, package: str, features: tuple[str, ...]) -> RuntimeEntry:
    """The runtime with its installed size, null where it isn't installed (the target's `needs` then refuse it)."""
    try:
        files = importlib.metadata.distribution(package).files or []
        size = sum(path.size or 0 for path in files) or None
        source = f"RECORD of {package} {importlib.metadata.version(package)} on this machine"
    except importlib.metadata.PackageNotFoundError:
        size, source = None, f"{package} is not installed on this machine"
    dot = sorted(_DOT_PRODUCT.intersection(features))
    why = f"8-bit dot products ({dot[0]})" if dot else "8-bit multiplications, four times the values in a register"
    gains = (
        Gain(scheme="w8a8", pattern="dense", why=why),
        Gain(scheme="w8a8_dynamic", pattern="dense", why=f"{why} in linear layers"),
        Gain(scheme="fp32", pattern="channel", why="fewer channels in dense kernels"),
        Gain(scheme="w8a8", pattern="channel", why="fewer channels in dense kernels"),
    )
    return RuntimeEntry(target=target, runtime=runtime, installed_bytes=size, source=source, gains=gains)

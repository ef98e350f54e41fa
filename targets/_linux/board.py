"""What an emulated board shows of its CPU: the fields of a device profile's `emulator`, as /proc and /sys files.

Runtimes read these files to choose kernels (and crash without them), so they belong to the device, not to the emulator.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from leanedge.errors import ProfileError

from .._programs.made_once import key_of, make_once

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Emulator", "board_view"]


@dataclass(frozen=True)
class Emulator:
    """A board's CPU for user-mode emulation. All cores are alike.

    Attributes:
        cpu: QEMU's name of the core (``cortex-a72``). Named cores only: ``max`` computes wrong int8 in LiteRT.
        cores: How many.
        implementer, architecture, variant, part, revision: As /proc/cpuinfo has them (``0x41``, ``8``, ``0x0``,
            ``0xd08``, ``3``).
        features: The words of /proc/cpuinfo's Features line.
        l1d_bytes, l1i_bytes: Each core's own.
        l2_bytes: Shared by all cores, unless there is a third level: then each core's own.
        l3_bytes: Shared by all cores, or None.
        max_hz: The highest clock.
        hardware, model: /proc/cpuinfo's last lines; empty for none.
    """

    cpu: str
    cores: int
    implementer: str
    architecture: str
    variant: str
    part: str
    revision: str
    features: tuple[str, ...]
    l1d_bytes: int
    l1i_bytes: int
    l2_bytes: int
    l3_bytes: int | None
    max_hz: int
    hardware: str = ""
    model: str = ""

    def __post_init__(self) -> None:
        if self.cpu in {"max", "any", ""}:
            raise ProfileError(
                f"the emulated core can't be {self.cpu!r}",
                where="emulator.cpu",
                allowed="a named core, such as those that `qemu-aarch64 -cpu help` lists",
                hint="name the board's own core; a made-up one takes kernels that no board takes",
            )
        if self.cores < 1:
            raise ProfileError(f"{self.cores} cores", where="emulator.cores", allowed="1 or more")


def board_view(emulator: Emulator, root: Path) -> Path:
    """A folder for ``qemu-aarch64 -L``: the root's programs and libraries with this board's /proc and /sys.

    User-mode QEMU opens an absolute path below the -L folder if it exists there, else the machine's own. So entries
    of `root` are symbolic links, and only what the board must show is a file.

    Args:
        emulator: The board.
        root: An arm64 root file system; it is not changed.
    """
    real = root.resolve()

    def make(folder: Path) -> None:
        for name in ("bin", "etc", "lib", "lib64", "sbin", "usr"):
            if (real / name).exists():
                (folder / name).symlink_to(real / name)
        if not (folder / "lib").exists():  # a root unpacked from packages of a merged-/usr release
            (folder / "lib").symlink_to(real / "usr/lib")
        for path, text in cpu_files(emulator).items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

    return make_once(f"arm64-boards/{emulator.cpu}-{key_of(asdict(emulator), str(real), 1)}", make)


def cpu_files(emulator: Emulator) -> dict[str, str]:
    """The board's /proc/cpuinfo and /sys/devices/system/cpu as {path without the leading slash: text}."""
    last = emulator.cores - 1
    every = f"0-{last}" if last else "0"
    files = {"proc/cpuinfo": _cpuinfo(emulator)}
    system = "sys/devices/system/cpu"
    files |= {f"{system}/{name}": every for name in ("possible", "present", "online")}
    files[f"{system}/kernel_max"] = str(last)
    mask = f"{(1 << emulator.cores) - 1:x}"
    for core in range(emulator.cores):
        folder = f"{system}/cpu{core}"
        files |= {
            f"{folder}/topology/core_id": str(core),
            f"{folder}/topology/physical_package_id": "0",
            f"{folder}/topology/cluster_id": "0",
            f"{folder}/topology/thread_siblings_list": str(core),
            f"{folder}/topology/core_cpus_list": str(core),
            f"{folder}/cpufreq/cpuinfo_max_freq": str(emulator.max_hz // 1000),
            f"{folder}/cpufreq/scaling_cur_freq": str(emulator.max_hz // 1000),
        }
        for group in ("core_siblings", "cluster_cpus", "package_cpus"):
            files[f"{folder}/topology/{group}"] = mask
            files[f"{folder}/topology/{group}_list"] = every
        own = str(core)
        caches = [
            ("1", "Data", emulator.l1d_bytes, own),
            ("1", "Instruction", emulator.l1i_bytes, own),
            ("2", "Unified", emulator.l2_bytes, own if emulator.l3_bytes else every),
        ]
        if emulator.l3_bytes:
            caches.append(("3", "Unified", emulator.l3_bytes, every))
        for index, (level, kind, size_bytes, shared) in enumerate(caches):
            cache = f"{folder}/cache/index{index}"
            files |= {
                f"{cache}/level": level,
                f"{cache}/type": kind,
                f"{cache}/size": f"{size_bytes // 1024}K",
                f"{cache}/shared_cpu_list": shared,
                f"{cache}/coherency_line_size": "64",
            }
    return {path: text if text.endswith("\n") else f"{text}\n" for path, text in files.items()}


def _cpuinfo(emulator: Emulator) -> str:
    blocks = [
        "\n".join(
            (
                f"processor\t: {core}",
                f"Features\t: {' '.join(emulator.features)}",
                f"CPU implementer\t: {emulator.implementer}",
                f"CPU architecture: {emulator.architecture}",
                f"CPU variant\t: {emulator.variant}",
                f"CPU part\t: {emulator.part}",
                f"CPU revision\t: {emulator.revision}",
                "",
            )
        )
        for core in range(emulator.cores)
    ]
    tail = [f"{name}\t: {text}" for name, text in (("Hardware", emulator.hardware), ("Model", emulator.model)) if text]
    return "\n".join([*blocks, *tail]) + "\n"

"""Finds GCC for Cortex-M (arm-none-eabi-gcc) or gets it without root rights."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from leanedge.errors import MissingProgram

from .._programs.host_packages import get_host_packages, unpacked_packages
from .._programs.qemu import GET_COMMAND
from .cores import CORES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._programs.host_packages import Unpacked

__all__ = ["Gcc", "find_gcc", "get_gcc"]

_PROGRAM = "arm-none-eabi-gcc"
_PACKAGE = "gcc-arm-none-eabi"
_INSTEAD = f"as root `apt-get install {_PACKAGE}`; or use the compiler zig (`pip install ziglang`)"


@dataclass(frozen=True)
class Gcc:
    """An arm-none-eabi-gcc that starts.

    Attributes:
        path: The program.
        environment: What it needs to start.
        version: As it says itself.
    """

    path: Path
    environment: Mapping[str, str]
    version: str


def find_gcc() -> Gcc:
    """The one on PATH, else the one in the cache.

    Raises:
        MissingProgram: There is none; the message says how to get one.
    """
    on_path = shutil.which(_PROGRAM)
    gcc = _probe(Path(on_path), None) if on_path else None
    cached = unpacked_packages(_PACKAGE)
    if gcc is None and cached is not None:
        gcc = _probe(cached.program(_PROGRAM), cached.libraries)
    if gcc is None:
        hint = f"run `{GET_COMMAND} {_PROGRAM}`, or {_INSTEAD}"
        raise MissingProgram(f"{_PROGRAM} is not on PATH nor in the cache", where=_PROGRAM, hint=hint)
    return gcc


def get_gcc() -> Gcc:
    """`find_gcc`, after putting it into the cache where none is at hand.

    Raises:
        MissingProgram: It can't be had.
    """
    try:
        return find_gcc()
    except MissingProgram:
        get_host_packages(_PACKAGE, [_PACKAGE], _keep_needed, hint=_INSTEAD)
        return find_gcc()


def _probe(path: Path, libraries: Path | None) -> Gcc | None:
    environment = {**os.environ, **({"LD_LIBRARY_PATH": str(libraries)} if libraries else {})}
    try:
        said = subprocess.run([path, "-dumpfullversion"], env=environment, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return Gcc(path, environment, said.stdout.strip()) if said.returncode == 0 else None


def _keep_needed(unpacked: Unpacked) -> None:
    """Of half a gigabyte, keeps what compiles C for the cores that there are: libgcc comes for forty."""
    gcc = _probe(unpacked.program(_PROGRAM), unpacked.libraries)
    if gcc is None:
        raise MissingProgram(f"the unpacked {_PROGRAM} does not start here", where=_PACKAGE, hint=_INSTEAD)
    (own,) = unpacked.folder.glob("usr/lib/gcc/arm-none-eabi/*")
    wanted = set()
    for core in CORES.values():
        command = [str(gcc.path), *core.gcc_flags, "-print-multi-directory"]
        said = subprocess.run(command, env=gcc.environment, capture_output=True, text=True, check=True).stdout
        wanted.add(own / said.strip())
    for library in own.rglob("libgcc.a"):
        if library.parent not in wanted:
            library.unlink()
    for name in ("cc1plus", "lto1", "lto-wrapper", "plugin", "arm"):
        part = own / name
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)
    for coverage in own.rglob("libgcov.a"):
        coverage.unlink()

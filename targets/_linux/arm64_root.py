"""An arm64 root file system with Python, and a folder of wheels for each runtime: made without root rights, cached."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from leanedge.errors import MissingProgram, UsageError, nearest

from .cache import cache_folder, key_of, make_once
from .private_apt import SOURCES_VARIABLE, own_sources, unpack_packages

__all__ = ["ROOT_VARIABLE", "RUNTIMES", "Root", "arm64_root", "has_root", "has_wheels", "wheel_folder"]

ROOT_VARIABLE = "LEANEDGE_ARM64_ROOT"
PACKAGES = ("python3", "libstdc++6", "libgomp1")
RUNTIMES = {
    "onnxruntime": ("onnxruntime",),
    "ai_edge_litert": ("ai-edge-litert",),
    "tflite_runtime": ("tflite-runtime", "numpy<2"),
}
"""What pip installs for each runtime; the first name is the distribution whose version follows the host's."""

_HINT = (
    f"set {ROOT_VARIABLE} to an arm64 root file system with Python 3 and libstdc++6 (for example an unpacked board "
    f"image), or {SOURCES_VARIABLE} to a file with apt sources that offer arm64"
)


@dataclass(frozen=True)
class Root:
    """An arm64 root file system.

    Attributes:
        folder: Its top.
        python: Its interpreter, as a path of this machine.
        python_version: (major, minor).
        glibc: (major, minor) of its C library.
    """

    folder: Path
    python: Path
    python_version: tuple[int, int]
    glibc: tuple[int, int]


def arm64_root() -> Root:
    """The root file system that LEANEDGE_ARM64_ROOT names, else the cached one, made on first use (about 5 s).

    Raises:
        MissingProgram: There is none and it can't be made, or it lacks Python or the C library.
    """
    own = os.environ.get(ROOT_VARIABLE)
    if own:
        if not Path(own).is_dir():
            raise MissingProgram(
                "no such folder", where=f"{ROOT_VARIABLE}={own}", hint=f"name one, or unset {ROOT_VARIABLE}"
            )
        return _inspect(Path(own))
    return _inspect(make_once(_root_name(), _make_root))


def has_root() -> bool:
    """Whether `arm64_root` has nothing to make."""
    return bool(os.environ.get(ROOT_VARIABLE)) or (cache_folder() / _root_name()).is_dir()


def wheel_folder(root: Root, runtime: str) -> Path:
    """The folder with the runtime's arm64 wheels and numpy, to be put on PYTHONPATH; made on first use (about 3 s).

    The runtime's version equals the one installed here, so that both sides run the same kernels; where none is
    installed here it is the newest that has a wheel.

    Raises:
        MissingProgram: There is no such wheel for the root's Python, or no network.
        UsageError: Unknown runtime.
    """
    return make_once(_wheels_name(root, runtime), lambda folder: _install(folder, root, runtime))


def has_wheels(root: Root, runtime: str) -> bool:
    """Whether `wheel_folder` has nothing to make."""
    return (cache_folder() / _wheels_name(root, runtime)).is_dir()


def _root_name() -> str:
    return f"arm64-root-{key_of(PACKAGES, own_sources('arm64'), 1)}"


def _make_root(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="leanedge-apt-") as work:
        unpack_packages(PACKAGES, folder, Path(work), architecture="arm64", assume_installed=False, hint=_HINT)
    _inspect(folder)  # an unusable root is never kept


def _inspect(folder: Path) -> Root:
    where = str(folder)
    found = [
        (tuple(int(number) for number in match.groups()), path)
        for path in folder.glob("usr/bin/python3.*")
        if (match := re.fullmatch(r"python(3)\.(\d+)", path.name))
    ]
    if not found:
        raise MissingProgram("the arm64 root has no usr/bin/python3.N", where=where, hint=_HINT)
    version, python = max(found)
    places = [folder / place / "libc.so.6" for place in ("lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu", "lib64")]
    libc = next((place for place in places if place.is_file()), None)
    if libc is None:
        raise MissingProgram("the arm64 root has no libc.so.6 for aarch64-linux-gnu", where=where, hint=_HINT)
    release = re.search(rb"release version (\d+)\.(\d+)", libc.read_bytes())
    if release is None:
        raise MissingProgram("the arm64 root's C library is not glibc", where=str(libc), hint=_HINT)
    return Root(folder, python, (version[0], version[1]), (int(release[1]), int(release[2])))


def _requirements(runtime: str) -> tuple[str, ...]:
    if runtime not in RUNTIMES:
        raise UsageError(
            f"the runtime {runtime!r} does not run on arm64 here",
            allowed=", ".join(RUNTIMES),
            hint=nearest(runtime, RUNTIMES),
        )
    name, *others = RUNTIMES[runtime]
    try:
        version = importlib.metadata.version(name).split("+")[0]  # a local build's wheel is not on an index
    except importlib.metadata.PackageNotFoundError:
        return (name, *others)
    return (f"{name}=={version}", *others)


def _wheels_name(root: Root, runtime: str) -> str:
    requirements = _requirements(runtime)
    python = "".join(str(number) for number in root.python_version)
    version = requirements[0].partition("==")[2] or "newest"
    return f"arm64-wheels/{runtime}-{version}-cp{python}-{key_of(requirements, root.glibc, 1)}"


def _install(folder: Path, root: Root, runtime: str) -> None:
    requirements = _requirements(runtime)
    python = ".".join(str(number) for number in root.python_version)
    # pip takes only the platform tags that it is given, not the older ones that a newer C library also runs.
    platforms = [f"manylinux_{root.glibc[0]}_{minor}_aarch64" for minor in range(17, root.glibc[1] + 1)]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--target", str(folder), "--only-binary=:all:", "--python-version", python]
    for platform in (*platforms, "manylinux2014_aarch64"):
        command += ["--platform", platform]
    done = subprocess.run([*command, *requirements], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        _explain(done.stderr, requirements, python)


def _explain(stderr: str, requirements: tuple[str, ...], python: str) -> None:
    wanted = " ".join(requirements)
    if "No module named pip" in stderr:
        raise MissingProgram("this Python has no pip", where=sys.executable, hint="run `python -m ensurepip`")
    errors = [line for line in stderr.splitlines() if line.startswith("ERROR:")]
    if "No matching distribution found" in stderr and "onnection" not in stderr:
        raise MissingProgram(
            f"no aarch64 wheel of {wanted} for Python {python}: {errors[0] if errors else ''}",
            where="pip",
            hint="install a version here that has one (emulation runs the version that is installed here), "
            f"or set {ROOT_VARIABLE} to a root with another Python",
        )
    raise MissingProgram(
        f"pip can't install {wanted} for aarch64: {'; '.join(errors[-2:]) or stderr.strip()[-300:]}",
        where="pip",
        hint="check the network and pip's configuration, then try again",
    )

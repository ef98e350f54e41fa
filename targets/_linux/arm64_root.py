"""An arm64 root file system with Python: made without root rights, cached."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from leanedge.errors import MissingProgram
from leanedge.resources import cache_root

from .._programs.made_once import key_of, make_once
from .._programs.private_apt import SOURCES_VARIABLE, own_sources, unpack_packages

__all__ = ["ROOT_VARIABLE", "Root", "arm64_root", "has_root"]

ROOT_VARIABLE = "LEANEDGE_ARM64_ROOT"
PACKAGES = ("python3", "libstdc++6", "libgomp1")
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
    return bool(os.environ.get(ROOT_VARIABLE)) or (cache_root() / _root_name()).is_dir()


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

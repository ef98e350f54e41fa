"""Programs for this machine out of its own apt sources, unpacked into the cache."""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from leanedge.errors import MissingProgram
from leanedge.resources import cache_root

from .made_once import key_of, make_once
from .private_apt import own_sources, unpack_packages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Unpacked", "get_host_packages", "unpacked_packages"]

# Raise it when the same packages are unpacked in another way.
_WAY = 3


class Unpacked:
    """A folder of unpacked packages."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def program(self, name: str) -> Path:
        """Where the program of that name is."""
        return self.folder / "usr/bin" / name

    @property
    def libraries(self) -> Path | None:
        """Folder of the libraries that came with it, beside the system's."""
        return next((self.folder / "usr/lib").glob("*-linux-gnu*"), None)


def unpacked_packages(name: str) -> Unpacked | None:
    """What `get_host_packages` made under that name, or None."""
    folder = cache_root() / _folder_name(name)
    return Unpacked(folder) if folder.is_dir() else None


def get_host_packages(name: str, packages: Sequence[str], finish: Callable[[Unpacked], None], *, hint: str) -> Unpacked:
    """Downloads packages and the libraries that this system lacks, and unpacks them, once.

    Args:
        name: Of the folder in the cache.
        packages: Package names.
        finish: Drops what is not needed and checks that the rest starts; raises MissingProgram when it does not.
        hint: What a user can do instead when it fails.

    Raises:
        MissingProgram: They can't be had.
    """

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="leanedge-apt-") as work:
            architecture = _architecture(hint)
            unpack_packages(packages, folder, Path(work), architecture=architecture, assume_installed=True, hint=hint)
        for library in (folder / "lib").glob("*-linux-gnu*/*"):  # one folder is enough for the loader
            place = folder / "usr" / library.parent.relative_to(folder)
            place.mkdir(parents=True, exist_ok=True)
            library.rename(place / library.name)
        finish(Unpacked(folder))

    return Unpacked(make_once(_folder_name(name), make))


def _folder_name(name: str) -> str:
    return f"{name}-{key_of(own_sources('native'), platform.machine(), _WAY)}"


def _architecture(hint: str) -> str:
    dpkg = shutil.which("dpkg")
    if dpkg is None:
        raise MissingProgram("dpkg is not on PATH (this machine is not a Debian or Ubuntu)", where="dpkg", hint=hint)
    return subprocess.run([dpkg, "--print-architecture"], capture_output=True, text=True, check=True).stdout.strip()

"""Small C libraries for this machine (emulator hooks and plug-ins), compiled on first use."""

from __future__ import annotations

import importlib.util
import platform
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

from leanedge.errors import MissingProgram

from .made_once import key_of, make_once

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["compiler_command", "shared_library"]


def shared_library(source: Path, name: str, definitions: Sequence[str] = ()) -> Path:
    """Compiles one C file into a shared library in the cache; undefined names are the loading program's.

    Args:
        source: The C file.
        name: Start of its folder's name in the cache, and what messages call it.
        definitions: ``NAME=VALUE`` for the preprocessor.

    Raises:
        MissingProgram: There is no working C compiler.
    """

    def make(folder: Path) -> None:
        command = [*compiler_command(), "-std=c99", "-O2", "-fPIC", "-shared", "-fvisibility=hidden"]
        command += [f"-D{definition}" for definition in definitions]
        done = subprocess.run(
            [*command, "-o", str(folder / "library.so"), str(source)], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise MissingProgram(
                f"the {name} can't be compiled: {done.stderr.strip()[:300]}",
                where=" ".join(compiler_command()),
                hint="install a working C compiler: `pip install ziglang`, or as root `apt-get install gcc`",
            )

    key = key_of(source.name, source.read_text(encoding="utf-8"), *definitions, platform.machine())
    return make_once(f"{name}-{key}", make) / "library.so"


def compiler_command() -> list[str]:
    """The command of this machine's C compiler.

    Raises:
        MissingProgram: There is none.
    """
    for name in ("cc", "gcc", "clang"):
        path = shutil.which(name)
        if path:
            return [path]
    if importlib.util.find_spec("ziglang") is not None:
        return [sys.executable, "-m", "ziglang", "cc", "-Wl,-z,undefs"]
    raise MissingProgram(
        "this machine has no C compiler", where="cc, gcc, clang, ziglang", hint="run `pip install ziglang`"
    )

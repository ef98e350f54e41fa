"""Compilers for Cortex-M cores: what each needs to be told, and how C files become an ELF."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from leanedge import resources
from leanedge.errors import LeanEdgeError, MissingProgram

from .gcc import find_gcc

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .cores import Core

__all__ = ["CompileError", "Compiler", "compile_c", "link", "version"]

Compiler = Literal["zig", "gcc"]


class CompileError(LeanEdgeError):
    """The C compiler or the linker refused; the message holds what it said first."""

    exit_code = 4


_FLAGS = (
    "-std=c99",
    "-O3",
    "-Wall",
    "-Wextra",
    "-Wdouble-promotion",
    "-Werror",
    # Assembly in kernels uses r7 and r11.
    "-fomit-frame-pointer",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-stack-protector",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
    "-fno-common",
)


def compile_c(sources: Sequence[Path], include: Sequence[Path], core: Core, compiler: Compiler, objects: Path) -> None:
    """Compiles C files for a core into one relocatable file.

    Args:
        sources: C files; memcpy and its like are added.
        include: Folders for ``#include``, beside ``targets/_c/kernels``.
        core: What to compile for.
        compiler: ``zig`` (pip install ziglang) or ``gcc`` (arm-none-eabi-gcc).
        objects: The file to write.

    Raises:
        CompileError: The compiler refused.
        MissingProgram: It is not there.
    """
    every = [*sources, Path(__file__).with_name("memory.c")]
    folders = [*include, resources.folder("targets") / "_c" / "kernels"]
    _run(core, compiler, [*_FLAGS, *(f"-I{path}" for path in folders), "-r", "-o", str(objects), *map(str, every)])


def link(objects: Path, script: Path, core: Core, compiler: Compiler, elf: Path) -> None:
    """Links objects by a link script, with the compiler's own library (divisions, products of 64 bits).

    Args:
        objects: What `compile_c` wrote.
        script: The link script; its ENTRY and KEEPs, and what they use, are what is kept.
        core: What they were compiled for.
        compiler: What compiled them.
        elf: The file to write.

    Raises:
        CompileError: The linker refused.
        MissingProgram: It is not there.
    """
    # -O3 chooses how zig builds its library.
    flags = ["-O3", "-Wl,--gc-sections", f"-Wl,-T,{script}", "-o", str(elf), str(objects)]
    _run(core, compiler, [*flags, *(["-lgcc"] if compiler == "gcc" else [])])


def version(compiler: Compiler) -> str:
    """Name and version, for reports and generated files.

    Raises:
        MissingProgram: It is not there.
    """
    if compiler == "gcc":
        return f"arm-none-eabi-gcc {find_gcc().version}"
    try:
        return f"zig cc {importlib.metadata.version('ziglang')}"
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingProgram("the Python package ziglang is absent", hint="pip install 'leanedge[mcu]'") from error


def _run(core: Core, compiler: Compiler, arguments: Sequence[str]) -> None:
    start, environment = _command(core, compiler)
    done = subprocess.run([*start, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CompileError(f"{compiler} refused: {_first_errors(done.stderr)}")


def _command(core: Core, compiler: Compiler) -> tuple[list[str], Mapping[str, str]]:
    """The compiler with what makes it compile for the core, and its environment."""
    headers = ["-isystem", str(Path(__file__).with_name("freestanding"))]
    if compiler == "gcc":
        gcc = find_gcc()
        return [str(gcc.path), *core.gcc_flags, "-nostartfiles", "-nodefaultlibs", *headers], gcc.environment
    if importlib.util.find_spec("ziglang") is None:
        raise MissingProgram("the Python package ziglang is absent", hint="pip install 'leanedge[mcu]'")
    target = f"thumb-freestanding-{'eabihf' if core.fpu else 'eabi'}"
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", target, f"-mcpu={core.zig_cpu}"]
    # Freestanding clang keeps a memcpy of 4 bytes as a call; hosted, it makes it the load that it is.
    return [*zig, "-fhosted", *headers], os.environ


def _first_errors(text: str) -> str:
    lines = [line for line in text.splitlines() if "error" in line or "undefined" in line] or text.splitlines()
    return "\n".join(lines[:6]) or "it said nothing"

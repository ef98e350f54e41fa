"""Compilers for Cortex-M cores: what each needs to be told, and how C files become an ELF."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from leanedge import resources
from leanedge.errors import InputError, LeanEdgeError, MissingProgram, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["CORES", "CompileError", "Compiler", "Core", "compile_and_link", "core_named"]

Compiler = Literal["zig", "gcc"]


class CompileError(LeanEdgeError):
    """The C compiler or the linker refused; the message holds what it said first."""

    exit_code = 4


@dataclass(frozen=True)
class Core:
    """A core as compilers and emulators call it.

    Attributes:
        name: Arm's name, as in device profiles.
        fpu: Whether floats are passed in FP registers; without it there is no FPU.
        dsp: Whether it has the 16-bit SIMD instructions (SMLAD, SXTB16, ...).
        zig_cpu: ``-mcpu`` of ``zig cc``.
        gcc_flags: ``-mcpu`` and what goes with it for GCC.
        unicorn_model: Constant of ``unicorn.arm_const``.
    """

    name: str
    fpu: bool
    dsp: bool
    zig_cpu: str
    gcc_flags: tuple[str, ...]
    unicorn_model: str


CORES: Mapping[str, Core] = {
    core.name: core
    for core in (
        Core("cortex-m0plus", False, False, "cortex_m0plus", ("-mcpu=cortex-m0plus",), "UC_CPU_ARM_CORTEX_M0"),
        Core(
            "cortex-m4",
            True,
            True,
            "cortex_m4+vfp4d16sp",
            ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16"),
            "UC_CPU_ARM_CORTEX_M4",
        ),
        # Single precision only: emulators have no double, and integer kernels need none.
        Core(
            "cortex-m7",
            True,
            True,
            "cortex_m7+fp_armv8d16sp",
            ("-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16"),
            "UC_CPU_ARM_CORTEX_M7",
        ),
        Core(
            "cortex-m33",
            True,
            True,
            "cortex_m33+fp_armv8d16sp+dsp",
            ("-mcpu=cortex-m33", "-mfpu=fpv5-sp-d16"),
            "UC_CPU_ARM_CORTEX_M33",
        ),
    )
}
"""Cores that images are built for."""

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


def core_named(name: str) -> Core:
    """The core of that name.

    Raises:
        InputError: There is no such core here.
    """
    if name not in CORES:
        raise InputError(f"no Cortex-M core {name!r}", allowed=", ".join(CORES), hint=nearest(name, CORES))
    return CORES[name]


def compile_and_link(sources: Sequence[Path], script: Path, core: Core, compiler: Compiler, elf: Path) -> None:
    """Compiles C files for a core and links them by a link script.

    Args:
        sources: C files; they may include files of ``targets/_c/kernels``.
        script: The link script; its ENTRY and KEEPs are what is not thrown away.
        core: What to compile for.
        compiler: ``zig`` (pip install ziglang) or ``gcc`` (arm-none-eabi-gcc).
        elf: The file to write.

    Raises:
        CompileError: The compiler or linker refused.
        MissingProgram: It is not there.
    """
    command = [
        *_command(core, compiler),
        *_FLAGS,
        f"-I{resources.folder('targets') / '_c' / 'kernels'}",
        "-Wl,--gc-sections",
        f"-Wl,-T,{script}",
        "-o",
        str(elf),
        *(str(source) for source in sources),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CompileError(f"{compiler} refused: {_first_errors(done.stderr)}", where=str(sources[0]))


def _command(core: Core, compiler: Compiler) -> list[str]:
    if compiler == "zig":
        if importlib.util.find_spec("ziglang") is None:
            raise MissingProgram("the Python package ziglang is absent", hint="pip install 'leanedge[mcu]'")
        target = f"thumb-freestanding-{'eabihf' if core.fpu else 'eabi'}"
        # Freestanding clang treats memcpy of 4 bytes as a call; hosted, as the load it is. The header is ours then.
        headers = Path(__file__).with_name("freestanding")
        return [
            *(sys.executable, "-m", "ziglang", "cc", "-target", target, f"-mcpu={core.zig_cpu}"),
            *("-fhosted", "-isystem", str(headers)),
        ]
    gcc = shutil.which("arm-none-eabi-gcc")
    if gcc is None:
        raise MissingProgram("arm-none-eabi-gcc is not on PATH", hint="use the compiler 'zig', or install it")
    headers = Path(__file__).with_name("freestanding")
    return [gcc, "-mthumb", f"-mfloat-abi={'hard' if core.fpu else 'soft'}", *core.gcc_flags, "-isystem", str(headers)]


def _first_errors(text: str) -> str:
    lines = [line for line in text.splitlines() if "error" in line or "undefined" in line] or text.splitlines()
    return "\n".join(lines[:6]) or "it said nothing"

"""The Cortex-M cores that images are built for, as compilers and emulators call them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from leanedge.errors import InputError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CORES", "Core", "core_named"]


@dataclass(frozen=True)
class Core:
    """A core as compilers and emulators call it.

    Attributes:
        name: Arm's name, as in device profiles.
        fpu: Whether floats are passed in FP registers; without it there is no FPU.
        dsp: Whether it has the 16-bit SIMD instructions (SMLAD, SXTB16, ...).
        zig_cpu: ``-mcpu`` of ``zig cc``.
        gcc_flags: What chooses the core for GCC.
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
        Core(
            name="cortex-m0plus",
            fpu=False,
            dsp=False,
            zig_cpu="cortex_m0plus",
            gcc_flags=("-mthumb", "-mcpu=cortex-m0plus", "-mfloat-abi=soft"),
            unicorn_model="UC_CPU_ARM_CORTEX_M0",
        ),
        Core(
            name="cortex-m4",
            fpu=True,
            dsp=True,
            zig_cpu="cortex_m4+vfp4d16sp",
            gcc_flags=("-mthumb", "-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
            unicorn_model="UC_CPU_ARM_CORTEX_M4",
        ),
        # Single precision only: emulators have no double, and integer kernels need none.
        Core(
            name="cortex-m7",
            fpu=True,
            dsp=True,
            zig_cpu="cortex_m7+fp_armv8d16sp",
            gcc_flags=("-mthumb", "-mcpu=cortex-m7", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"),
            unicorn_model="UC_CPU_ARM_CORTEX_M7",
        ),
        Core(
            name="cortex-m33",
            fpu=True,
            dsp=True,
            zig_cpu="cortex_m33+fp_armv8d16sp+dsp",
            gcc_flags=("-mthumb", "-mcpu=cortex-m33", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"),
            unicorn_model="UC_CPU_ARM_CORTEX_M33",
        ),
    )
}
"""Cores that images are built for."""


def core_named(name: str) -> Core:
    """The core of that name.

    Raises:
        InputError: There is no such core here.
    """
    if name not in CORES:
        raise InputError(f"no Cortex-M core {name!r}", allowed=", ".join(CORES), hint=nearest(name, CORES))
    return CORES[name]

"""From an integer Program to a proved firmware image: kernels chosen, C emitted, linked, run under emulation."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from leanedge.export.c_source.choose import choose_kernels, ram_at
from leanedge.export.c_source.emit import emit
from leanedge.export.c_source.layers import make_layers
from leanedge.target import Shortage

from .flash import flash_model
from .image import ImageTooLarge, build_image, memory_map
from .model_sources import write_model_sources
from .options import try_kernels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.export.c_source.choose import KernelOption
    from leanedge.export.c_source.emit import CSource
    from leanedge.export.c_source.interface import ModelNotes
    from leanedge.profile import DeviceProfile
    from leanedge.program.types import Program
    from leanedge.target import BuildOptions

    from .image import Image
    from .toolchain import Compiler

__all__ = ["Firmware", "make_firmware"]

_MARGIN = 4096
"""Flash for start-up, the main loop and what the linker adds, when kernels are chosen; the image's size is exact."""


@dataclass(frozen=True, eq=False)
class Firmware:
    """What a microcontroller gets.

    Attributes:
        program: What it computes.
        chosen: For each operator its kernel, with what it was counted to cost.
        tried: How many kernels were tried, each equal to the reference on four input sets.
        source: The C.
        image: Linked for the device; None where it does not fit.
        flash_bytes: Of the image; where it does not fit, what it would take.
        ram_bytes: The same, worst-case stack included.
        shortages: What does not fit; empty with an image.
    """

    program: Program
    chosen: tuple[KernelOption, ...]
    tried: int
    source: CSource
    image: Image | None
    flash_bytes: int
    ram_bytes: int
    shortages: tuple[Shortage, ...] = ()


def make_firmware(
    program: Program,
    name: str,
    profile: DeviceProfile,
    options: BuildOptions,
    notes: ModelNotes | None = None,
    compiler: Compiler = "zig",
) -> Firmware:
    """Chooses kernels, emits the C and links it.

    Args:
        program: With integer inputs and outputs, simplified, in the order that it will run in.
        name: The model's name, from which C names are made.
        profile: The device.
        options: What kernels are chosen for, and limits beside the device's own.
        notes: What the C says beside the Program.
        compiler: ``zig`` or ``gcc``.

    Raises:
        UnsupportedOperator: An operator has no kernel.
        ValidationFailed: A kernel differs from the reference in emulation.
        CompileError: The compiler refused.
        MissingProgram: A program or package is absent.
    """
    core, memory = str(profile.cpu.core), memory_map(profile)
    layers = make_layers(program, name, core)
    tried = try_kernels(program, layers, core, compiler, flash_model(profile))
    flash = min(memory.flash_bytes, options.flash_bytes or memory.flash_bytes)
    ram = min(memory.ram_bytes, options.ram_bytes or memory.ram_bytes)
    chosen = choose_kernels(program, tried, options.optimize, flash - _MARGIN, ram)
    chosen = chosen or choose_kernels(program, tried, "size")
    assert chosen is not None  # without limits there is always a choice
    number = sum(map(len, tried))
    kernels = {index: option.kernel for index, option in enumerate(chosen)}
    source = emit(program, kernels, name, notes)
    with tempfile.TemporaryDirectory(prefix="leanedge-firmware-") as work:
        sources = write_model_sources(source, Path(work))
        try:
            image = build_image(sources, core, memory, compiler)
        except ImageTooLarge as error:
            shortages = _shortages(program, chosen, error)
            return Firmware(program, tuple(chosen), number, source, None, error.flash_bytes, error.ram_bytes, shortages)
    return Firmware(program, tuple(chosen), number, source, image, image.flash_bytes, image.ram_bytes)


def _shortages(program: Program, chosen: Sequence[KernelOption], error: ImageTooLarge) -> tuple[Shortage, ...]:
    found = []
    if error.flash_bytes > error.memory.flash_bytes:
        largest = max(range(len(chosen)), key=lambda index: chosen[index].flash_bytes)
        over, there = error.flash_bytes - error.memory.flash_bytes, error.memory.flash_bytes
        found.append(Shortage("flash_bytes", over, there, program.operators[largest].source))
    if error.ram_bytes > error.memory.ram_bytes:
        fullest = max(range(len(chosen)), key=lambda index: ram_at(program, index, chosen[index].kernel))
        over, there = error.ram_bytes - error.memory.ram_bytes, error.memory.ram_bytes
        found.append(Shortage("ram_bytes", over, there, program.operators[fullest].source))
    return tuple(found)

"""System emulation of Cortex-M boards: the shipped objects, relinked to an emulated board's memory, run by QEMU.

A second emulator, built by others, that computes the same outputs and counts the same instructions. Its boards have
their own memory, so it says nothing about a device's: the unicorn run of `image` does.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .._programs.qemu import Qemu, QemuProgram
from .cores import core_named
from .elf import read_elf
from .emulator import Block, EmulationFault
from .image import ImageRun
from .link_script import MemoryMap, link_script
from .stack import worst_case_stack
from .timing import count
from .toolchain import compile_c, link

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .image import Buffer, ModelSources
    from .toolchain import Compiler

__all__ = ["BOARDS", "QEMU", "Board", "count_plugin", "run_in_qemu"]

QEMU = QemuProgram("qemu-system-arm", "qemu-system-arm")

_STACK_BYTES = 64 * 1024


@dataclass(frozen=True)
class Board:
    """A board that QEMU emulates: its name there, the core to put on it, its memory."""

    machine: str
    cpu: str
    memory: MemoryMap


_MPS2 = MemoryMap(0x0000_0000, 4 << 20, 0x2000_0000, 4 << 20)

BOARDS: Mapping[str, Board] = {
    # QEMU has no Cortex-M0+; Armv6-M code runs on an Armv7-M core alike.
    "cortex-m0plus": Board("mps2-an385", "cortex-m3", _MPS2),
    "cortex-m4": Board("mps2-an386", "cortex-m4", _MPS2),
    "cortex-m7": Board("mps2-an500", "cortex-m7", _MPS2),
    "cortex-m33": Board("mps2-an505", "cortex-m33", MemoryMap(0x1000_0000, 4 << 20, 0x3800_0000, 4 << 20)),
}
"""Core -> the board that stands in for it."""


def count_plugin(qemu: Qemu) -> Path:
    """The counting plug-in for this QEMU, compiled on first use.

    Raises:
        MissingProgram: This QEMU takes no plug-ins, or there is no C compiler.
    """
    return qemu.plugin(Path(__file__).with_name("count_plugin.c"), "cortex-m-count-plugin")


def run_in_qemu(
    sources: ModelSources,
    core: str,
    inputs: Sequence[Sequence[bytes]],
    compiler: Compiler = "zig",
    *,
    seconds: float = 120.0,
) -> ImageRun:
    """Builds the model for an emulated board and runs it there, one inference an input set.

    Args:
        sources: The model.
        core: Arm's name of the core.
        inputs: Input sets, each with the bytes of every input.
        compiler: ``zig`` or ``gcc``.
        seconds: When to give up.

    Returns:
        Outputs of every inference; counts of the first one; the proved worst-case stack.

    Raises:
        CompileError: Compiler or linker refused.
        EmulationFault: It did not end well.
        MissingProgram: QEMU, its plug-ins or the compiler are absent.
    """
    target, board, qemu = core_named(core), BOARDS[core], QEMU.find()
    with tempfile.TemporaryDirectory(prefix="leanedge-qemu-") as work:
        folder = Path(work)
        (folder / "main.c").write_text(_main(sources, len(inputs)), encoding="utf-8")
        startup = Path(__file__).with_name("image_files") / "startup.c"
        compile_c([startup, folder / "main.c", *sources.files], sources.include, target, compiler, folder / "image.o")
        (folder / "image.ld").write_text(link_script(board.memory, _STACK_BYTES), encoding="utf-8")
        link(folder / "image.o", folder / "image.ld", target, compiler, folder / "image.elf")
        elf = read_elf((folder / "image.elf").read_bytes())
        (folder / "inputs.bin").write_bytes(b"".join(data for given in inputs for data in given))
        marks = f"begin={elf.symbols['leanedge_begin']:#x},end={elf.symbols['leanedge_end']:#x},out=counts.txt"
        command = [str(qemu.path), "-M", board.machine, "-cpu", board.cpu, "-nographic", "-monitor", "none"]
        command += ["-serial", "none", "-semihosting-config", "enable=on,target=native"]
        command += ["-plugin", f"{count_plugin(qemu)},{marks}", "-kernel", "image.elf"]
        environment = {**os.environ, **({"LD_LIBRARY_PATH": str(qemu.libraries)} if qemu.libraries else {})}
        try:
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=seconds
            )
        except subprocess.TimeoutExpired as error:
            raise EmulationFault(f"did not end within {seconds:g} s under {qemu.path.name}", address=0) from error
        sizes = [buffer.nbytes for buffer in sources.outputs]
        found = (folder / "outputs.bin").read_bytes() if (folder / "outputs.bin").is_file() else b""
        if done.returncode != 0 or len(found) != sum(sizes) * len(inputs):
            said = (done.stderr or done.stdout).strip()[:300]
            raise EmulationFault(f"ended with {done.returncode} under {qemu.path.name}: {said}", address=0)
        lines = [tuple(map(int, line.split())) for line in (folder / "counts.txt").read_text().splitlines()]
    blocks = [Block(address, size, 0, executed, taken) for address, size, executed, taken in lines]
    counts = count(blocks, elf.read, core)
    outputs, at = [], 0
    for _ in inputs:
        outputs.append(tuple(found[at + sum(sizes[:n]) : at + sum(sizes[: n + 1])] for n in range(len(sizes))))
        at += sum(sizes)
    return ImageRun(tuple(outputs), counts, {"": counts}, worst_case_stack(elf, "Reset_Handler"))


def _main(sources: ModelSources, runs: int) -> str:
    def moves(operation: str, file: str, buffers: Sequence[Buffer]) -> str:
        return "\n".join(
            f"        move_bytes({operation}, {file}, {buffer.expression}, {buffer.nbytes});" for buffer in buffers
        )

    template = (Path(__file__).with_name("image_files") / "semihosting_main.c").read_text(encoding="utf-8")
    return template.format(
        header=sources.header,
        declarations=sources.declarations,
        setup=f"    {sources.setup}",
        runs=runs,
        reads=moves("READ", "from", sources.inputs),
        invoke=sources.invoke,
        writes=moves("WRITE", "to", sources.outputs),
    )

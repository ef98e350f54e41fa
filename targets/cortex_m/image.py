"""Firmware images: generated C linked with start-up and a main loop to a device's memory, and run under emulation.

The image waits for inputs in memory, runs the model and leaves its outputs in memory; an emulator, or a debugger on
the board, drives it through one structure (`leanedge_mailbox`). The ELF that is emulated is the ELF that ships.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from leanedge.errors import InputError, LeanEdgeError

from .cores import core_named
from .elf import read_elf
from .emulator import EmulationFault, Machine, Memory
from .link_script import MemoryMap, link_script
from .stack import worst_case_stack
from .timing import count, with_stalls
from .toolchain import compile_c, link, version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.profile import DeviceProfile

    from .elf import Elf
    from .emulator import Block
    from .flash import FlashModel
    from .timing import Counts
    from .toolchain import Compiler

__all__ = ["Buffer", "Image", "ImageRun", "ImageTooLarge", "ModelSources", "build_image", "memory_map", "run_image"]

_FRAME_BYTES = {True: 112, False: 40}
"""What an exception pushes, with and without an FPU, alignment included (Armv7-M ARM, B1.5.7)."""

_SYSTEM = Memory("system control space", 0xE000_E000, 0x1000, code=False)
_PATTERN = (0x5AFE57AC).to_bytes(4, "little")


class ImageTooLarge(LeanEdgeError):
    """The image does not fit into the device's memory.

    Attributes:
        flash_bytes: What it needs.
        ram_bytes: What it needs, worst-case stack included.
        memory: What there is.
    """

    exit_code = 3

    def __init__(self, flash_bytes: int, ram_bytes: int, memory: MemoryMap) -> None:
        parts = [("flash", flash_bytes, memory.flash_bytes), ("RAM", ram_bytes, memory.ram_bytes)]
        over = [f"{name} by {need - there:,} bytes" for name, need, there in parts if need > there]
        super().__init__(f"the image does not fit: {' and '.join(over)}")
        self.flash_bytes = flash_bytes
        self.ram_bytes = ram_bytes
        self.memory = memory


@dataclass(frozen=True)
class Buffer:
    """An input or output of the model in C: `expression` points to it once the model is set up."""

    expression: str
    nbytes: int


@dataclass(frozen=True)
class ModelSources:
    """Generated C of a model, and how a program calls it.

    Attributes:
        files: C files.
        include: Folders of their headers.
        header: The header that declares what the statements and expressions below use.
        declarations: C at file level that they need beyond it.
        setup: C statement run once after reset; empty: none.
        invoke: C statement of one inference, such as ``model_run();``.
        inputs: Where inputs go before an inference.
        outputs: Where outputs are after it.
        layers: (layer, C function), in order: what runs from the entry of one of these functions to the entry of
            the next is that layer's. They must not be inlined.
    """

    files: tuple[Path, ...]
    include: tuple[Path, ...]
    header: str
    invoke: str
    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    declarations: str = ""
    setup: str = ""
    layers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, eq=False)
class Image:
    """A linked image.

    Attributes:
        data: The ELF file's bytes.
        elf: What is read of it.
        core: Arm's name of the core.
        compiler: Name and version.
        memory: Where it may be.
        flash_bytes: Code, constants and initial values.
        ram_bytes: Variables, the arena, and the worst-case stack with an exception on top.
        stack_bytes: The worst-case stack of all that runs after reset, without an exception.
        inputs: Sizes in bytes.
        outputs: Sizes in bytes.
        layers: As in the sources.
    """

    data: bytes
    elf: Elf
    core: str
    compiler: str
    memory: MemoryMap
    flash_bytes: int
    ram_bytes: int
    stack_bytes: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    layers: tuple[tuple[str, str], ...]


@dataclass(frozen=True, eq=False)
class ImageRun:
    """What an image did under emulation.

    Attributes:
        outputs: For each inference, each output's bytes.
        counts: Of the inference that took the most cycles.
        by_layer: The same by layer; what runs before the first one, as ``""``.
        stack_bytes: Most stack that was in use.
    """

    outputs: tuple[tuple[bytes, ...], ...]
    counts: Counts
    by_layer: Mapping[str, Counts]
    stack_bytes: int


def memory_map(profile: DeviceProfile) -> MemoryMap:
    """The flash and RAM that an image uses: the first region of each kind, and those that follow without a gap.

    Raises:
        InputError: The profile has none with an address.
    """
    found = []
    for kind in ("flash", "ram"):
        sizes = {
            region.address: region.bytes
            for region in profile.memory
            if region.kind == kind and region.address is not None
        }
        if not sizes:
            raise InputError(f"{profile.name} has no {kind} with an address", hint="add `address` to its regions")
        begin = end = next(iter(sizes))
        while end in sizes:
            end += sizes[end]
        found += [begin, end - begin]
    return MemoryMap(*found)


def build_image(sources: ModelSources, core: str, memory: MemoryMap, compiler: Compiler = "zig") -> Image:
    """Compiles and links a model's image with just the stack that it needs.

    Raises:
        CompileError: Compiler or linker refused.
        UnprovableStack: Its worst-case stack can't be bounded.
        ImageTooLarge: It does not fit; the error says what it needs.
        MissingProgram: The compiler is absent.
    """
    target = core_named(core)
    with tempfile.TemporaryDirectory(prefix="leanedge-image-") as work:
        folder = Path(work)
        (folder / "main.c").write_text(_main(sources), encoding="utf-8")
        startup = Path(__file__).with_name("image_files") / "startup.c"
        files = [startup, folder / "main.c", *sources.files]
        compile_c(files, sources.include, target, compiler, folder / "image.o")
        boundless = MemoryMap(memory.flash_address, 1 << 28, memory.ram_address, 1 << 28)
        data = _link(link_script(boundless, 8), folder, core, compiler)
        stack_bytes = worst_case_stack(read_elf(data), "Reset_Handler")
        reserved = -(-(stack_bytes + _FRAME_BYTES[target.fpu]) // 8) * 8
        data = _link(link_script(boundless, reserved), folder, core, compiler)
        elf = read_elf(data)
        flash_bytes, ram_bytes = _sizes(elf, memory)
        if flash_bytes > memory.flash_bytes or ram_bytes > memory.ram_bytes:
            raise ImageTooLarge(flash_bytes, ram_bytes, memory)
    return Image(
        data,
        elf,
        core,
        version(compiler),
        memory,
        flash_bytes,
        ram_bytes,
        stack_bytes,
        tuple(buffer.nbytes for buffer in sources.inputs),
        tuple(buffer.nbytes for buffer in sources.outputs),
        sources.layers,
    )


def _link(script: str, folder: Path, core: str, compiler: Compiler) -> bytes:
    (folder / "image.ld").write_text(script, encoding="utf-8")
    link(folder / "image.o", folder / "image.ld", core_named(core), compiler, folder / "image.elf")
    return (folder / "image.elf").read_bytes()


def _sizes(elf: Elf, memory: MemoryMap) -> tuple[int, int]:
    """(flash, RAM) in bytes, each from the beginning of its memory to the end of what is in it."""
    flash = max(segment.address + len(segment.data) for segment in elf.segments) - memory.flash_address
    return flash, elf.symbols["leanedge_bss_end"] - memory.ram_address


def _main(sources: ModelSources) -> str:
    count_of = {"inputs": len(sources.inputs), "outputs": len(sources.outputs)}
    lines = [f"    leanedge_mailbox.inputs[{i}] = {buffer.expression};" for i, buffer in enumerate(sources.inputs)]
    lines += [f"    leanedge_mailbox.outputs[{i}] = {buffer.expression};" for i, buffer in enumerate(sources.outputs)]
    template = (Path(__file__).with_name("image_files") / "main.c").read_text(encoding="utf-8")
    return template.format(
        header=sources.header,
        declarations=sources.declarations,
        inputs=count_of["inputs"],
        outputs=count_of["outputs"],
        setup=f"    {sources.setup}" if sources.setup else "",
        pointers="\n".join(lines),
        invoke=sources.invoke,
    )


def run_image(
    image: Image, inputs: Sequence[Sequence[bytes]], flash: FlashModel | None = None, *, seconds: float = 120.0
) -> ImageRun:
    """Runs the image from reset in the unicorn emulator, with only its flash and RAM there, one inference an input set.

    Args:
        image: What to run.
        inputs: Input sets, each with the bytes of every input.
        flash: The device's flash, to count what waiting for it takes; None counts cycles without waiting.
        seconds: When to give up an inference.

    Raises:
        EmulationFault: It left its memory, faulted or did not end.
        MissingProgram: unicorn or capstone is absent.
    """
    plain = _drive(image, inputs, None, seconds, watch=False)
    worst = max(plain.counts, key=lambda counts: sum(part.cycles for part in counts.values()))
    # Watching each access is slow: one inference is enough, for addresses hardly depend on the data.
    watched = _drive(image, inputs[:1], flash, seconds, watch=True).counts[0]
    if any(watched[region].by_class != counts.by_class for region, counts in plain.counts[0].items()):
        raise RuntimeError("watching changed what the image executes")
    worst = {
        region: replace(counts, stall_cycles=watched[region].stall_cycles if region in watched else 0)
        for region, counts in worst.items()
    }
    names = {0: "", **{number: layer for number, (layer, _) in enumerate(image.layers, 1)}}
    by_layer = {names[region]: counts for region, counts in sorted(worst.items())}
    total, *others = by_layer.values()
    return ImageRun(plain.outputs, sum(others, total), by_layer, plain.stack_bytes)


@dataclass(frozen=True, eq=False)
class _Drive:
    """Outputs and counts by region of each inference, and the most stack that was in use."""

    outputs: tuple[tuple[bytes, ...], ...]
    counts: tuple[Mapping[int, Counts], ...]
    stack_bytes: int


def _drive(
    image: Image, inputs: Sequence[Sequence[bytes]], flash: FlashModel | None, seconds: float, *, watch: bool
) -> _Drive:
    memory, symbols = image.memory, image.elf.symbols
    parts = [
        Memory("flash", memory.flash_address, memory.flash_bytes, code=True),
        Memory("RAM", memory.ram_address, memory.ram_bytes, code=False),
        _SYSTEM,
    ]
    missing = [function for _, function in image.layers if function not in symbols]
    if missing:
        raise LeanEdgeError(f"no function {missing[0]!r} in the image: functions of layers must not be inlined")
    if not inputs:
        raise ValueError("no inputs to run the image on")
    marks = {symbols[function]: number for number, (_, function) in enumerate(image.layers, 1)}
    machine = Machine(core_named(image.core), parts, marks, flash, watch)
    for segment in image.elf.segments:
        machine.write(segment.address, segment.data)
    wait, mailbox = symbols["leanedge_wait"], symbols["leanedge_mailbox"]
    outputs, counts = [], []
    try:
        machine.reset(symbols["Reset_Handler"], symbols["leanedge_stack_top"], until=wait, seconds=seconds)
        words = 4 * (len(image.inputs) + len(image.outputs))
        pointers = [int.from_bytes(machine.read(mailbox + 8 + at, 4), "little") for at in range(0, words, 4)]
        for number, given in enumerate(inputs, 1):
            sizes = tuple(len(data) for data in given)
            if sizes != image.inputs:
                raise ValueError(f"inputs of {sizes} bytes; the image takes {image.inputs}")
            for address, data in zip(pointers, given, strict=False):
                machine.write(address, data)
            machine.write(mailbox, number.to_bytes(4, "little"))
            blocks = machine.resume(until=wait, seconds=seconds)
            found = zip(pointers[len(image.inputs) :], image.outputs, strict=True)
            outputs.append(tuple(machine.read(address, nbytes) for address, nbytes in found))
            counts.append(_count_regions(blocks, machine, image.core, flash))
    except EmulationFault as fault:
        where = image.elf.function_at(fault.address)
        raise EmulationFault(f"{fault.message}, in {where}", address=fault.address) from fault
    bottom, top = symbols["leanedge_stack_bottom"], symbols["leanedge_stack_top"]
    stack = machine.read(bottom, top - bottom)
    unused = next((at for at in range(0, len(stack), 4) if stack[at : at + 4] != _PATTERN), len(stack))
    return _Drive(tuple(outputs), tuple(counts), len(stack) - unused)


def _count_regions(blocks: Sequence[Block], machine: Machine, core: str, flash: FlashModel | None) -> dict[int, Counts]:
    counted = {}
    for region in {block.region for block in blocks}:
        counts = count([block for block in blocks if block.region == region], machine.read, core)
        counted[region] = counts if flash is None else with_stalls(counts, machine.misses(region), flash)
    return counted

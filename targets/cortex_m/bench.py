"""Runs kernels one by one on an emulated core: their outputs, what they execute, and whether they keep to their memory.

    from leanedge.export.c_source.kernel import Kernel, Layer
    from leanedge.targets.cortex_m.bench import KernelTrial, run_kernels

    kernel = my_maker(Layer(program, operator, "pointwise_3", "cortex-m4"))
    trial = KernelTrial(program, operator, kernel, [[first_input], [second_input]])
    (seen,) = run_kernels([trial], "cortex-m4")
    assert not seen.faults
    np.testing.assert_array_equal(seen.outputs[0][0], expected_of_first_input)
    print(seen.counts.instructions, seen.counts.by_class["load"], seen.counts.cycles, seen.stack_bytes)

All trials of a call share one translation unit and one ELF: give many trials to one call. Different kernels need
different prefixes; one Kernel object may be tried several times (with other inputs or another overlap).
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge import resources
from leanedge.export.c_source.text import C_TYPES, numbers

from .cores import core_named
from .elf import read_elf
from .emulator import EmulationFault, Machine, Memory
from .timing import count, with_stalls
from .toolchain import compile_c, link

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.export.c_source.kernel import Constant, Kernel
    from leanedge.program.types import Program, ProgramOperator, ProgramTensor

    from .elf import Elf
    from .flash import FlashModel, Misses
    from .timing import Counts
    from .toolchain import Compiler

__all__ = ["KernelObservation", "KernelTrial", "run_kernels"]

Array = np.ndarray[Any, Any]

_FLASH, _RAM = 0, 0x2000_0000
_STACK_BYTES = 64 * 1024
_GUARD_BYTES = 256
_PAGE = 4096


@dataclass(frozen=True, eq=False)
class KernelTrial:
    """A kernel and what to run it on.

    Attributes:
        program: The whole, for its tensors.
        operator: The layer.
        kernel: What was made for it.
        inputs: Input sets; each holds an array for each input that is not constant, in the operator's order.
        leads: For each such input `input address - output address` (of the first output) in bytes, to place them
            over each other; None places it apart. Empty: all apart.
    """

    program: Program
    operator: ProgramOperator
    kernel: Kernel
    inputs: Sequence[Sequence[Array]]
    leads: tuple[int | None, ...] = ()


@dataclass(frozen=True, eq=False)
class KernelObservation:
    """What a kernel did.

    Attributes:
        outputs: For each input set, each output in its tensor's shape and type.
        counts: Of the input set that took the most cycles; the call through a table of pointers is counted too (one
            load for each pointer, a call and a return).
        stack_bytes: Most stack used, the caller's frame of the trial function included.
        functions: What its source defines -> bytes of code, and the call as ``trial_<number>``.
        library_bytes: File of its library -> bytes of that file's functions, as far as they are linked.
        faults: What it did wrong, one sentence each: writes outside output, scratch and stack. Empty: nothing.
    """

    outputs: tuple[tuple[Array, ...], ...]
    counts: Counts
    stack_bytes: int
    faults: tuple[str, ...]
    functions: Mapping[str, int] = field(default_factory=dict)
    library_bytes: Mapping[str, int] = field(default_factory=dict)


def run_kernels(
    trials: Sequence[KernelTrial], core: str, compiler: Compiler = "zig", flash: FlashModel | None = None
) -> tuple[KernelObservation, ...]:
    """Compiles the trials' kernels together and runs each on its inputs.

    Memory that a kernel does not own holds noise, which differs from input set to input set, as scratch does: what
    is read without having been written shows as a wrong output, what is written outside as a fault.

    Args:
        trials: What to run.
        core: ``cortex-m0plus``, ``cortex-m4``, ``cortex-m7`` or ``cortex-m33``.
        compiler: ``zig`` or ``gcc``.
        flash: The device's flash (`flash_model(profile)`), to count what waiting for it takes, from empty caches and
            on the first input set only (1 to 2 M accesses a second).

    Raises:
        CompileError: The compiler refused; kernels with writable static data are refused too.
        EmulationFault: A kernel crashed, with its name and where.
        ValueError: Two different kernels define the same name, or inputs do not fit the operator.
    """
    target = core_named(core)
    kernels = list({id(trial.kernel): trial.kernel for trial in trials}.values())
    _refuse_doubles(kernels)
    with tempfile.TemporaryDirectory(prefix="leanedge-bench-") as work:
        folder = Path(work)
        (folder / "bench.c").write_text(_source(kernels, trials), encoding="utf-8")
        (folder / "bench.ld").write_text(_LINK_SCRIPT, encoding="utf-8")
        compile_c([folder / "bench.c", *_library_sources(kernels)], [], target, compiler, folder / "bench.o")
        link(folder / "bench.o", folder / "bench.ld", target, compiler, folder / "bench.elf")
        elf = read_elf((folder / "bench.elf").read_bytes())
    writable = [section.name for section in elf.sections if section.writable and section.nbytes]
    if writable:
        raise ValueError(f"kernels hold writable static data ({', '.join(writable)}); a kernel's state is its scratch")
    plans = [_Placement.of(trial) for trial in trials]
    ram = _round_up(max(plan.nbytes for plan in plans), _PAGE)
    code = _round_up(max(segment.address + len(segment.data) for segment in elf.segments), _PAGE)
    parts = [Memory("flash", _FLASH, code, code=True), Memory("RAM", _RAM, ram, code=False)]
    machine = _loaded(Machine(target, parts), elf)
    # Watching each access is slow: only each trial's first input set is watched.
    watcher = _loaded(Machine(target, parts, flash=flash, watch=True), elf)
    seen = []
    for number, (trial, plan) in enumerate(zip(trials, plans, strict=True)):
        try:
            function = elf.symbols[f"trial_{number}"]
            found = _run(machine, trial, plan, function, ram, core)
            misses = _watched_misses(machine, watcher, trial, plan, function, ram)
            if flash is not None:
                found = replace(found, counts=with_stalls(found.counts, misses, flash))
            own = _functions(elf, trial.kernel.source) | _functions(elf, f"trial_{number}(")
            shared = {file: sum(_functions(elf, library_text(file)).values()) for file in trial.kernel.library}
            seen.append(replace(found, functions=own, library_bytes=shared))
        except EmulationFault as fault:
            raise EmulationFault(
                f"{trial.kernel.name} for {trial.operator.source}: {fault.message} in {elf.function_at(fault.address)}",
                address=fault.address,
            ) from fault
    return tuple(seen)


def _loaded(machine: Machine, elf: Elf) -> Machine:
    for segment in elf.segments:
        machine.write(segment.address, segment.data)
    return machine


def _functions(elf: Elf, source: str) -> dict[str, int]:
    """Functions that the source defines, and their bytes of code."""
    names = set(re.findall(r"\b(\w+)\s*\(", source))
    return {function.name: function.nbytes for function in elf.functions if function.name in names}


@lru_cache(maxsize=64)
def library_text(file: str) -> str:
    """The text of a file of the kernels' library."""
    return (resources.folder("targets") / "_c" / "kernels" / file).read_text(encoding="utf-8")


_LINK_SCRIPT = f"""ENTRY(trial_0)
SECTIONS
{{
  . = {_FLASH:#x};
  .text : {{ KEEP(*(.text.trial_*)) *(.text .text.*) }}
  .rodata : {{ *(.rodata .rodata.*) }}
  . = {_RAM:#x};
  .data : {{ *(.data .data.*) }}
  .bss : {{ *(.bss .bss.* COMMON) }}
  /DISCARD/ : {{ *(.ARM.exidx* .ARM.extab* .ARM.attributes .comment .note* .debug_*) }}
}}
"""


def _source(kernels: Sequence[Kernel], trials: Sequence[KernelTrial]) -> str:
    parts = ["#include <stdint.h>", "#include <string.h>"]
    library = {file for kernel in kernels for file in kernel.library}
    headers = {file for file in library if file.endswith(".h")} | ({"leanedge_kernels.h"} if library else set())
    parts += [f'#include "{file}"' for file in sorted(headers)]
    for kernel in kernels:
        parts += [_constant(constant) for constant in kernel.constants]
        parts.append(kernel.source)
    for number, trial in enumerate(trials):
        inputs, outputs = _tensors(trial)
        places = [n for n, name in enumerate(trial.operator.inputs) if trial.program.tensors[name].data is None]
        pointers = [(f"input{n}", f"const {C_TYPES[t.dtype]}") for n, t in zip(places, inputs, strict=True)]
        pointers += [(f"output{n}", C_TYPES[tensor.dtype]) for n, tensor in enumerate(outputs)]
        fields = {name: f"(({kind} *)at[{at}])" for at, (name, kind) in enumerate(pointers)}
        fields["scratch"] = f"at[{len(pointers)}]"
        signature = f"void trial_{number}(void *const *at)"
        parts.append(f"{signature};\n{signature}\n{{\n    (void)at;\n    {trial.kernel.statement(fields)}\n}}")
    return "\n".join(parts) + "\n"


def _constant(constant: Constant) -> str:
    kind = C_TYPES[str(constant.array.dtype)]
    aligned = f"__attribute__((aligned({constant.alignment})))"
    return f"static const {kind} {constant.name}[{constant.array.size}] {aligned} = {{\n{numbers(constant.array)}}};"


def _library_sources(kernels: Sequence[Kernel]) -> list[Path]:
    folder = resources.folder("targets") / "_c" / "kernels"
    return [folder / file for file in sorted({f for kernel in kernels for f in kernel.library}) if file.endswith(".c")]


def _refuse_doubles(kernels: Sequence[Kernel]) -> None:
    names = [constant.name for kernel in kernels for constant in kernel.constants]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two kernels define {', '.join(twice)}; make each with its own prefix")


def _tensors(trial: KernelTrial) -> tuple[list[ProgramTensor], list[ProgramTensor]]:
    tensors = trial.program.tensors
    inputs = [tensors[name] for name in trial.operator.inputs if tensors[name].data is None]
    return inputs, [tensors[name] for name in trial.operator.outputs]


@dataclass(frozen=True)
class _Placement:
    """Where everything of a trial is: the table of pointers, tensors and scratch with guards between, the stack last.

    Attributes:
        inputs: Addresses.
        outputs: Addresses.
        scratch: Address.
        stack: (lowest address, top).
        nbytes: RAM in all, guards included.
    """

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    scratch: int
    stack: tuple[int, int]
    nbytes: int

    @classmethod
    def of(cls, trial: KernelTrial) -> _Placement:
        """Places the trial's memory.

        Raises:
            ValueError: Leads that don't belong to the inputs.
        """
        inputs, outputs = _tensors(trial)
        leads = trial.leads or (None,) * len(inputs)
        if len(leads) != len(inputs):
            raise ValueError(f"{trial.operator.source}: {len(leads)} leads for {len(inputs)} inputs")
        place = _RAM + _GUARD_BYTES
        # Room before the first output for inputs that begin before it, and behind for those that reach further.
        before = max((-lead for lead in leads if lead is not None), default=0)
        place = _round_up(place + max(before, 0), 16)
        at_output = []
        for number, tensor in enumerate(outputs):
            at_output.append(place)
            end = place + tensor.nbytes
            if number == 0:
                reach = [place + d + t.nbytes for d, t in zip(leads, inputs, strict=True) if d is not None]
                end = max([end, *reach])
            place = _round_up(end + _GUARD_BYTES, 16)
        at_input = []
        for lead, tensor in zip(leads, inputs, strict=True):
            if lead is not None:
                at_input.append(at_output[0] + lead)
                continue
            at_input.append(place)
            place = _round_up(place + tensor.nbytes + _GUARD_BYTES, 16)
        scratch, place = place, _round_up(place + trial.kernel.scratch_bytes + _GUARD_BYTES, 16)
        return cls(
            tuple(at_input), tuple(at_output), scratch, (place, place + _STACK_BYTES), place + _STACK_BYTES - _RAM + 256
        )


def _run(
    machine: Machine, trial: KernelTrial, plan: _Placement, function: int, ram: int, core: str
) -> KernelObservation:
    _, outputs = _tensors(trial)
    table = plan.stack[1]  # just above the stack
    own = [(address, tensor.nbytes) for address, tensor in zip(plan.outputs, outputs, strict=True)]
    own += [(plan.scratch, trial.kernel.scratch_bytes), (plan.stack[0], _STACK_BYTES)]
    results, faults, stack, worst = [], [], 0, None
    for number in range(len(trial.inputs)):
        before = _memory(trial, plan, number, ram)
        machine.write(_RAM, before.tobytes())
        counts = count(machine.call(function, [table], plan.stack[1]), machine.read, core)
        after = np.frombuffer(machine.read(_RAM, ram), np.uint8)
        results.append(
            tuple(
                after[address - _RAM :][: tensor.nbytes].view(np.dtype(tensor.dtype)).reshape(tensor.shape).copy()
                for address, tensor in zip(plan.outputs, outputs, strict=True)
            )
        )
        changed = after != before
        touched = np.flatnonzero(changed[plan.stack[0] - _RAM : plan.stack[1] - _RAM])
        stack = max(stack, _STACK_BYTES - int(touched[0]) if touched.size else 0)
        for address, nbytes in own:
            changed[address - _RAM :][:nbytes] = False
        if changed.any():
            faults.append(_stray(int(np.flatnonzero(changed)[0]) + _RAM, int(changed.sum()), number, trial, plan))
        if worst is None or counts.cycles > worst.cycles:
            worst = counts
    if worst is None:
        raise ValueError(f"{trial.operator.source}: a trial needs at least one input set")
    return KernelObservation(tuple(results), worst, _round_up(stack, 4), tuple(faults))


def _memory(trial: KernelTrial, plan: _Placement, number: int, ram: int) -> Array:
    """All RAM before the run on an input set: noise, the inputs, and the table of pointers just above the stack."""
    inputs, _ = _tensors(trial)
    arrays = trial.inputs[number]
    if len(arrays) != len(inputs):
        raise ValueError(f"{trial.operator.source}: {len(arrays)} arrays for {len(inputs)} inputs")
    memory = np.random.default_rng(number).integers(0, 256, ram, np.uint8)
    for address, tensor, array in zip(plan.inputs, inputs, arrays, strict=True):
        data = np.ascontiguousarray(array)
        if data.dtype != tensor.dtype or data.size != tensor.elements:
            raise ValueError(f"{tensor.name} is {tensor.dtype} {tensor.shape}, not {data.dtype.name} {data.shape}")
        memory[address - _RAM :][: data.nbytes] = data.reshape(-1).view(np.uint8)
    pointers = np.array([*plan.inputs, *plan.outputs, plan.scratch], np.uint32)
    memory[plan.stack[1] - _RAM :][: pointers.nbytes] = pointers.view(np.uint8)
    return memory


def _watched_misses(
    machine: Machine, watcher: Machine, trial: KernelTrial, plan: _Placement, function: int, ram: int
) -> Misses:
    """What caches in front of flash miss while the first input set is run, beginning empty."""
    memory = _memory(trial, plan, 0, ram).tobytes()
    executed = []
    for one in (machine, watcher):
        one.write(_RAM, memory)
        blocks = one.call(function, [plan.stack[1]], plan.stack[1])
        executed.append(sum(block.executed * block.size for block in blocks))
    if executed[0] != executed[1]:
        raise RuntimeError(f"watching changed what {trial.kernel.name} executes: {executed} bytes of code")
    return watcher.misses(0)


def _stray(address: int, nbytes: int, number: int, trial: KernelTrial, plan: _Placement) -> str:
    """Says where a write went that should not have been, by the nearest thing that begins at or before it."""
    inputs, outputs = _tensors(trial)
    places = [(at, tensor.nbytes, f"input{i}") for i, (at, tensor) in enumerate(zip(plan.inputs, inputs, strict=True))]
    places += [
        (at, tensor.nbytes, f"output{i}") for i, (at, tensor) in enumerate(zip(plan.outputs, outputs, strict=True))
    ]
    places.append((plan.scratch, trial.kernel.scratch_bytes, "scratch"))
    inside = [(at, name) for at, size, name in places if at <= address < at + size]
    nearest_one = min(places, key=lambda place: min(abs(address - place[0]), abs(address - place[0] - place[1])))
    if inside:
        where = f"{inside[0][1]} at byte {address - inside[0][0]}, which it may only read"
    elif address < nearest_one[0]:
        where = f"{nearest_one[0] - address} bytes before {nearest_one[2]}"
    else:
        where = f"{address - nearest_one[0] - nearest_one[1]} bytes past the end of {nearest_one[2]}"
    return f"input set {number}: it wrote {where} ({nbytes} bytes outside its memory in all)"


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple

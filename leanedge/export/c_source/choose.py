"""Which kernel each layer gets: by counted cost, under the flash and RAM that there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from leanedge.program.memory import lifetimes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.export.c_source.kernel import Kernel
    from leanedge.program.types import Program
    from leanedge.target import Optimize

__all__ = ["SLACK", "KernelOption", "choose_kernels", "ram_at"]

SLACK: Mapping[Optimize, float] = {"speed": 1.01, "balanced": 1.2, "size": 1.5}
"""How many times the least possible cycles a choice may take, to save flash and RAM."""

_WORTH: Mapping[Optimize, float] = {"speed": 0.0, "balanced": 0.5, "size": 0.2}
"""What part of the memory must be saved for each part of the cycles that it costs."""


@dataclass(frozen=True, eq=False)
class KernelOption:
    """A kernel that a layer may have, with what it was counted to cost.

    Attributes:
        kernel: What would be emitted.
        cycles: Of one run, as the device would take them.
        instructions: Executed in one run.
        code_bytes: Of its own code; `Kernel.constant_bytes` comes to it, and each file of its library once.
    """

    kernel: Kernel
    cycles: float
    instructions: int
    code_bytes: int

    @property
    def flash_bytes(self) -> int:
        """What it takes alone, without its library."""
        return self.kernel.constant_bytes + self.code_bytes


def choose_kernels(
    program: Program,
    options: Sequence[Sequence[KernelOption]],
    optimize: Optimize,
    flash_limit: int | None = None,
    ram_limit: int | None = None,
    library_bytes: Mapping[str, int] | None = None,
) -> list[KernelOption] | None:
    """The choice for each operator; None where no choice keeps the limits.

    First the least cycles within the limits; then the least flash and RAM that is worth the cycles, which stay within
    `SLACK` times as many. Both by integer programming (HiGHS). RAM is, at each operator, the tensors alive and the
    scratch, an input counted once with the output where the kernel may run in place: a lower bound. Where the planner
    needs more, kernels of the fullest operators are exchanged as long as that makes the whole better.

    Args:
        program: In the order that it will run in.
        options: For each operator at least one.
        optimize: What to save beyond the limits.
        flash_limit: Bytes for kernels and their constants.
        ram_limit: Bytes for tensors and scratch.
        library_bytes: File of the shared library -> its code bytes; 0 where it is not known.
    """
    import highspy

    model = highspy.Highs()
    model.silent()
    picks = [[model.addBinary() for _ in group] for group in options]
    for variables in picks:
        model.addConstr(sum(variables) == 1)
    files = sorted({file for group in options for option in group for file in option.kernel.library})
    linked = {file: model.addBinary() for file in files}
    for variables, group in zip(picks, options, strict=True):
        for variable, option in zip(variables, group, strict=True):
            for file in option.kernel.library:
                model.addConstr(linked[file] >= variable)
    sizes = library_bytes or {}
    every = [
        (variable, option)
        for variables, group in zip(picks, options, strict=True)
        for variable, option in zip(variables, group, strict=True)
    ]
    flash = sum(option.flash_bytes * variable for variable, option in every)
    flash = flash + sum(sizes.get(file, 0) * variable for file, variable in linked.items())
    ram = model.addVariable(lb=0)
    for index, (variables, group) in enumerate(zip(picks, options, strict=True)):
        needs = [ram_at(program, index, option.kernel) for option in group]
        model.addConstr(ram >= sum(need * variable for need, variable in zip(needs, variables, strict=True)))
    if flash_limit is not None:
        model.addConstr(flash <= flash_limit)
    if ram_limit is not None:
        model.addConstr(ram <= ram_limit)
    cycles = sum(option.cycles / 1000 * variable for variable, option in every)
    model.minimize(cycles)
    if model.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    least = max(model.getInfo().objective_function_value, 1e-9)
    fastest = _picked(options, picks, model)
    memory = sum(option.flash_bytes for option in fastest) + max(
        (ram_at(program, index, option.kernel) for index, option in enumerate(fastest)), default=0
    )
    model.addConstr(cycles <= least * SLACK[optimize] + 1e-6)
    model.minimize((flash + ram) * (1 / max(memory, 1)) + cycles * (_WORTH[optimize] / least))
    if model.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    return _picked(options, picks, model)


def _picked(
    options: Sequence[Sequence[KernelOption]], picks: Sequence[Sequence[Any]], model: Any
) -> list[KernelOption]:
    solution = model.getSolution().col_value
    return [
        group[max(range(len(group)), key=lambda k: solution[variables[k].index])]
        for variables, group in zip(picks, options, strict=True)
    ]


def ram_at(program: Program, index: int, kernel: Kernel) -> int:
    """Bytes alive while an operator runs with that kernel, its scratch included: no plan needs less."""
    operator = program.operators[index]
    alive = [tensor for tensor in lifetimes(program) if tensor.first <= index <= tensor.last]
    total = sum(tensor.nbytes for tensor in alive) + kernel.scratch_bytes
    ends = {tensor.name: tensor.last for tensor in alive}
    out = program.tensors[operator.output].nbytes
    inputs = [name for name in operator.inputs if program.tensors[name].data is None]
    saved = 0
    for name, lead in zip(inputs, kernel.leads, strict=False):
        if lead is not None and ends.get(name) == index:
            nbytes = program.tensors[name].nbytes
            saved = max(saved, nbytes + out - max(nbytes + max(lead, 0), out + max(-lead, 0)))
    return total - saved

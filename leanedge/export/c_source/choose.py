"""Which kernel each layer gets: by counted cost, under the flash and RAM that there are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from leanedge.program.arena import plan_arena
from leanedge.program.memory import lifetimes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.export.c_source.kernel import Kernel
    from leanedge.program.types import Program
    from leanedge.target import Optimize

__all__ = ["SLACK", "KernelOption", "choose_kernels", "ram_at"]

SLACK: Mapping[Optimize, float] = {"speed": 1.25, "balanced": 1.4, "size": 1.6}
"""How many times the least possible cycles a choice may take, to save flash and RAM."""


@dataclass(frozen=True)
class _Weights:
    """What a choice is judged by: its cycles, RAM and flash, each as a part of the fastest choice's."""

    cycles: float
    ram: float
    flash: float


_WEIGHTS: Mapping[Optimize, _Weights] = {
    "speed": _Weights(cycles=1.0, ram=1.0, flash=0.02),
    "balanced": _Weights(cycles=1.0, ram=1.0, flash=0.5),
    "size": _Weights(cycles=0.2, ram=0.2, flash=1.0),
}
"""RAM is scarcer than flash: even for speed, a part of it must buy at least as large a part of the cycles."""


@dataclass(frozen=True, eq=False)
class KernelOption:
    """A kernel that a layer may have, with what it was counted to cost.

    Attributes:
        kernel: What would be emitted.
        cycles: Of one run, as the device would take them.
        instructions: Executed in one run.
        code_bytes: Of its own code; `Kernel.constant_bytes` comes to it.
        shared_bytes: Function or file that layers share -> its bytes of code, linked once.
    """

    kernel: Kernel
    cycles: float
    instructions: int
    code_bytes: int
    shared_bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def flash_bytes(self) -> int:
        """What it takes beside what layers share."""
        return self.kernel.constant_bytes + self.code_bytes


def choose_kernels(
    program: Program,
    options: Sequence[Sequence[KernelOption]],
    optimize: Optimize,
    flash_limit: int | None = None,
    ram_limit: int | None = None,
) -> list[KernelOption] | None:
    """The choice for each operator; None where no choice keeps the limits.

    First the least cycles within the limits; then the best of cycles, RAM and flash together, the cycles within `SLACK`
    times as many. Both by integer programming (HiGHS). RAM is, at each operator, the tensors alive and the
    scratch, an input counted once with the output where the kernel may run in place: a lower bound. Where the planner
    needs more, kernels of the fullest operators are exchanged as long as that makes the whole better.

    Args:
        program: In the order that it will run in.
        options: For each operator at least one.
        optimize: What to save beyond the limits.
        flash_limit: Bytes for kernels and their constants.
        ram_limit: Bytes for tensors and scratch.
    """
    import highspy

    model = highspy.Highs()
    model.silent()
    picks = [[model.addBinary() for _ in group] for group in options]
    for variables in picks:
        model.addConstr(sum(variables) == 1)
    sizes = {name: size for group in options for option in group for name, size in option.shared_bytes.items()}
    linked = {name: model.addBinary() for name in sorted(sizes)}
    for variables, group in zip(picks, options, strict=True):
        for variable, option in zip(variables, group, strict=True):
            for name in option.shared_bytes:
                model.addConstr(linked[name] >= variable)
    every = [
        (variable, option)
        for variables, group in zip(picks, options, strict=True)
        for variable, option in zip(variables, group, strict=True)
    ]
    flash = sum(option.flash_bytes * variable for variable, option in every)
    flash = flash + sum(sizes[name] * variable for name, variable in linked.items())
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
    worth = _Worth(
        program,
        optimize,
        1000 * least,
        max(_flash(fastest), 1),
        max(_arena(program, fastest), 1),
        flash_limit,
        ram_limit,
    )
    weights = _WEIGHTS[optimize]
    model.addConstr(cycles <= least * SLACK[optimize] + 1e-6)
    model.minimize(
        cycles * (weights.cycles / least) + flash * (weights.flash / worth.flash) + ram * (weights.ram / worth.ram)
    )
    if model.getModelStatus() != highspy.HighsModelStatus.kOptimal:
        return None
    return _exchanged(options, _picked(options, picks, model), worth)


@dataclass(frozen=True)
class _Worth:
    """How choices are compared, by the fastest choice's cycles, flash and arena, and the limits."""

    program: Program
    optimize: Optimize
    cycles: float
    flash: int
    ram: int
    flash_limit: int | None
    ram_limit: int | None

    def of(self, chosen: Sequence[KernelOption]) -> tuple[int, float]:
        """(bytes of the arena beyond its limit, worth): the less the better; infinite beyond slack and flash."""
        cycles, flash = sum(option.cycles for option in chosen) / self.cycles, _flash(chosen)
        arena = _arena(self.program, chosen)
        over = max(0, arena - self.ram_limit) if self.ram_limit is not None else 0
        if cycles > SLACK[self.optimize] * (1 + 1e-9) or (self.flash_limit is not None and flash > self.flash_limit):
            return over, float("inf")
        weights = _WEIGHTS[self.optimize]
        return over, weights.cycles * cycles + weights.flash * flash / self.flash + weights.ram * arena / self.ram


def _exchanged(
    options: Sequence[Sequence[KernelOption]], chosen: list[KernelOption], worth: _Worth
) -> list[KernelOption]:
    """Exchanges kernels of the fullest operators while that makes the whole, as it is really placed, better."""
    best = worth.of(chosen)
    fullest = sorted(range(len(chosen)), key=lambda k: -ram_at(worth.program, k, chosen[k].kernel))[:_FULLEST]
    while True:
        before = best
        for index in fullest:
            for option in options[index]:
                tried = [*chosen[:index], option, *chosen[index + 1 :]]
                if option is not chosen[index] and _better(value := worth.of(tried), best):
                    chosen, best = tried, value
        if best == before:
            return chosen


def _better(value: tuple[int, float], best: tuple[int, float]) -> bool:
    return value[1] < float("inf") and (value[0], value[1] + 1e-9) < best


_FULLEST = 8


def _flash(chosen: Sequence[KernelOption]) -> int:
    shared = {name: size for option in chosen for name, size in option.shared_bytes.items()}
    return sum(option.flash_bytes for option in chosen) + sum(shared.values())


def _arena(program: Program, chosen: Sequence[KernelOption]) -> int:
    return plan_arena(program, {index: option.kernel for index, option in enumerate(chosen)}).arena_bytes


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
            saved = max(saved, nbytes + out - max(nbytes, out, nbytes + lead))
    return total - saved

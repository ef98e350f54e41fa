"""The arena planner: an offset for each tensor that is not constant, for the operator order given."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from leanedge.program.types import Program

__all__ = ["ALIGNMENT", "Lifetime", "lifetimes", "peak_bytes", "place", "plan_memory"]

ALIGNMENT = 16
"""Bytes; what TensorFlow Lite Micro and SIMD loads ask for."""


_RETRIES = 8
"""Tries of each order; a network of 300 tensors takes about 0.1 s."""


@dataclass(frozen=True)
class Lifetime:
    """A tensor lives from operator `first` to operator `last`, both included."""

    name: str
    nbytes: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """True where both live during some operator."""
        return self.first <= other.last and other.first <= self.last


def lifetimes(program: Program) -> tuple[Lifetime, ...]:
    """When each tensor lives: inputs from before the first operator, outputs to the end, states all the time."""
    end = len(program.operators) - 1
    remembered = [state.read for state in program.states]
    first: dict[str, int] = dict.fromkeys((*(port.tensor for port in program.inputs), *remembered), 0)
    last = dict(first)
    for index, operator in enumerate(program.operators):
        for name in operator.outputs:
            first.setdefault(name, index)
            last[name] = max(last.get(name, 0), index)
        for name in operator.inputs:
            if program.tensors[name].data is None:
                last[name] = index
    kept = (*(port.tensor for port in program.outputs), *remembered, *(state.written for state in program.states))
    for name in kept:
        if name in first:
            last[name] = max(end, 0)
    return tuple(Lifetime(name, program.tensors[name].nbytes, first[name], last[name]) for name in first)


def place(alive: Sequence[Lifetime]) -> dict[str, int]:
    """Offsets of the best of several greedy plans, each placing tensors one by one in the smallest gap that fits.

    The orders are: largest first (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference",
    2020, section 4.2), largest first with ties from the end, by the bytes alive during a tensor's fullest operator
    (their greedy-by-breadth), and by time from either end. Each is retried with the tensor that reaches highest put
    first, until the plan is as small as any can be.
    """
    breadth = {t.name: max(_alive_bytes(alive, step) for step in range(t.first, t.last + 1)) for t in alive}
    orders: list[Callable[[Lifetime], tuple[object, ...]]] = [
        lambda t: (-t.nbytes, t.first, t.name),
        lambda t: (-t.nbytes, -t.last, t.name),
        lambda t: (-breadth[t.name], -t.nbytes, t.first, t.name),
        lambda t: (-breadth[t.name], -t.nbytes, -t.last, t.name),
        lambda t: (t.first, -t.nbytes, t.name),
        lambda t: (-t.last, -t.nbytes, t.name),
    ]
    least = peak_bytes(alive)
    best: dict[str, int] = {}
    used: int | None = None
    for order in orders:
        ordered = sorted(alive, key=order)
        for _ in range(_RETRIES):
            plan = _place_in_order(ordered)
            top = max(ordered, key=lambda tensor: plan[tensor.name] + tensor.nbytes, default=None)
            end = 0 if top is None else plan[top.name] + top.nbytes
            if used is None or end < used:
                best, used = plan, end
            if top is None or used <= least:
                return best
            ordered = [top, *(tensor for tensor in ordered if tensor is not top)]
    return best


def _alive_bytes(alive: Sequence[Lifetime], step: int) -> int:
    return sum(tensor.nbytes for tensor in alive if tensor.first <= step <= tensor.last)


def _place_in_order(ordered: Sequence[Lifetime]) -> dict[str, int]:
    offsets: dict[str, int] = {}
    placed: list[Lifetime] = []
    for tensor in ordered:
        taken = sorted((offsets[other.name], other.nbytes) for other in placed if other.overlaps(tensor))
        offset = best = 0
        found: int | None = None
        for start, size in taken:
            gap = start - offset
            if gap >= tensor.nbytes and (found is None or gap < best):
                found, best = offset, gap
            offset = max(offset, _aligned(start + size))
        offsets[tensor.name] = offset if found is None else found
        placed.append(tensor)
    return offsets


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT


def peak_bytes(alive: Sequence[Lifetime]) -> int:
    """The least that any plan needs: the most bytes alive during one operator."""
    steps = {tensor.first for tensor in alive}
    return max((_alive_bytes(alive, step) for step in steps), default=0)


def plan_memory(program: Program) -> Program:
    """The Program with an arena offset for each tensor that is not constant."""
    offsets = place(lifetimes(program))
    tensors = {name: replace(tensor, offset=offsets.get(name)) for name, tensor in program.tensors.items()}
    return replace(program, tensors=tensors)

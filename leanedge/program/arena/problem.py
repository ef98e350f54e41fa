"""The placing problem in units of the alignment: rigid groups of pieces, and how far apart two groups must be."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from leanedge.program.arena.views import find_views
from leanedge.program.memory import lifetimes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.program.types import Program

__all__ = ["Demand", "Piece", "Problem", "build_problem", "overlap_leads"]


class Demand(Protocol):
    """What a kernel asks of the plan (a `Kernel` of the C exporter is one)."""

    @property
    def scratch_bytes(self) -> int:
        """Working memory while it runs."""

    @property
    def leads(self) -> tuple[int | None, ...]:
        """For each input that is not constant: the least input address - output address at which both may overlap."""

    @property
    def exact(self) -> bool:
        """Whether they may overlap at exactly these distances and no greater one."""


@dataclass(frozen=True)
class Piece:
    """A tensor, or an operator's scratch, named by the operator's index.

    Attributes:
        name: Which.
        start: Where it lies in its group.
        size: Its length.
        first: Operator that writes it (0 for an input).
        last: Last operator that needs it.
    """

    name: str | int
    start: int
    size: int
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything in units of the alignment, which loses nothing: all addresses are multiples of it.

    Attributes:
        groups: Pieces whose distances are fixed (views and what they view), most groups being one piece.
        leads: (input, output) -> least input address - output address where both may overlap.
        exact: Those pairs that may overlap at this very distance only.
    """

    groups: tuple[tuple[Piece, ...], ...]
    leads: Mapping[tuple[str | int, str | int], int]
    exact: frozenset[tuple[str | int, str | int]] = frozenset()

    def used(self, bases: Sequence[int]) -> int:
        """What a placing takes."""
        ends = (base + self.tops[n] for n, base in enumerate(bases))
        return max(ends, default=0)

    @cached_property
    def tops(self) -> tuple[int, ...]:
        """Length of each group."""
        return tuple(max(piece.start + piece.size for piece in group) for group in self.groups)

    @cached_property
    def forbidden(self) -> Mapping[tuple[int, int], tuple[tuple[int, int], ...]]:
        """(group, other), group < other -> open intervals in which base of group - base of other must not be."""
        found: dict[tuple[int, int], tuple[tuple[int, int], ...]] = {}
        for n, group in enumerate(self.groups):
            for m in range(n + 1, len(self.groups)):
                intervals = [
                    interval
                    for piece in group
                    for other in self.groups[m]
                    if piece.first <= other.last and other.first <= piece.last and piece.size and other.size
                    for interval in self._intervals(piece, other)
                ]
                if intervals:
                    found[n, m] = _merged(intervals)
        return found

    def _intervals(self, piece: Piece, other: Piece) -> list[tuple[int, int]]:
        """What base of the piece's group - base of the other's must not be."""
        shift = other.start - piece.start
        below, above = -piece.size, other.size
        if (piece.name, other.name) in self.leads:
            lead = self.leads[piece.name, other.name]
            found = [(below, min(lead, above))]
            if (piece.name, other.name) in self.exact:
                found.append((max(lead, below), above))
        elif (other.name, piece.name) in self.leads:
            lead = -self.leads[other.name, piece.name]
            found = [(max(lead, below), above)]
            if (other.name, piece.name) in self.exact:
                found.append((below, min(lead, above)))
        else:
            found = [(below, above)]
        return [(shift + start, shift + end) for start, end in found]

    def lower_bound(self) -> int:
        """What any placing takes at the fullest operator.

        At an operator all live tensors are apart, but for its own inputs and outputs that may overlap: those count by
        the larger of the two sides, or by a pair's own least extent.
        """
        steps = sorted({piece.first for group in self.groups for piece in group})
        return max((self._bound_at(step) for step in steps), default=0)

    def _bound_at(self, step: int) -> int:
        alive = [[p for p in group if p.first <= step <= p.last] for group in self.groups]
        alone = {group[0].name for group in alive if len(group) == 1}
        names = {piece.name for group in alive for piece in group}
        pairs = {pair: lead for pair, lead in self.leads.items() if names.issuperset(pair)}
        inputs, outputs = {source for source, _ in pairs}, {out for _, out in pairs}
        sizes = {piece.name: piece.size for group in alive for piece in group}

        def extent(without: set[str | int]) -> int:
            return sum(_covered([p for p in group if p.name not in without]) for group in alive)

        both = extent(inputs | outputs)
        best = max(extent(outputs), extent(inputs))
        for (source, out), lead in pairs.items():
            if not alone.issuperset((source, out)):
                continue  # a part of it is counted in `both` already, by what it is a view of
            least = min(lead, sizes[out])
            # Either the output is above, and they are apart; or the input is at least `least` above the output.
            together = max(sizes[out], least + sizes[source], sizes[source])
            best = max(best, both + min(together, sizes[out] + sizes[source]))
        return best


def _covered(pieces: Sequence[Piece]) -> int:
    """Length that pieces of one group cover together."""
    return sum(end - start for start, end in _merged([(p.start, p.start + p.size) for p in pieces]))


def _merged(intervals: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Overlapping intervals made one; those that only touch stay apart, as a place between open ends is free."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        elif start < end:
            merged.append((start, end))
    return tuple(merged)


def build_problem(program: Program, demands: Mapping[int, Demand], alignment: int) -> Problem:
    """Pieces, groups and leads of a Program."""
    alive = {tensor.name: tensor for tensor in lifetimes(program)}
    views = find_views(program, alignment)
    members: dict[str, list[Piece]] = defaultdict(list)
    for name, tensor in alive.items():
        top, start = name, 0
        while top in views:
            top, step = views[top]
            start += step
        members[top].append(Piece(name, start // alignment, -(-tensor.nbytes // alignment), tensor.first, tensor.last))
    groups = [tuple(group) for group in members.values()]
    kept = {name for state in program.states for name in (state.read, state.written)}
    kept.update(port.tensor for port in program.outputs)
    leads: dict[tuple[str | int, str | int], int] = {}
    exact: set[tuple[str | int, str | int]] = set()
    for index, demand in demands.items():
        if demand.scratch_bytes:
            groups.append((Piece(index, 0, -(-demand.scratch_bytes // alignment), index, index),))
        for pair, lead in overlap_leads(program, index, demand).items():
            dies_here = pair[0] not in kept and alive[pair[0]].last == index and alive[pair[1]].first == index
            if dies_here and not (demand.exact and lead % alignment):
                leads[pair] = -(-lead // alignment)
                if demand.exact:
                    exact.add(pair)
    return Problem(tuple(groups), leads, frozenset(exact))


def overlap_leads(program: Program, index: int, demand: Demand) -> dict[tuple[str, str], int]:
    """(input, output) of an operator -> the lead in bytes, where both may overlap; none for several outputs.

    An input that is read twice must allow it twice.
    """
    operator = program.operators[index]
    inputs = [name for name in operator.inputs if program.tensors[name].data is None]
    if len(operator.outputs) > 1 or not demand.leads:
        return {}
    if len(demand.leads) != len(inputs):
        raise ValueError(f"{operator.source}: {len(demand.leads)} leads for {len(inputs)} inputs that are not constant")
    found: dict[tuple[str, str], int] = {}
    for name in inputs:
        wanted = [lead for other, lead in zip(inputs, demand.leads, strict=True) if other == name]
        known = [lead for lead in wanted if lead is not None]
        if len(known) == len(wanted) and not (demand.exact and len(set(known)) > 1):
            found[name, operator.output] = max(known)
    return found

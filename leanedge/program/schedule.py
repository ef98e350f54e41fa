"""The order of operators that needs the least memory: of all orders of small graphs, of promising ones of others."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from leanedge.program.arena.problem import overlap_leads
from leanedge.program.arena.views import find_views

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.program.arena.problem import Demand
    from leanedge.program.types import Program

__all__ = ["order_peak", "reordered", "schedule"]

_WORK = 20_000
"""Sets of done operators kept in all, as many after each step: where there are never more, no order is better."""


def schedule(program: Program, demands: Mapping[int, Demand] | None = None) -> tuple[int, ...]:
    """Operator indices in the order with the least peak of live bytes; the order as it is where none has less.

    It goes through sets of operators that are done, one more at each step; the peak of a set is that of its best order
    (Liberis and Lane, "Neural Networks on Microcontrollers: Saving Memory at Inference via Operator Reordering", 2019).

    Args:
        program: In any valid order.
        demands: Operator index -> what its kernel asks for where that is known: scratch, overlaps.
    """
    costs = _Costs.of(program, demands or {})
    count = len(program.operators)
    width = max(_WORK // max(count, 1), 8)
    reached: dict[int, tuple[int, tuple[int, ...]]] = {0: (0, ())}
    for _ in range(count):
        following: dict[int, tuple[int, tuple[int, ...]]] = {}
        for done, (peak, order) in reached.items():
            for index in range(count):
                if done >> index & 1 or costs.needs[index] & ~done:
                    continue
                candidate = max(peak, costs.bytes_while(done, index))
                after = done | 1 << index
                if after not in following or candidate < following[after][0]:
                    following[after] = (candidate, (*order, index))
        if len(following) > width:
            best = sorted(following.items(), key=lambda item: (item[1][0], costs.live_bytes(item[0]), item[1][1]))
            following = dict(best[:width])
        reached = following
    peak, order = reached[(1 << count) - 1]
    return order if peak < costs.peak_of(range(count)) else tuple(range(count))


def order_peak(program: Program, demands: Mapping[int, Demand] | None = None) -> int:
    """Most bytes alive during an operator, in the Program's own order."""
    return _Costs.of(program, demands or {}).peak_of(range(len(program.operators)))


def reordered(program: Program, order: tuple[int, ...]) -> Program:
    """The Program with its operators in that order; offsets are those of the old order and are taken out."""
    tensors = {name: replace(tensor, offset=None) for name, tensor in program.tensors.items()}
    return replace(program, tensors=tensors, operators=tuple(program.operators[index] for index in order))


@dataclass(frozen=True, eq=False)
class _Costs:
    """What is alive when, by sets of done operators as bit masks.

    Attributes:
        program: Whose.
        demands: Of its kernels.
        needs: For each operator, those that must be done before it.
        readers: Tensor -> operators that read it; -1 for what is needed to the end.
        writer: Tensor -> the operator that writes it; -1 for inputs and states.
        groups: Tensors that share memory, each with its offset.
        leads: For each operator, (input, output) -> the least distance at which they may overlap.
    """

    program: Program
    demands: Mapping[int, Demand]
    needs: tuple[int, ...]
    readers: Mapping[str, int]
    writer: Mapping[str, int]
    groups: tuple[tuple[tuple[str, int], ...], ...]
    leads: tuple[Mapping[tuple[str, str], int], ...]

    @classmethod
    def of(cls, program: Program, demands: Mapping[int, Demand]) -> _Costs:
        writer = {port.tensor: -1 for port in program.inputs} | {state.read: -1 for state in program.states}
        readers: dict[str, int] = defaultdict(int)
        for index, operator in enumerate(program.operators):
            writer.update(dict.fromkeys(operator.outputs, index))
            for name in operator.inputs:
                readers[name] |= 1 << index
        kept = [port.tensor for port in program.outputs]
        kept += [name for state in program.states for name in (state.read, state.written)]
        for name in kept:
            readers[name] = -1
        needs = tuple(
            sum({1 << writer[name] for name in operator.inputs if writer.get(name, -1) >= 0})
            for operator in program.operators
        )
        views, members = find_views(program, 1), defaultdict(list)
        for name in writer:
            top, start = name, 0
            while top in views:
                top, step = views[top]
                start += step
            members[top].append((name, start))
        leads = tuple(
            overlap_leads(program, index, demands[index]) if index in demands else {}
            for index in range(len(program.operators))
        )
        groups = tuple(tuple(group) for group in members.values())
        return cls(program, demands, needs, readers, writer, groups, leads)

    def _alive(self, done: int, name: str) -> bool:
        writer = self.writer[name]
        return bool((writer < 0 or done >> writer & 1) and self.readers[name] & ~done)

    def _covered(self, names: set[str]) -> int:
        total = 0
        for group in self.groups:
            if len(group) == 1:
                total += self.program.tensors[group[0][0]].nbytes if group[0][0] in names else 0
                continue
            end = 0
            for start, stop in sorted(
                (start, start + self.program.tensors[name].nbytes) for name, start in group if name in names
            ):
                total += max(0, stop - max(start, end))
                end = max(end, stop)
        return total

    def live_bytes(self, done: int) -> int:
        """Bytes that are needed after these operators."""
        return self._covered({name for name in self.writer if self._alive(done, name)})

    def bytes_while(self, done: int, index: int) -> int:
        """Bytes alive while an operator runs after these."""
        operator = self.program.operators[index]
        names = {name for name in self.writer if self._alive(done, name)} | set(operator.outputs)
        scratch = self.demands[index].scratch_bytes if index in self.demands else 0
        saved = 0
        for (source, out), lead in self.leads[index].items():
            if not self.readers[source] & ~(done | 1 << index):
                sizes = self.program.tensors[source].nbytes, self.program.tensors[out].nbytes
                saved = max(saved, sum(sizes) - max(*sizes, lead + sizes[0]))
        return self._covered(names) + scratch - saved

    def peak_of(self, order: range) -> int:
        done, peak = 0, 0
        for index in order:
            peak = max(peak, self.bytes_while(done, index))
            done |= 1 << index
        return peak

"""The arena of a microcontroller: where each tensor and each kernel's scratch lies, in as few bytes as can be.

Tensors overlap where a kernel allows it (in place, or an output that trails its input), and views (reshape, contiguous
split, slice and concatenation) share their memory with what they view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from leanedge.program.arena.exact import improve
from leanedge.program.arena.greedy import place_groups
from leanedge.program.arena.problem import Demand, build_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.program.types import Program

__all__ = ["ArenaPlan", "Demand", "plan_arena"]


@dataclass(frozen=True)
class ArenaPlan:
    """A plan, and how good it is known to be.

    Attributes:
        offsets: Tensor -> byte offset; every tensor that is not constant.
        scratch: Operator index -> byte offset of its kernel's working memory, where it wants any.
        arena_bytes: What all take together.
        lower_bound: No plan for this operator order and these kernels takes less.
        alignment: Of every offset and of the arena, in bytes.
    """

    offsets: Mapping[str, int]
    scratch: Mapping[int, int]
    arena_bytes: int
    lower_bound: int
    alignment: int

    @property
    def optimal(self) -> bool:
        """Whether it is proved that no plan takes less."""
        return self.arena_bytes == self.lower_bound

    @property
    def proof(self) -> str:
        """How good the plan is, in words."""
        if self.optimal:
            return "no plan for this order takes less"
        over = self.arena_bytes - self.lower_bound
        return f"at most {over} bytes ({over / self.lower_bound:.1%}) above the least possible"


def plan_arena(program: Program, demands: Mapping[int, Demand], alignment: int = 4) -> ArenaPlan:
    """Places every tensor that is not constant.

    Args:
        program: With its operators in the order of execution.
        demands: Operator index -> what its kernel asks for; operators that are not here want no scratch, and their
            outputs overlap no input.
        alignment: In bytes.
    """
    problem = build_problem(program, demands, alignment)
    bases = place_groups(problem)
    used, bound = problem.used(bases), problem.lower_bound()
    if used > bound:
        bases, bound = improve(problem, bases, bound)
        used = problem.used(bases)
    places = {
        piece.name: (bases[n] + piece.start) * alignment for n, group in enumerate(problem.groups) for piece in group
    }
    return ArenaPlan(
        {name: at for name, at in places.items() if isinstance(name, str)},
        {name: at for name, at in places.items() if isinstance(name, int)},
        used * alignment,
        bound * alignment,
        alignment,
    )

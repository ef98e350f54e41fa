"""The least arena by mixed integer programming, for networks small enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.program.arena.problem import Problem

__all__ = ["improve"]

_MOST_CHOICES = 400
"""Binary variables beyond which nothing is gained in the nodes allowed."""

_NODES = 20_000
"""Nodes of the search: a limit that is the same on every machine, unlike a time."""


def improve(problem: Problem, bases: Sequence[int], bound: int) -> tuple[list[int], int]:
    """A plan no worse than `bases`, and a lower bound no worse than `bound`.

    Each pair of groups that live together is above or below each interval that their distance must avoid.
    """
    import highspy

    used = problem.used(bases)
    if sum(len(intervals) for intervals in problem.forbidden.values()) > _MOST_CHOICES:
        return list(bases), bound
    model = highspy.Highs()
    model.silent()
    for option, value in (("threads", 1), ("random_seed", 0), ("mip_max_nodes", _NODES), ("mip_rel_gap", 0.0)):
        model.setOptionValue(option, value)
    end = model.addVariable(lb=bound, ub=used, type=highspy.HighsVarType.kInteger)
    places = [model.addVariable(lb=0, ub=used - top, type=highspy.HighsVarType.kInteger) for top in problem.tops]
    for place, top in zip(places, problem.tops, strict=True):
        model.addConstr(end - place >= top)
    for (group, other), intervals in problem.forbidden.items():
        for low, high in intervals:
            above = model.addBinary()
            # above: distance >= high; else: distance <= low. `far` is more than any distance can be wrong by.
            far_up, far_down = high + used, used - low
            model.addConstr(places[group] - places[other] - far_up * above >= high - far_up)
            model.addConstr(places[group] - places[other] - far_down * above <= low)
    model.minimize(end)
    if model.getInfo().primal_solution_status != 2:
        return list(bases), bound
    found = [round(model.val(place)) for place in places]
    proved = max(bound, -int(-(model.getInfo().mip_dual_bound - 1e-6) // 1))
    best = found if problem.used(found) < used else list(bases)
    return best, min(proved, problem.used(best))

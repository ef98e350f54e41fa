"""Places groups one after another as low as they go, in many orders."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.program.arena.problem import Problem

__all__ = ["place_groups"]

_RETRIES = 8
"""Tries of each order, each with the group that reached highest put first."""

_SHUFFLES = 60
"""Exchanges of two groups in the best order."""


def place_groups(problem: Problem) -> list[int]:
    """The base of each group in the best plan found.

    Orders: largest first (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020), by
    time from either end; then exchanges in the best one, from a fixed seed.
    """
    count = len(problem.groups)
    if not count:
        return []
    first = [min(piece.first for piece in group) for group in problem.groups]
    last = [max(piece.last for piece in group) for group in problem.groups]
    orders = [
        sorted(range(count), key=lambda n: (-problem.tops[n], first[n], n)),
        sorted(range(count), key=lambda n: (-problem.tops[n], -last[n], n)),
        sorted(range(count), key=lambda n: (first[n], -problem.tops[n], n)),
        sorted(range(count), key=lambda n: (-last[n], -problem.tops[n], n)),
    ]
    least = problem.lower_bound()
    best: list[int] = []
    best_order: list[int] = []
    for start in orders:
        order = start
        for _ in range(_RETRIES):
            bases = _place(problem, order)
            if not best or problem.used(bases) < problem.used(best):
                best, best_order = bases, order
            if problem.used(best) <= least:
                return best
            top = max(order, key=lambda n: bases[n] + problem.tops[n])
            order = [top, *(n for n in order if n != top)]
    seeded = random.Random(0)  # noqa: S311 - no secret: the same plan every time
    for _ in range(_SHUFFLES if count > 1 else 0):
        order = list(best_order)
        one, other = seeded.sample(range(count), 2)
        order[one], order[other] = order[other], order[one]
        bases = _place(problem, order)
        if problem.used(bases) <= problem.used(best):
            best, best_order = bases, order
        if problem.used(best) <= least:
            break
    return best


def _place(problem: Problem, order: Sequence[int]) -> list[int]:
    bases = [-1] * len(order)
    placed: list[int] = []
    for group in order:
        taken = []
        for other in placed:
            pair = (min(group, other), max(group, other))
            for start, end in problem.forbidden.get(pair, ()):
                # base(first) - base(second) must not be in (start, end).
                taken.append(
                    (bases[other] + start, bases[other] + end)
                    if group < other
                    else (bases[other] - end, bases[other] - start)
                )
        base = 0
        for start, end in sorted(taken):
            if start >= base:
                break
            base = max(base, end)
        bases[group] = base
        placed.append(group)
    return bases

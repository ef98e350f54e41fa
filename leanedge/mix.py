"""``mixed``: the operators that lose most stay in float, as few as keep the loss within what is allowed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from leanedge.compress.quantize.sensitivity import rank_operators
from leanedge.evaluate import pruned
from leanedge.target import load_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from leanedge.candidates import Candidate
    from leanedge.evaluate import Evaluation, Workbench

__all__ = ["mixed_candidates"]

FLOAT_COUNTS = (1, 2, 4, 8, 16)
"""How many operators are left in float, tried in turn."""


def mixed_candidates(made: Sequence[Evaluation], bench: Workbench) -> Iterator[Candidate]:
    """Candidates with sensitive operators in float, for each runtime whose dense ``w8a8`` loses more than allowed.

    A fully integer row always stands beside them. `made` grows while this runs: a runtime is done as soon as one of
    its mixed candidates keeps the allowed drop.

    Args:
        made: What was made so far; the caller appends each candidate that it gets from here.
        bench: What candidates are made from.
    """
    lossy = [
        item
        for item in made
        if (item.candidate.scheme, item.candidate.pattern) == ("w8a8", "dense") and not item.keeps(bench.max_drop)
    ]
    for item in lossy:
        target = load_target(item.candidate.kind)
        if "mixed" not in target.schemes:
            continue
        graph, _ = pruned(item.candidate, bench)
        ranked = [name for name, _ in rank_operators(graph, bench.steps, target.rules)]
        for count in FLOAT_COUNTS:
            if count >= len(ranked):
                break
            candidate = replace(item.candidate, scheme="mixed", float_operators=tuple(sorted(ranked[:count])))
            yield candidate
            if made[-1].candidate == candidate and made[-1].keeps(bench.max_drop):
                break

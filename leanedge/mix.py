"""``mixed``: the operators that lose most stay in float, as few as keep the loss within what is allowed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from leanedge.compress.quantize.sensitivity import rank_operators
from leanedge.evaluate import Evaluation
from leanedge.target import load_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from leanedge.candidates import Candidate, Refusal
    from leanedge.evaluate import Workbench

__all__ = ["mixed_candidates"]

FLOAT_COUNTS = (1, 2, 4, 8, 16)
"""How many operators may be left in float; the least that is enough is found by halving."""


def mixed_candidates(results: Mapping[Candidate, Evaluation | Refusal], bench: Workbench) -> Iterator[Candidate]:
    """Candidates with sensitive operators in float, for each runtime whose dense ``w8a8`` loses more than allowed.

    One that failed its check counts as losing too much: what a runtime computes may part from the file where int8 is
    too coarse. The fully integer row always stands beside the mixed ones. `results` grows while this runs: what came of
    one candidate tells which is next.

    Args:
        results: What came of each candidate so far; the caller adds what comes of those that it gets from here.
        bench: What candidates are made from.
    """
    lossy = [
        candidate
        for candidate, result in results.items()
        if (candidate.scheme, candidate.pattern) == ("w8a8", "dense") and not _good(result, bench.max_drop)
    ]
    for integer in lossy:
        target = load_target(integer.kind)
        if "mixed" not in target.schemes:
            continue
        ranked = [name for name, _ in rank_operators(bench.graph, bench.steps, target.rules)]
        counts = [count for count in FLOAT_COUNTS if count < len(ranked)]
        first, last = 0, len(counts)
        while first < last:
            middle = (first + last) // 2
            candidate = replace(integer, scheme="mixed", float_operators=tuple(sorted(ranked[: counts[middle]])))
            yield candidate
            result = results[candidate]
            if isinstance(result, Evaluation) and result.keeps(bench.max_drop):
                last = middle
            else:
                first = middle + 1


def _good(result: Evaluation | Refusal, max_drop: float) -> bool:
    """Whether nothing is to be mended: it keeps the drop, or was refused for what is not a matter of accuracy."""
    return result.keeps(max_drop) if isinstance(result, Evaluation) else result.status != "failed"

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
"""How many operators are left in float, tried in turn."""


def mixed_candidates(results: Mapping[Candidate, Evaluation | Refusal], bench: Workbench) -> Iterator[Candidate]:
    """Candidates with sensitive operators in float, for each runtime whose dense ``w8a8`` loses more than allowed.

    One that failed its check counts as losing too much: what a runtime computes may part from the file where int8 is
    too coarse. The fully integer row always stands beside the mixed ones. `results` grows while this runs: a runtime
    is done as soon as one of its mixed candidates keeps the allowed drop.

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
        for count in FLOAT_COUNTS:
            if count >= len(ranked):
                break
            candidate = replace(integer, scheme="mixed", float_operators=tuple(sorted(ranked[:count])))
            yield candidate
            result = results[candidate]
            if isinstance(result, Evaluation) and result.keeps(bench.max_drop):
                break


def _good(result: Evaluation | Refusal, max_drop: float) -> bool:
    """Whether nothing is to be mended: it keeps the drop, or was refused for what is not a matter of accuracy."""
    return result.keeps(max_drop) if isinstance(result, Evaluation) else result.status != "failed"

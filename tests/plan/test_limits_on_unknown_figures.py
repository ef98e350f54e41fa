"""A limit on a figure that is not known can't be promised: the candidate is refused, or the build when it is all."""

from __future__ import annotations

import pytest
from test_choose import row

from leanedge.budget import Budget
from leanedge.errors import UsageError
from leanedge.pipeline import _against_budget
from leanedge.plan import Priced
from leanedge.pricing import Pricing

LIMIT = Budget(latency_ms=2.0)


def parts(rows: list[Priced]) -> tuple[list, Pricing]:
    return [each.evaluation for each in rows], Pricing({each.id: each.estimate for each in rows}, ())


def test_a_candidate_of_unknown_latency_is_refused_and_the_others_stand() -> None:
    made, pricing = parts([row("known", 1.0), row("unknown", None), row("slow", 5.0)])
    priced, refused = _against_budget(made, pricing, LIMIT, interrupted=False)
    assert [(each.evaluation.candidate.runtime, dict(each.excess)) for each in priced] == [
        ("known", {}),
        ("slow", {"latency_ms": 3.0}),
    ]
    assert [(each.candidate.runtime, each.status) for each in refused] == [("unknown", "refused")]
    assert "latency_ms can't be checked: the figure is unavailable (no cell)" in refused[0].reason


def test_known_of_none_is_an_error_unless_the_build_was_interrupted() -> None:
    made, pricing = parts([row("a", None), row("b", None)])
    with pytest.raises(UsageError, match="leave latency out of the budget"):
        _against_budget(made, pricing, LIMIT, interrupted=False)
    priced, refused = _against_budget(made, pricing, LIMIT, interrupted=True)
    assert not priced
    assert len(refused) == 2


def test_without_a_limit_nothing_is_refused() -> None:
    made, pricing = parts([row("a", None), row("b", 1.0)])
    assert len(_against_budget(made, pricing, Budget(), interrupted=False)[0]) == 2

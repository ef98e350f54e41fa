"""The rule of choice on made-up candidates: budget, margin, both objectives, every kind of tie."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from leanedge.budget import Budget, Estimate
from leanedge.candidates import Candidate
from leanedge.evaluate import Evaluation
from leanedge.figures import Figure, unavailable
from leanedge.metric import Score
from leanedge.plan import Choice, Objective, Priced, choose
from leanedge.target import Artifact

NOWHERE = Artifact("kind", "runtime", Path("/nonexistent"), (), {}, {})


@dataclass(frozen=True)
class Sized(Evaluation):
    """An evaluation whose files are made up."""

    size: int = 1000

    @property
    def file_bytes(self) -> int:
        return self.size


def latency(
    value: float | None, *, cells: Any = None, low: float = 0.0, high: float = 0.0, spread: float = 0.0
) -> Figure:
    """Predicted with `cells`, measured without; None is not known."""
    if value is None:
        return unavailable("ms", "no cell")
    if cells is None:
        return Figure(value, "ms", "measured", {"spread_ms": spread})
    return Figure(value, "ms", "predicted", {"cells": cells, "low_ms": low or value, "high_ms": high or value})


def row(
    name: str,
    ms: float | Figure | None = 1.0,
    *,
    drop: float = 0.0,
    error: float = 0.0,
    size: int = 1000,
    width: float | None = 0.0,
    budget: Budget | None = None,
    scale: float = 100.0,
) -> Priced:
    """A candidate of runtime `name`; its score is 0.9 less the drop, its 95 % interval `width` wide."""
    value = 0.9 - drop / scale
    ends = (None, None) if width is None else (value - width / 2, value + width / 2)
    figure = ms if isinstance(ms, Figure) else latency(ms)
    made = Sized(
        Candidate("w8a8", "dense", 0.0, "kind", name),
        NOWHERE,
        Score(value, 100, *ends),
        drop,
        error,
        {},
        {},
        {},
        False,
        size,
    )
    estimate = Estimate(
        figure, Figure(5.0, "bytes", "measured"), Figure(size, "bytes", "proved"), unavailable("uJ", "no")
    )
    return Priced(made, estimate, (budget or Budget()).excess(estimate))


def name_of(priced: Priced) -> str:
    return priced.evaluation.candidate.runtime


def chosen(rows: list[Priced], objective: Objective = "latency", max_drop: float = 1.0) -> str | None:
    found = choose(rows, Budget(), max_drop, objective).chosen
    return None if found is None else name_of(found)


def order(choice: Choice) -> list[str]:
    return [name_of(each) for each in choice.ranked]


def test_the_fastest_within_the_allowed_drop_wins() -> None:
    rows = [row("slow", 3.0), row("fast", 1.0), row("lossy", 0.1, drop=2.0)]
    found = choose(rows, Budget(), 1.0, "latency")
    assert order(found) == ["fast", "slow", "lossy"]
    assert found.why == "the fastest of 2 candidates that lose at most 1 points; it loses nothing on the selection set"


def test_the_margin_is_two_standard_errors_but_for_those_that_lose_nothing() -> None:
    assert chosen([row("a", 2.0), row("b", 1.0, drop=0.8, error=0.15)]) == "a"
    assert chosen([row("a", 2.0), row("b", 1.0, drop=0.7, error=0.15)]) == "b"
    assert chosen([row("a", 2.0), row("b", 1.0, drop=0.0, error=5.0)]) == "b"
    assert chosen([row("a", 2.0), row("b", 1.0, drop=-0.5, error=5.0)], max_drop=0.0) == "b"


def test_with_the_objective_accuracy_the_least_loss_within_the_budget_wins() -> None:
    budget = Budget(latency_ms=2.0)
    rows = [
        row("best", 3.0, budget=budget),
        row("good", 1.5, drop=0.2, budget=budget),
        row("fast", 1.0, drop=0.5, budget=budget),
    ]
    found = choose(rows, budget, 1.0, "accuracy")
    assert order(found) == ["good", "fast", "best"]
    assert found.why == "the least loss of 2 candidates that fit the budget; it loses 0.20 points on the selection set"


def test_predictions_of_one_constant_are_tied_within_5_percent_of_counts() -> None:
    wide: dict[str, Any] = {"cells": ["board ort int8 x4"], "low": 0.1, "high": 9.0}
    near = [row("a", latency(1.0, **wide), size=1000), row("b", latency(1.05, **wide), size=900)]
    assert chosen(near) == "b"
    far = [row("a", latency(1.0, **wide), size=1000), row("b", latency(1.051, **wide), size=900)]
    assert chosen(far) == "a"


def test_predictions_of_two_constants_are_tied_unless_nine_in_ten_such_orders_are_right() -> None:
    # Standard errors of the logarithms: log(4) / 3.29 = 0.42 and log(2) / 3.29 = 0.21, together 0.47; 1.28 times: 1.83.
    fast = row("a", latency(1.0, cells=["x"], low=0.5, high=2.0), size=1000)
    assert chosen([fast, row("b", latency(1.8, cells=["y"], low=1.3, high=2.6), size=900)]) == "b"
    assert chosen([fast, row("b", latency(1.9, cells=["y"], low=1.35, high=2.7), size=900)]) == "a"


def test_measurements_are_tied_when_the_intervals_between_their_quartiles_overlap() -> None:
    fast = row("a", latency(1.0, spread=0.2), size=1000)  # 0.9 to 1.1
    assert chosen([fast, row("b", latency(1.3, spread=0.4), size=900)]) == "b"  # 1.1 to 1.5
    assert chosen([fast, row("b", latency(1.3, spread=0.3), size=900)]) == "a"


def test_of_the_tied_the_smaller_then_the_less_lossy_then_the_smaller_id() -> None:
    same = latency(1.0, spread=1.0)
    assert chosen([row("a", same, size=10), row("b", same, size=9, drop=0.9)]) == "b"
    assert chosen([row("a", same, drop=0.2), row("b", same, drop=0.1)]) == "b"
    assert chosen([row("a", same, drop=-0.2), row("b", same, drop=-0.4)]) == "a"  # gains count as no loss
    assert chosen([row("b", same), row("a", same)]) == "a"


def test_the_tied_are_listed_in_order() -> None:
    rows = [
        row(name, latency(1.0 + place / 100, spread=1.0), size=size)
        for place, (name, size) in enumerate([("a", 3), ("b", 1), ("c", 2)])
    ]
    found = choose([*rows, row("far", 9.0, size=1)], Budget(), 1.0, "latency")
    assert order(found) == ["b", "a", "c", "far"]
    assert found.tied == tuple(each.id for each in found.ranked[1:3])
    assert found.why.endswith("2 more are no further away than the figures are sure, of these it is smallest")


def test_losses_closer_than_half_a_standard_error_are_tied_and_the_faster_wins() -> None:
    exact = row("exact", 2.0, width=0.04)  # its standard error is about 1 point
    assert chosen([exact, row("fast", 1.0, drop=0.49)], "accuracy") == "fast"
    assert chosen([exact, row("fast", 1.0, drop=0.51)], "accuracy") == "exact"
    found = choose([exact, row("fast", 1.0, drop=0.49)], Budget(), 1.0, "accuracy")
    assert found.why.endswith("of these it is fastest")


def test_losses_in_relative_percent_are_compared_in_their_own_unit() -> None:
    # A metric of relative percent: a score of 0.009 less is 1 % of 0.9.
    exact = row("exact", 2.0, width=0.036, scale=100 / 0.9)
    assert chosen([exact, row("fast", 1.0, drop=0.49, scale=100 / 0.9)], "accuracy") == "fast"
    assert chosen([exact, row("fast", 1.0, drop=0.51, scale=100 / 0.9)], "accuracy") == "exact"


def test_candidates_that_lose_nothing_are_tied_however_much_they_gain() -> None:
    rows = [row("small", 2.0, drop=-0.1, size=1), row("fast", 1.0, drop=-0.9, size=2)]
    assert chosen(rows, "accuracy") == "fast"


def test_without_an_interval_only_equal_losses_are_tied() -> None:
    exact = row("exact", 2.0, drop=0.1, width=None)
    assert chosen([exact, row("fast", 1.0, drop=0.1, width=None)], "accuracy") == "fast"
    assert chosen([exact, row("fast", 1.0, drop=0.1001, width=None)], "accuracy") == "exact"


def test_an_unknown_latency_is_never_the_fastest() -> None:
    rows = [row("unknown", None, size=1), row("known", 5.0)]
    assert order(choose(rows, Budget(), 1.0, "latency")) == ["known", "unknown"]
    assert chosen([row("unknown", None, size=1), row("known", 5.0, drop=2.0)]) == "unknown"
    assert chosen(rows, "accuracy") == "known"  # no loss in both: the known one is faster than one can say of the other


def test_where_no_latency_is_known_size_stands_in() -> None:
    rows = [row("big", None, size=20), row("small", None, size=10, drop=0.5)]
    found = choose(rows, Budget(), 1.0, "latency")
    assert order(found) == ["small", "big"]
    assert found.why.startswith("the smallest of 2 candidates that lose at most 1 points (no latency is known here)")
    tied = choose([row("big", None, size=20), row("small", None, size=10)], Budget(), 1.0, "accuracy")
    assert order(tied) == ["small", "big"]
    assert tied.why.endswith("of these it is smallest")


def test_nothing_fits_and_the_closest_stands_first() -> None:
    budget = Budget(latency_ms=1.0, flash_bytes=1000)
    rows = [
        row("slow", 3.0, budget=budget),  # 2 times over
        row("big", 0.5, size=1500, budget=budget),  # half over
        row("lossy", 0.5, drop=1.0, error=0.125, budget=budget),  # a quarter over
    ]
    found = choose(rows, budget, 1.0, "latency")
    assert found.chosen is None
    assert found.tied == ()
    assert order(found) == ["lossy", "big", "slow"]
    assert found.why == (
        "nothing fits; the closest, w8a8/dense/lossy, is over the allowed drop by 0.25 "
        "(twice its standard error included)"
    )
    assert "flash_bytes by 500" in choose(rows[:2], budget, 1.0, "latency").why


def test_no_candidates_are_no_choice() -> None:
    assert choose([], Budget(), 1.0, "latency") == Choice((), None, "no candidate could be made")


def test_with_no_drop_allowed_distance_is_the_loss_itself() -> None:
    rows = [row("a", 1.0, drop=0.5), row("b", 1.0, drop=0.3, error=0.05)]
    found = choose(rows, Budget(), 0.0, "latency")
    assert found.chosen is None
    assert order(found) == ["b", "a"]


def test_those_that_do_not_fit_follow_by_distance() -> None:
    budget = Budget(flash_bytes=100)
    rows = [
        row("fits", 9.0, size=100, budget=budget),
        row("far", 1.0, size=400, budget=budget),
        row("near", 1.0, size=101, budget=budget),
    ]
    assert order(choose(rows, budget, 1.0, "accuracy")) == ["fits", "near", "far"]


def made_up_rows() -> st.SearchStrategy[list[Priced]]:
    """Rows with few different values, so that ties of every kind come up."""
    values = st.sampled_from([1.0, 1.02, 1.04, 1.2, 2.0, 4.0])
    figures = st.one_of(
        st.none(),
        st.builds(lambda value, spread: latency(value, spread=spread), values, st.sampled_from([0.0, 0.1, 0.5])),
        st.builds(
            lambda value, cell, part: latency(value, cells=[cell], low=value / part, high=value * part),
            values,
            st.sampled_from("xy"),
            st.sampled_from([1.1, 2.0]),
        ),
    )
    one = st.tuples(
        figures,
        st.sampled_from([-0.5, 0.0, 0.3, 0.9, 1.0, 3.0]),
        st.sampled_from([0.0, 0.2]),
        st.sampled_from([500, 900, 1000, 5000]),
        st.sampled_from([None, 0.0, 0.02, 0.05]),
    )
    budget = Budget(flash_bytes=1000)
    return st.lists(one, min_size=1, max_size=8).map(
        lambda facts: [
            row(f"r{place}", ms, drop=drop, error=error, size=size, width=width, budget=budget)
            for place, (ms, drop, error, size, width) in enumerate(facts)
        ]
    )


@given(made_up_rows(), st.sampled_from(["latency", "accuracy"]), st.sampled_from([0.0, 1.0]), st.randoms())
def test_the_order_of_candidates_does_not_matter(
    rows: list[Priced], objective: Objective, max_drop: float, shuffler: random.Random
) -> None:
    other = list(rows)
    shuffler.shuffle(other)
    assert choose(other, Budget(), max_drop, objective) == choose(rows, Budget(), max_drop, objective)


@given(made_up_rows(), st.sampled_from(["latency", "accuracy"]), st.sampled_from([0.0, 1.0]))
def test_what_is_chosen_fits_and_nothing_that_fits_is_surely_better(
    rows: list[Priced], objective: Objective, max_drop: float
) -> None:
    found = choose(rows, Budget(), max_drop, objective)
    fitting = [each for each in rows if not each.excess and each.evaluation.keeps(max_drop)]
    assert sorted(each.id for each in found.ranked) == sorted(each.id for each in rows)
    assert {each.id for each in found.ranked[: len(fitting)]} == {each.id for each in fitting}
    assert (found.chosen is None) == (not fitting)
    if found.chosen is None:
        return
    assert found.chosen is found.ranked[0]
    assert set(found.tied) == {each.id for each in found.ranked[1 : 1 + len(found.tied)]}
    alone = [each for each in fitting if each.id not in (*found.tied, found.chosen.id)]
    for each in alone:  # what isn't tied is worse
        if objective == "accuracy":
            assert each.evaluation.drop > found.chosen.evaluation.drop
        elif each.estimate.latency_ms.value is not None:
            fastest = min(r.estimate.latency_ms.value for r in fitting if r.estimate.latency_ms.value is not None)
            assert each.estimate.latency_ms.value > fastest


def test_of_two_equally_fast_the_smaller_id_leads() -> None:
    # Which of them leads decides how far a tie reaches: only b's interval reaches c.
    narrow, wide = row("a", latency(1.0, spread=0.0)), row("b", latency(1.0, spread=1.0))
    reached = row("c", latency(1.4, spread=0.0), size=1)
    for rows in ([narrow, wide, reached], [wide, narrow, reached]):
        assert chosen(rows) == "a"


def test_the_tied_stand_before_those_that_are_surely_slower() -> None:
    rows = [row("a", latency(1.0, spread=0.2), size=1), row("sure", latency(1.2)), row("c", latency(1.5, spread=1.0))]
    assert order(choose(rows, Budget(), 1.0, "latency")) == ["a", "c", "sure"]


def test_a_loss_that_the_score_does_not_show_is_no_tie() -> None:
    rows = [row("exact", 2.0, width=0.5), row("fast", 1.0, drop=0.1, width=0.5, scale=float("inf"))]
    assert chosen(rows, "accuracy") == "exact"


def test_with_no_drop_allowed_a_small_loss_is_closer_than_a_large_file() -> None:
    budget = Budget(flash_bytes=100)
    rows = [row("big", 1.0, size=150, budget=budget), row("lossy", 1.0, drop=0.3, size=100, budget=budget)]
    assert order(choose(rows, budget, 0.0, "latency")) == ["lossy", "big"]

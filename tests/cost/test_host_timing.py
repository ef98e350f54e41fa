"""Measured latency: the logic, by clocks that the test turns."""

from __future__ import annotations

import gc
from statistics import median
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanedge.cost.host_timing import Clocks, Timing, measure, median_interval, ties
from leanedge.errors import UsageError


class Machine:
    """A machine with one clock; candidates turn it forward."""

    def __init__(self) -> None:
        self.wall = 0.0
        self.cpu = 0.0
        self.order: list[str] = []
        self.clocks = Clocks(lambda: self.wall, lambda: self.cpu, lambda: self.cpu)

    def candidate(self, name: str, *seconds: float, wait: tuple[float, ...] = (0.0,)) -> Any:
        """Takes the given CPU seconds and waits, in turn."""
        calls = 0

        def run(sample: Any) -> None:
            nonlocal calls
            assert sample == "sample"
            self.order.append(name)
            took = seconds[calls % len(seconds)]
            self.cpu += took
            self.wall += took + wait[calls % len(wait)]
            calls += 1

        return run


def _measure(machine: Machine, threads: int = 1, **runs: Any) -> dict[str, Timing]:
    return measure(runs, "sample", threads, budget_s=1.0, clocks=machine.clocks)


def test_a_quiet_machine() -> None:
    machine = Machine()
    timings = _measure(machine, base=machine.candidate("base", 0.02), fast=machine.candidate("fast", 0.01))
    assert timings["base"].median_ms == pytest.approx(20)
    assert timings["fast"].median_ms == pytest.approx(10)
    assert timings["fast"].ratio == pytest.approx(2)
    assert timings["fast"].ratio_low == pytest.approx(2)
    assert timings["fast"].ratio_high == pytest.approx(2)
    assert timings["base"].ratio == 1
    assert timings["base"].rejected == timings["fast"].rejected == 0
    assert not timings["fast"].disturbed
    assert 1 / 0.03 <= timings["fast"].runs <= 1 / 0.03 + 2  # the budget


def test_disturbed_runs_are_left_out() -> None:
    machine = Machine()
    waits = (0.0, 0.0, 0.03)
    timings = _measure(
        machine, base=machine.candidate("base", 0.02), other=machine.candidate("other", 0.01, wait=waits)
    )
    assert timings["other"].median_ms == pytest.approx(10)
    assert timings["other"].spread_ms == pytest.approx(0, abs=1e-9)
    assert timings["other"].rejected == pytest.approx(timings["other"].runs / 2, abs=1)
    assert timings["other"].ratio == pytest.approx(2)
    assert timings["base"].rejected == 0


def test_five_percent_of_waiting_is_tolerated() -> None:
    machine = Machine()
    timings = _measure(
        machine,
        base=machine.candidate("base", 0.02, wait=(0.02 * 0.049,)),
        other=machine.candidate("other", 0.02, wait=(0.0, 0.02 * 0.051)),
    )
    assert timings["base"].rejected == 0
    assert timings["other"].rejected > 0


def test_a_machine_that_is_always_busy_gives_cpu_time_and_says_so() -> None:
    machine = Machine()
    timings = _measure(
        machine,
        base=machine.candidate("base", 0.02, wait=(0.05, 0.09)),
        other=machine.candidate("other", 0.01, wait=(0.2,)),
    )
    assert timings["base"].disturbed
    assert timings["base"].median_ms == pytest.approx(20)
    assert timings["other"].median_ms == pytest.approx(10)
    assert timings["other"].ratio == pytest.approx(2)
    assert timings["other"].rejected == timings["other"].runs
    assert "busy" in timings["other"].to_figure().detail["note"]


def test_with_threads_a_run_is_judged_by_the_best_ones() -> None:
    machine = Machine()
    machine.clocks = Clocks(lambda: machine.wall, lambda: 0.0, lambda: 3 * machine.cpu)
    timings = _measure(
        machine,
        threads=4,
        base=machine.candidate("base", 0.02),
        other=machine.candidate("other", 0.01, wait=(0.0, 0.0, 0.0, 0.01)),
    )
    assert timings["other"].median_ms == pytest.approx(10)
    assert timings["other"].rejected > 0
    assert timings["other"].cpu_ms == pytest.approx(30)
    assert timings["base"].rejected == 0
    assert timings["base"].threads == 4


def test_candidates_take_turns_and_nobody_is_always_first() -> None:
    machine = Machine()
    _measure(machine, **{name: machine.candidate(name, 0.01) for name in "abc"})
    after_warm_up = machine.order[9:]
    rounds = [after_warm_up[i : i + 3] for i in range(0, len(after_warm_up), 3)]
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert {one[0] for one in rounds} == {"a", "b", "c"}


def test_short_inferences_are_timed_several_at_a_time() -> None:
    machine = Machine()
    timings = _measure(machine, base=machine.candidate("base", 1e-5), slow=machine.candidate("slow", 0.01))
    assert timings["base"].inferences == 100
    assert timings["base"].median_ms == pytest.approx(0.01)
    assert timings["slow"].inferences == 1


def test_slow_candidates_get_five_rounds_over_the_budget() -> None:
    machine = Machine()
    timings = _measure(machine, base=machine.candidate("base", 10.0), other=machine.candidate("other", 5.0))
    assert timings["base"].runs == timings["other"].runs == 5


def test_the_baseline_can_be_named_and_must_exist() -> None:
    machine = Machine()
    runs = {"a": machine.candidate("a", 0.01), "b": machine.candidate("b", 0.02)}
    timings = measure(runs, "sample", budget_s=0.5, baseline="b", clocks=machine.clocks)
    assert timings["a"].ratio == pytest.approx(2)
    assert timings["b"].ratio == 1
    with pytest.raises(UsageError, match="unknown baseline 'c'"):
        measure(runs, "sample", baseline="c", clocks=machine.clocks)
    with pytest.raises(UsageError, match="no candidate"):
        measure({}, "sample")


def test_an_error_of_a_candidate_comes_through_and_the_collector_runs_again() -> None:
    def broken(sample: Any) -> None:
        assert not gc.isenabled()
        raise RuntimeError("the runtime refused")

    with pytest.raises(RuntimeError, match="the runtime refused"):
        measure({"broken": broken}, "sample")
    assert gc.isenabled()


def test_real_clocks_agree_with_the_figure() -> None:
    timing = measure({"sum": sum}, range(1000), budget_s=0.02)["sum"]
    figure = timing.to_figure()
    assert figure.value == timing.median_ms > 0
    assert figure.how == "measured"
    assert figure.detail["runs"] == timing.runs >= 5
    assert figure.detail["where"] == "this machine"


def _timing(median_ms: float, spread_ms: float) -> Timing:
    return Timing(median_ms, spread_ms, 9, 0, 1, median_ms, 1, 1, 1, 1, disturbed=False)


def test_ties_are_within_the_spread_of_the_fastest() -> None:
    timings = {"d": _timing(1.0, 0.1), "b": _timing(1.05, 0.01), "c": _timing(1.12, 0.01), "a": _timing(1.14, 0.05)}
    assert ties(timings) == (("b", "d"), ("a", "c"))
    assert ties({"x": _timing(1.0, 0.0), "y": _timing(1.0, 0.0)}) == (("x", "y"),)
    assert ties({}) == ()


def test_the_interval_of_a_median_is_the_binomial_one() -> None:
    """Conover, Practical Nonparametric Statistics, table of the sign test: n = 20 takes the 6th and the 15th."""
    assert median_interval([float(value) for value in range(1, 21)]) == (6.0, 15.0)
    assert median_interval([float(value) for value in range(1, 11)]) == (2.0, 9.0)
    assert median_interval([3.0, 1.0]) == (1.0, 3.0)


@given(st.lists(st.floats(min_value=-1e6, max_value=1e6), min_size=1, max_size=60))
def test_the_interval_holds_the_median(values: list[float]) -> None:
    low, high = median_interval(values)
    assert min(values) <= low <= median(values) <= high <= max(values)

"""Measured latency on this machine, made so that a busy machine can't fool it.

Candidates take turns with the fp32 baseline in one process, so that a change of clock or load meets all of them. CPU
time is read beside wall time: with one thread a run whose wall time passes its CPU time by more than 5 % waited for
something else and is rejected (contention made runs read two to three times slower, unseen by minimum and spread).
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import Any

from leanedge.errors import UsageError
from leanedge.figures import Figure

__all__ = ["Clocks", "Timing", "measure", "median_interval", "ties"]

Run = Callable[[Any], object]
"""One inference on a sample."""

MAX_WAIT = 1.05
"""Wall time over CPU time above which a run with one thread was disturbed."""

MIN_BUSY = 0.95
"""With several threads: part of the candidate's best CPU/wall ratio below which a run was disturbed."""

WARM_UP_RUNS = 3
MIN_ROUNDS = 5
MAX_ROUNDS = 1000
SAMPLE_SECONDS = 1e-3
"""Inferences shorter than this are timed several at a time, so that reading the clocks does not count."""


@dataclass(frozen=True)
class Clocks:
    """Seconds of wall time, and of CPU time of the calling thread and of the whole process."""

    wall: Callable[[], float] = time.perf_counter
    thread_cpu: Callable[[], float] = time.thread_time
    process_cpu: Callable[[], float] = time.process_time


@dataclass(frozen=True)
class Timing:
    """What was measured of one candidate.

    Attributes:
        median_ms: Median wall time of one inference over the runs that were kept; CPU time if `disturbed`.
        spread_ms: Distance between the quartiles.
        runs: Runs kept. A run is one or more inferences in a row, see `inferences`.
        rejected: Runs that met a busy machine; left out unless `disturbed`.
        inferences: Inferences in each run.
        cpu_ms: Median CPU time of one inference, all threads.
        ratio: Baseline's time over this one's, median over rounds; above 1 is faster than the baseline.
        ratio_low, ratio_high: 95 % interval of that median.
        threads: Threads that the runtime was told to use.
        disturbed: Nearly every run was disturbed: the time is CPU time, and the ratio counts rejected runs too.
    """

    median_ms: float
    spread_ms: float
    runs: int
    rejected: int
    inferences: int
    cpu_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    threads: int
    disturbed: bool

    def to_figure(self) -> Figure:
        """As the ``latency_ms`` of a report."""
        detail = {
            "where": "this machine",
            "threads": self.threads,
            "spread_ms": self.spread_ms,
            "runs": self.runs,
            "rejected": self.rejected,
            "inferences_a_run": self.inferences,
            "cpu_ms": self.cpu_ms,
            "faster_than_baseline": [self.ratio, self.ratio_low, self.ratio_high],
        }
        if self.disturbed:
            detail["note"] = "the machine was busy throughout: CPU time stands for latency"
        return Figure(self.median_ms, "ms", "measured", detail)


@dataclass(frozen=True)
class _Sample:
    """One run: seconds of one inference."""

    wall: float
    cpu: float
    clean: bool


def measure(
    runs: Mapping[str, Run],
    sample: Any,
    threads: int = 1,
    budget_s: float | None = None,
    baseline: str | None = None,
    clocks: Clocks | None = None,
) -> dict[str, Timing]:
    """Times candidates in turns.

    Args:
        runs: Candidate -> one inference on `sample`.
        sample: What each is called with.
        threads: Threads that they compute with. 1: everything happens on the calling thread.
        budget_s: Seconds for all of them together; by default half a second each. Slow ones get 5 rounds all the same.
        baseline: The candidate that ratios refer to, by default the first.
        clocks: Other clocks, for tests.

    Raises:
        UsageError: Nothing to measure, or an unknown baseline.
    """
    if not runs:
        raise UsageError("no candidate to measure")
    base = next(iter(runs)) if baseline is None else baseline
    if base not in runs:
        raise UsageError(f"unknown baseline {base!r}", allowed=", ".join(runs))
    clocks = clocks or Clocks()
    budget = 0.5 * len(runs) if budget_s is None else budget_s
    collecting = gc.isenabled()
    gc.disable()
    try:
        repeats = {name: _warm_up(run, sample, clocks) for name, run in runs.items()}
        samples = _rounds(runs, sample, repeats, threads, budget, clocks)
    finally:
        if collecting:
            gc.enable()
    if threads > 1:
        samples = {name: _judged_by_best(taken) for name, taken in samples.items()}
    return {name: _timing(samples[name], samples[base], repeats[name], threads) for name in runs}


def ties(timings: Mapping[str, Timing]) -> tuple[tuple[str, ...], ...]:
    """Candidates in order of median, grouped: those of a group are within the spread of its fastest.

    Within a group the names are sorted, so that the same candidates always come in the same order.
    """
    groups: list[list[str]] = []
    for name in sorted(timings, key=lambda name: (timings[name].median_ms, name)):
        timing = timings[name]
        if groups:
            fastest = timings[groups[-1][0]]
            if timing.median_ms - fastest.median_ms <= max(timing.spread_ms, fastest.spread_ms):
                groups[-1].append(name)
                continue
        groups.append([name])
    return tuple(tuple(sorted(group)) for group in groups)


def median_interval(values: list[float], confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the median that holds whatever the distribution: order statistics of the binomial.

    With fewer than 6 values no such interval has 95 %; it is then their whole range.

    >>> median_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0])
    (1.0, 8.0)
    """
    ordered = sorted(values)
    size = len(ordered)
    cut = -1
    below = 0.0
    for rank in range(size // 2):
        below += math.comb(size, rank) / 2**size
        if 2 * below > 1 - confidence:
            break
        cut = rank
    low = max(cut, 0)
    return ordered[low], ordered[size - 1 - low]


def _warm_up(run: Run, sample: Any, clocks: Clocks) -> int:
    """Runs a few times; returns how many inferences make one timed run."""
    fastest = math.inf
    for _ in range(WARM_UP_RUNS):
        start = clocks.wall()
        run(sample)
        fastest = min(fastest, clocks.wall() - start)
    return max(1, min(1000, math.ceil(SAMPLE_SECONDS / fastest))) if fastest > 0 else 1000


def _rounds(
    runs: Mapping[str, Run], sample: Any, repeats: Mapping[str, int], threads: int, budget: float, clocks: Clocks
) -> dict[str, list[_Sample]]:
    """One run of each candidate a round, each round starting with another one, until the time is up."""
    names = list(runs)
    samples: dict[str, list[_Sample]] = {name: [] for name in names}
    start = clocks.wall()
    for number in count():
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            samples[name].append(_timed(runs[name], sample, repeats[name], threads, clocks))
        spent = clocks.wall() - start
        few = min(sum(taken.clean for taken in samples[name]) for name in names) < MIN_ROUNDS
        # A busy machine gets twice the time to find enough quiet runs.
        if number + 1 >= MAX_ROUNDS or (number + 1 >= MIN_ROUNDS and spent >= (2 * budget if few else budget)):
            return samples
    raise AssertionError("unreachable")


def _timed(run: Run, sample: Any, repeat: int, threads: int, clocks: Clocks) -> _Sample:
    thread, process, wall = clocks.thread_cpu(), clocks.process_cpu(), clocks.wall()
    for _ in range(repeat):
        run(sample)
    wall = (clocks.wall() - wall) / repeat
    process = (clocks.process_cpu() - process) / repeat
    thread = (clocks.thread_cpu() - thread) / repeat
    cpu = thread if threads == 1 else process
    return _Sample(wall, cpu, clean=threads > 1 or wall <= MAX_WAIT * cpu)


def _judged_by_best(samples: list[_Sample]) -> list[_Sample]:
    """With several threads the CPU/wall ratio of a quiet run is not known beforehand: the best runs show it."""
    busy = sorted(taken.cpu / taken.wall for taken in samples)
    best = busy[int(0.9 * (len(busy) - 1))]
    return [_Sample(taken.wall, taken.cpu, taken.cpu / taken.wall >= MIN_BUSY * best) for taken in samples]


def _timing(samples: list[_Sample], baseline: list[_Sample], repeat: int, threads: int) -> Timing:
    kept = [taken for taken in samples if taken.clean]
    pairs = [(own, base) for own, base in zip(samples, baseline, strict=True) if own.clean and base.clean]
    disturbed = len(kept) < MIN_ROUNDS or len(pairs) < MIN_ROUNDS
    if disturbed:
        kept, pairs = samples, list(zip(samples, baseline, strict=True))
    times = [taken.cpu if disturbed and threads == 1 else taken.wall for taken in kept]
    ratios = [
        base.cpu / own.cpu if disturbed and threads == 1 else base.wall / own.wall
        for own, base in pairs
        if min(own.cpu, own.wall) > 0
    ] or [math.nan]
    low, high = median_interval(ratios)
    return Timing(
        median_ms=1e3 * median(times),
        spread_ms=1e3 * (_quantile(times, 0.75) - _quantile(times, 0.25)),
        runs=len(kept),
        rejected=sum(not taken.clean for taken in samples),
        inferences=repeat,
        cpu_ms=1e3 * median(taken.cpu for taken in kept),
        ratio=median(ratios),
        ratio_low=low,
        ratio_high=high,
        threads=threads,
        disturbed=disturbed,
    )


def _quantile(values: list[float], part: float) -> float:
    """Linear between the neighbours, as numpy does."""
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])

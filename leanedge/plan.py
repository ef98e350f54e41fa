"""The choice: which candidate is built, by a rule that is written down, and the plan file that builds it again."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from leanedge.candidates import Candidate
from leanedge.errors import UsageError
from leanedge.names import Pattern, Scheme  # noqa: TC001 (pydantic reads the annotations)
from leanedge.yaml_file import StrictModel, parse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from leanedge.budget import Budget, Estimate
    from leanedge.evaluate import Evaluation
    from leanedge.figures import Figure
    from leanedge.target import BuiltLayer, Evidence, Shortage

__all__ = ["Choice", "Objective", "OperatorPlan", "Plan", "Priced", "choose", "plan_of", "read_plan"]

Objective = Literal["accuracy", "latency"]
"""``accuracy``: the least loss among those that fit the budget. ``latency``: the fastest within the allowed drop."""

SAME_CELL_TIE = 1.05
"""Instruction counts closer than this are a tie: caches and memory may turn the order around."""


SURE = 1.28
"""Standard errors by which one prediction must be below another: nine in ten such orders are right."""


@dataclass(frozen=True)
class Priced:
    """A candidate that was made, with what it costs and by how much that is over the budget.

    Attributes:
        evaluation: What was made and what it loses.
        estimate: What it costs.
        excess: Figure -> by how much it is over its limit.
        layers: Its operators as they were built, for target kinds that build.
        evidence: What was checked while it was built.
        shortages: What of the device's own memory does not suffice.
    """

    evaluation: Evaluation
    estimate: Estimate
    excess: Mapping[str, float]
    layers: tuple[BuiltLayer, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    shortages: tuple[Shortage, ...] = ()

    @property
    def id(self) -> str:
        """The candidate's id."""
        return self.evaluation.candidate.id


@dataclass(frozen=True)
class Choice:
    """What the rule decided.

    Attributes:
        ranked: Best first: those that fit, then the others by how far they are from fitting.
        chosen: The winner, or None when nothing fits.
        why: In words, with the numbers that decided.
        tied: Ids that are no further from the winner than the figures are sure.
    """

    ranked: tuple[Priced, ...]
    chosen: Priced | None
    why: str
    tied: tuple[str, ...] = ()


class OperatorPlan(StrictModel):
    """What the plan says of one operator of the skeleton."""

    weight_bits: int | None
    activation_bits: int
    channels: int | None
    channels_before: int | None


class Plan(StrictModel):
    """plan.json: with the same model, data, versions and seed it builds the same bytes."""

    schema_version: Annotated[Literal[1], Field(alias="schema")] = 1
    target: str
    model_sha256: str
    data_sha256: str
    seed: int
    scheme: Scheme
    pattern: Pattern
    level: Annotated[float, Field(ge=0, lt=1)]
    kind: str
    runtime: str
    float_operators: tuple[str, ...] = ()
    operators: dict[str, OperatorPlan]

    @property
    def candidate(self) -> Candidate:
        """The candidate that the plan builds."""
        return Candidate(self.scheme, self.pattern, self.level, self.kind, self.runtime, self.float_operators)

    def to_json(self) -> str:
        """The text of plan.json."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2) + "\n"


def read_plan(path: Path) -> Plan:
    """Reads a plan file.

    Raises:
        UsageError: Not readable, of a newer schema, or with keys that are wrong.
    """
    return parse(path, Plan, UsageError)


def choose(
    priced: Sequence[Priced], budget: Budget, max_drop: float, objective: Objective, unit: str = "points"
) -> Choice:
    """Ranks candidates and picks one.

    The rule: of those that keep the budget and lose at most `max_drop` (`Evaluation.keeps`), the fastest (or, for
    ``accuracy``, the one that loses least). Those no further from it than the figures are sure are tied with it. Of
    the tied: the one with the smaller files (for the objective ``accuracy`` the faster one), then the one that loses
    less, then the id.

    Args:
        priced: Every candidate that could be made.
        budget: Limits, for the words only: `Priced.excess` was computed against it.
        max_drop: The largest loss on the selection set, in the metric's unit for drops.
        objective: What is best.
        unit: Of drops, for the words.
    """
    fitting = [row for row in priced if not row.excess and row.evaluation.keeps(max_drop)]
    if not fitting:
        ranked = sorted(priced, key=lambda row: (_distance(row, budget, max_drop), row.id))
        return Choice(tuple(ranked), None, _why_none(ranked, max_drop))
    by_latency = [row for row in fitting if row.estimate.latency_ms.value is not None]
    timed = bool(by_latency)

    def speed(row: Priced) -> float:
        return _latency(row) if timed else float(row.evaluation.file_bytes)

    def size(row: Priced) -> float:
        return float(row.evaluation.file_bytes)

    first, second = (speed, size) if objective == "latency" else (_loss, speed)
    # A latency that is not known can't be the lowest: such a candidate wins on latency only where none is known.
    able = by_latency if timed and objective == "latency" else fitting
    leader = min(able, key=lambda row: (first(row), row.evaluation.file_bytes, row.id))
    if objective == "accuracy":
        tied = [row for row in fitting if row is leader or _drop_tied(leader, row)]
    else:
        tied = [row for row in able if row is leader or (timed and _speed_tied(leader, row))]
    chosen = min(tied, key=lambda row: (second(row), _loss(row), row.id))
    rest = sorted((row for row in fitting if row is not chosen), key=lambda row: (row not in tied, first(row), row.id))
    others = sorted(
        (row for row in priced if row not in fitting),
        key=lambda row: (_distance(row, budget, max_drop), row.id),
    )
    return Choice(
        (chosen, *rest, *others),
        chosen,
        _why(chosen, fitting, objective, timed, f"{max_drop:g} {unit}", unit, len(tied)),
        tuple(row.id for row in rest if row in tied),
    )


def _latency(row: Priced) -> float:
    value = row.estimate.latency_ms.value
    return float("inf") if value is None else value


def _bounds(figure: Figure) -> tuple[float, float]:
    """The interval a latency is known to lie in, in ms: the prediction's, or the quartiles around a measured median."""
    value = figure.value or 0.0
    half = figure.detail.get("spread_ms", 0.0) / 2
    return float(figure.detail.get("low_ms", value - half)), float(figure.detail.get("high_ms", value + half))


def _speed_tied(leader: Priced, row: Priced) -> bool:
    ours, theirs = leader.estimate.latency_ms, row.estimate.latency_ms
    cells = ours.detail.get("cells")
    if cells is not None and cells == theirs.detail.get("cells"):
        # One constant times two exact counts: only the counts differ, so the constant's error does not matter.
        return _latency(row) <= SAME_CELL_TIE * _latency(leader)
    errors = [_log_error(figure) for figure in (ours, theirs)]
    if all(errors):
        return math.log(_latency(row) / _latency(leader)) <= SURE * math.hypot(*errors)
    return _bounds(theirs)[0] <= _bounds(ours)[1]


def _log_error(figure: Figure) -> float:
    """Standard error of a prediction's logarithm, from its 90 % interval; 0 where there is none."""
    low, high = figure.detail.get("low_ms"), figure.detail.get("high_ms")
    return math.log(high / low) / (2 * 1.645) if low and high and high > low else 0.0


def _loss(row: Priced) -> float:
    return max(row.evaluation.drop, 0.0)


def _drop_tied(leader: Priced, row: Priced) -> bool:
    apart = _loss(row) - _loss(leader)
    if apart <= 0:
        return True
    score, other = leader.evaluation.score, row.evaluation.score
    if score.low is None or score.high is None or score.value == other.value:
        return False
    # Two candidates share the samples; a quarter of the interval's half width is about half a standard error. It is
    # in the metric's unit, the loss in that of drops.
    drop_per_score = abs((row.evaluation.drop - leader.evaluation.drop) / (other.value - score.value))
    return apart <= drop_per_score * (score.high - score.low) / 8


def _distance(row: Priced, budget: Budget, max_drop: float) -> float:
    """How far from fitting, as the largest ratio over a limit; 0 when it fits."""
    lost = 0.0 if row.evaluation.keeps(max_drop) else row.evaluation.cautious_drop
    over = [lost / max_drop - 1 if max_drop > 0 else lost]
    limits: dict[str, float] = {short.figure: short.limit_bytes for short in row.shortages}
    over += [amount / (getattr(budget, name) or limits.get(name, 1.0)) for name, amount in row.excess.items()]
    return max(0.0, *over)


def _why(
    chosen: Priced, fitting: Sequence[Priced], objective: Objective, timed: bool, allowed: str, unit: str, tied: int
) -> str:
    loss = chosen.evaluation.drop
    changed = f"loses {loss:.2f} {unit}" if loss > 0 else "loses nothing" if loss == 0 else f"gains {-loss:.2f} {unit}"
    what = {
        "latency": f"the fastest of {len(fitting)} candidates that lose at most {allowed}",
        "accuracy": f"the least loss of {len(fitting)} candidates that fit the budget",
    }[objective]
    if objective == "latency" and not timed:
        what = f"the smallest of {len(fitting)} candidates that lose at most {allowed} (no latency is known here)"
    text = f"{what}; it {changed} on the selection set"
    if tied > 1:
        better = "is fastest" if objective == "accuracy" and timed else "is smallest"
        text += f"; {tied - 1} more are no further away than the figures are sure, of these it {better}"
    return text


def _why_none(ranked: Sequence[Priced], max_drop: float) -> str:
    if not ranked:
        return "no candidate could be made"
    best = ranked[0]
    parts = [f"{name} by {amount:.9g}" for name, amount in best.excess.items()]
    if not best.evaluation.keeps(max_drop):
        loss = best.evaluation.cautious_drop
        parts.append(f"the allowed drop by {loss - max_drop:.2f} (twice its standard error included)")
    return f"nothing fits; the closest, {best.id}, is over {', '.join(parts)}"


def plan_of(chosen: Evaluation, graph_operators: Sequence[str], **facts: Any) -> Plan:
    """The plan that builds this candidate again.

    Args:
        chosen: The winner.
        graph_operators: Ids of the skeleton's operators, in order.
        facts: `target`, `model_sha256`, `data_sha256`, `seed`.
    """
    candidate = chosen.candidate
    operators = {}
    for name in graph_operators:
        kept, before = chosen.channels.get(name, (None, None))
        operators[name] = OperatorPlan(
            weight_bits=chosen.weight_bits.get(name),
            activation_bits=chosen.activation_bits.get(name, 32),
            channels=kept,
            channels_before=before,
        )
    return Plan(
        scheme=candidate.scheme,
        pattern=candidate.pattern,
        level=candidate.level,
        kind=candidate.kind,
        runtime=candidate.runtime,
        float_operators=candidate.float_operators,
        operators=operators,
        **facts,
    )

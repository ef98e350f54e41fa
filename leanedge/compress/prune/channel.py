"""Channel pruning in one shot: no labels, no training, a calibration set and least squares.

statistics = collect(graph, calibration)              # once
smaller, masks = prune_channels(graph, statistics, level=0.5)   # for each level
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from leanedge.compress.prune.budget import Macs, share_globally, share_uniformly
from leanedge.compress.prune.refit import refit
from leanedge.compress.prune.saliency import SMALLEST_SHARE, Measure
from leanedge.compress.prune.statistics import FOLDS, output_errors
from leanedge.compress.types import Masks
from leanedge.errors import UnsupportedOperator, UsageError
from leanedge.graph.groups import cut
from leanedge.graph.operators import find_operators
from leanedge.graph.run import float_runner, run_all

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.compress.prune.statistics import Statistics
    from leanedge.graph.model import Graph

__all__ = ["CHOICES", "Spread", "prune_channels"]

Array = np.ndarray[Any, Any]
Spread = Literal["global", "uniform"]

CHOICES: tuple[tuple[Measure, Spread], ...] = (("effect", "global"), ("energy", "global"), ("obs", "uniform"))
"""Ways to choose what goes, the best by experience first; another is taken where it is clearly nearer to the model."""


def prune_channels(
    graph: Graph,
    statistics: Statistics,
    level: float,
    multiple: int = 8,
    choices: tuple[tuple[Measure, Spread], ...] = CHOICES,
) -> tuple[Graph, Masks]:
    """Cuts the least important channels and refits what is left.

    Args:
        graph: The model that `statistics` are of.
        statistics: From `prune.statistics.collect`.
        level: Fraction to remove of the MACs of all layers that a cut reaches, above 0 and below 1. Where groups
            come down to an eighth of their channels before that, less is removed.
        multiple: Channels that stay in a group are a multiple of this, or of half of it and so on in small groups.
        choices: Ways to choose that are tried.

    Returns:
        The smaller graph, names unchanged, and what was cut where.

    Raises:
        UsageError: A level or multiple out of range.
        UnsupportedOperator: The groups are too small for anything to go.
    """
    if not 0 < level < 1 or multiple < 1:
        raise UsageError(f"level {level}, multiple {multiple}", allowed="0 < level < 1, multiple of 1 or more")
    if statistics.source != graph.sha256:
        raise UsageError("the statistics are of another graph", hint="collect(graph, calibration) first")
    macs = Macs.of(statistics.graph, statistics.groups)
    steps = np.array([_step(group.size, group.unit, multiple) for group in statistics.groups])
    floors = -(-macs.sizes // SMALLEST_SHARE)
    floors = np.minimum(-(-floors // steps) * steps, macs.sizes)
    target = macs.at(macs.sizes) * (1 - level)
    number = np.arange(len(statistics.samples))
    judged = statistics.folds >= FOLDS - 2
    plans: dict[tuple[int, ...], Mapping[str, Array]] = {}
    for measure, spread in choices:
        rankings = statistics.rankings[measure]
        start = share_uniformly(macs, target, floors, steps) if spread == "uniform" else macs.sizes
        counts = share_globally(macs, target, rankings, floors, steps, start)
        if (counts < macs.sizes).any():
            kept = {
                group.id: np.sort(ranking.order[group.size - count :])
                for group, ranking, count in zip(statistics.groups, rankings, counts, strict=True)
            }
            plans.setdefault(tuple(index for units in kept.values() for index in (-1, *units)), kept)
    if not plans:
        raise UnsupportedOperator(
            f"no group of {len(floors)} is large enough to lose {multiple} channels",
            where="channel pruning",
            hint="ask for a smaller multiple",
        )
    best = next(iter(plans.values()))
    if len(plans) > 1 and judged.any():
        errors = {key: _errors(statistics, kept, number[~judged], number[judged]) for key, kept in plans.items()}
        best = plans[_clearly_best(errors)]
    kept_outputs = _kept_outputs(statistics, best)
    pruned = refit(cut(statistics.graph, best), statistics, kept_outputs, statistics.samples, number)
    return pruned, _masks(statistics.graph, kept_outputs)


def _step(size: int, unit: int, multiple: int) -> int:
    step = max(1, multiple // unit)
    while step > 1 and 4 * step > size:
        step //= 2
    return step


def _clearly_best(errors: Mapping[tuple[int, ...], Array]) -> tuple[int, ...]:
    """The first choice, unless a later one is better by more than the standard error of the paired difference."""
    best = next(iter(errors))
    for key, each in errors.items():
        gain = errors[best] - each
        if gain.mean() > gain.std() / np.sqrt(len(gain)):
            best = key
    return best


def _errors(statistics: Statistics, kept: Mapping[str, Array], fitted: Array, judged: Array) -> Array:
    """Error of each of some samples that were not fitted."""
    pruned = refit(
        cut(statistics.graph, kept),
        statistics,
        _kept_outputs(statistics, kept),
        statistics.samples.take(fitted),
        fitted,
    )
    made = run_all(float_runner(pruned), statistics.samples.take(judged))
    return output_errors({name: array[judged] for name, array in statistics.outputs.items()}, made)


def _kept_outputs(statistics: Statistics, kept: Mapping[str, Array]) -> dict[str, Array]:
    """Weight -> indices of its output channels that stay, where some go."""
    outputs = {o.weight: o.channel_axis for o in find_operators(statistics.graph) if o.has_channels and o.weight}
    gone: dict[str, list[Array]] = {}
    for group in statistics.groups:
        lost = np.setdiff1d(np.arange(group.size), kept[group.id])
        for member in group.members:
            across = member.role == "consumer" or outputs.get(member.constant) is None
            if not across and len(lost) and statistics.graph.constants[member.constant].ndim > 1:
                gone.setdefault(member.constant, []).append(member.indices[lost].ravel())
    sizes = {name: _outputs_of(statistics.graph, name, outputs[name]) for name in gone}
    return {name: np.setdiff1d(np.arange(sizes[name]), np.concatenate(lost)) for name, lost in gone.items()}


def _outputs_of(graph: Graph, weight: str, axis: int | None) -> int:
    return int(graph.constants[weight].shape[axis or 0])


def _masks(graph: Graph, kept_outputs: Mapping[str, Array]) -> Masks:
    channels = {}
    for operator in find_operators(graph):
        left = kept_outputs.get(operator.weight or "")
        if left is not None and operator.has_channels:
            before = _outputs_of(graph, str(operator.weight), operator.channel_axis)
            channels[operator.id] = (tuple(int(index) for index in left), before)
    return Masks(channels)

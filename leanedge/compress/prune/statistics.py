"""What pruning has to know of the model's behaviour, gathered in one pass and shared by every level."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.prune.regression import Regression, find_regressions, give_biases
from leanedge.compress.prune.saliency import (
    DAMPINGS,
    Measure,
    Probe,
    Ranking,
    rank_by_energy,
    rank_by_surgery,
    scale_to_effect,
)
from leanedge.errors import UnsupportedOperator
from leanedge.graph.groups import ChannelGroup, find_groups, why_frozen
from leanedge.graph.layers import macs
from leanedge.graph.run import float_runner, run_all

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.data.samples import Samples
    from leanedge.graph.model import Graph

__all__ = ["FOLDS", "LayerStatistics", "Statistics", "collect", "output_errors", "positions_of"]

Array = np.ndarray[Any, Any]

ROWS = (2048, 8192)
"""Least and most rows gathered for a layer; four for each column in between."""

FOLDS = 5
"""Parts of the calibration set that are fitted and judged on apart."""

PROBE_MACS = 1e11
"""About how many multiply-accumulates may be spent on probing groups."""

KEPT_BYTES = 256 << 20
"""Most bytes that one value may take over all samples; beyond, samples are left out, evenly."""

LARGEST_GRAM = 3072
"""Widest layer whose whole second moment is kept; of a wider one only the blocks of single channels."""


@dataclass(frozen=True)
class LayerStatistics:
    """One layer of the unpruned model.

    Attributes:
        rows: Rows taken of each sample.
        targets: (samples, rows, outputs) what the layer made there, its skip included, before any activation.
        gram: (columns, columns) covariance of its rows (second moment where no bias can be fitted), or None when it
            is wider than `LARGEST_GRAM`.
        blocks: (channels, taps, taps) its blocks of single channels.
        mean: (columns,) mean row; zeros where no bias can be fitted.
        variance: Sum of the variances (second moments) of its outputs, without the skip.
        damping: How far to trust `gram`: the fraction of its mean diagonal that is added to the diagonal.
    """

    rows: int
    targets: Array = field(repr=False)
    gram: Array | None = field(repr=False)
    blocks: Array = field(repr=False)
    mean: Array = field(repr=False)
    variance: float
    damping: float


@dataclass(frozen=True)
class Statistics:
    """Of one graph on one calibration set.

    Attributes:
        graph: The graph, with a bias in every layer that can have one.
        samples: The calibration samples that were used.
        groups: Its channel groups.
        regressions: Layers that can be refitted, in execution order.
        layers: Operator id -> statistics.
        outputs: Model output -> (samples, ...) what the model made.
        folds: (samples,) a number below `FOLDS`; samples of one group have the same, where there are groups enough.
        source: Hash of the graph as it was given.
    """

    graph: Graph
    samples: Samples
    groups: tuple[ChannelGroup, ...]
    regressions: tuple[Regression, ...]
    layers: Mapping[str, LayerStatistics] = field(repr=False)
    outputs: Mapping[str, Array] = field(repr=False)
    folds: Array = field(repr=False)
    source: str

    @cached_property
    def rankings(self) -> Mapping[Measure, tuple[Ranking, ...]]:
        """By each measure, the ranking of every group."""
        constants = self.graph.constants
        layers = {r.weight: (r, self.layers[r.operator], r.matrix(constants[r.weight])) for r in self.regressions}
        surgery = [rank_by_surgery(group, layers) for group in self.groups]
        effects = [
            ranking if probe is None else scale_to_effect(ranking, probe, self._effect(probe))
            for ranking, probe in surgery
        ]
        return {
            "obs": tuple(ranking for ranking, _ in surgery),
            "effect": tuple(effects),
            "energy": tuple(rank_by_energy(group, layers) for group in self.groups),
        }

    def _effect(self, probe: Probe) -> float:
        """Error of the outputs with the probe's matrices in place, on some of the samples."""
        constants = self.graph.constants
        arrays: dict[str, Array] = {}
        for regression in self.regressions:
            if regression.weight in probe.matrices:
                matrix, whole = probe.matrices[regression.weight], constants[regression.weight]
                arrays[regression.weight] = regression.weight_of(matrix, whole.shape)
                if regression.bias is not None:
                    bias = constants[regression.bias]
                    moved = self.layers[regression.operator].mean @ (regression.matrix(whole) - matrix)
                    arrays[regression.bias] = (bias + moved.reshape(bias.shape)).astype(np.float32)
        affordable = int(PROBE_MACS // (len(self.groups) * max(1, macs(self.graph))))
        count = min(len(self.samples), max(4, min(64, affordable)))
        some = np.linspace(0, len(self.samples) - 1, count).round().astype(np.int64)
        made = run_all(float_runner(self.graph.with_constants(arrays)), self.samples.take(some))
        return float(output_errors({name: array[some] for name, array in self.outputs.items()}, made).mean())


def output_errors(before: Mapping[str, Array], after: Mapping[str, Array]) -> Array:
    """(samples,) squared error as a fraction of the outputs' variance, or how many integers differ: mean of outputs."""
    errors = []
    for name, wanted in before.items():
        rows, made = wanted.reshape(len(wanted), -1), after[name].reshape(len(wanted), -1)
        if wanted.dtype.kind == "f":
            exact = rows.astype(np.float64)
            errors.append(np.square(made - exact).mean(1) / max(float(np.square(exact - exact.mean(0)).mean()), 1e-12))
        else:
            errors.append((made != rows).mean(1))
    found: Array = np.mean(errors, 0)
    return found


def collect(graph: Graph, calibration: Samples) -> Statistics:
    """Runs the model once over the calibration set.

    Args:
        graph: A float model.
        calibration: About 100 samples; single steps, states included, for a streaming model. Labels are not read.

    Raises:
        UnsupportedOperator: Nothing can be cut; says why.
    """
    source, graph = graph.sha256, give_biases(graph)
    groups = find_groups(graph)
    regressions = find_regressions(graph)
    listened = {r.weight for r in regressions}
    groups = tuple(g for g in groups if any(m.constant in listened for m in g.members if m.role == "consumer"))
    if not groups:
        raise UnsupportedOperator(
            f"there is nothing to cut: {why_frozen(graph)}",
            where="channel pruning",
            allowed="layers whose outputs are read by convolutions or linear layers alone",
            hint="the dense candidates are not affected",
        )
    samples = _few_enough(graph, calibration, regressions)
    folds = _folds(samples)
    inner = {name for r in regressions for name in (r.source, r.skip) if name} - {info.name for info in graph.inputs}
    run = float_runner(graph, sorted(inner))
    gathered = {r.operator: _Gathered(graph, r, len(samples)) for r in regressions}
    outputs: dict[str, list[Array]] = {info.name: [] for info in graph.outputs}
    for number, sample in enumerate(samples):
        made = {**sample, **run(sample)}
        for name, arrays in outputs.items():
            arrays.append(made[name])
        for regression in regressions:
            skip = made[regression.skip] if regression.skip else None
            gathered[regression.operator].take(made[regression.source], skip, number, folds[number])
    layers = {name: layer.statistics() for name, layer in gathered.items()}
    stacked = {name: np.stack(arrays) for name, arrays in outputs.items()}
    return Statistics(graph, samples, groups, regressions, layers, stacked, folds, source)


def _folds(samples: Samples) -> Array:
    """Samples of one group (crops of one photograph, say) know each other: they stay together."""
    if samples.groups is None or len(np.unique(samples.groups)) < FOLDS:
        return np.arange(len(samples)) % FOLDS
    found, sizes = np.unique(samples.groups, return_counts=True)
    filled, fold_of = np.zeros(FOLDS), {}
    for group in np.argsort(-sizes, kind="stable"):
        fold_of[found[group]] = int(np.argmin(filled))
        filled[fold_of[found[group]]] += sizes[group]
    return np.array([fold_of[group] for group in samples.groups])


def positions_of(regression: Regression, shape: tuple[int, ...], rows: int, sample: int) -> Array:
    """Which rows of a sample are looked at: the same in every pass."""
    held = regression.positions(shape)
    if rows >= held:
        return np.arange(held)
    return np.sort(np.random.default_rng([sample, held]).choice(held, rows, replace=False))


class _Sums:
    """First and second moments of rows that come in pieces, about a point near their mean."""

    def __init__(self, regression: Regression, width: int) -> None:
        self.taps, self.wide = regression.taps, width > LARGEST_GRAM
        taps = self.taps
        self.moment = np.zeros((width // taps, taps, taps) if self.wide else (width, width), np.float32)
        self.total, self.count = np.zeros(width), 0
        self.pending: list[Array] = []

    def add(self, rows: Array) -> None:
        self.pending.append(rows)
        if len(self.pending) * len(rows) >= 1024:
            self.settle()

    def settle(self) -> None:
        if self.pending:
            x = np.concatenate(self.pending)
            self.pending.clear()
            if self.wide:
                channels = x.reshape(len(x), -1, self.taps)
                self.moment += np.einsum("nct,ncu->ctu", channels, channels)
            else:
                self.moment += x.T @ x
            self.total += x.sum(0, np.float64)
            self.count += len(x)

    def plus(self, other: _Sums) -> _Sums:
        both = copy(self)
        both.moment, both.total = self.moment + other.moment, self.total + other.total
        both.count = self.count + other.count
        return both

    def mean(self, fitted: bool) -> Array:
        return self.total / self.count if fitted else np.zeros_like(self.total)

    def covariance(self, fitted: bool) -> Array:
        """About the mean, or about zero where no bias can be fitted."""
        mean = self.mean(fitted)
        means = mean.reshape(-1, self.taps)
        product: Array = means[:, :, None] * means[:, None, :] if self.wide else np.outer(mean, mean)
        return self.moment / self.count - product


class _Gathered:
    """What is known of one layer, sample by sample."""

    def __init__(self, graph: Graph, regression: Regression, samples: int) -> None:
        self.regression, self.samples = regression, samples
        self.fitted = regression.bias is not None
        self.matrix = regression.matrix(graph.constants[regression.weight])
        bias = regression.bias
        self.bias = graph.constants[bias].reshape(-1) if bias else np.zeros(self.matrix.shape[1], np.float32)
        self.halves = _Sums(regression, len(self.matrix)), _Sums(regression, len(self.matrix))
        self.rows = 0
        self.shift: Array = np.zeros(len(self.matrix), np.float32)  # keeps sums of squares small beside large means
        self.targets: list[Array] = []
        self.sums = np.zeros(self.matrix.shape[1])
        self.squares = np.zeros(self.matrix.shape[1])

    def take(self, x: Array, skip: Array | None, number: int, fold: int) -> None:
        held = self.regression.positions(x.shape)
        if not self.rows:
            wanted = min(max(ROWS[0], 4 * len(self.matrix)), ROWS[1])
            self.rows = min(held, -(-wanted // self.samples))
        positions = positions_of(self.regression, x.shape, self.rows, number)
        rows = self.regression.rows(x, positions)
        if not self.targets and self.fitted:
            self.shift = rows.mean(0)
        made = (rows @ self.matrix + self.bias).astype(np.float32)
        self.squares += np.square(made, dtype=np.float64).sum(0)
        self.sums += made.sum(0, np.float64)
        self.targets.append(made if skip is None else made + self.regression.skip_rows(skip, positions))
        self.halves[fold % 2].add(rows - self.shift)

    def statistics(self) -> LayerStatistics:
        for half in self.halves:
            half.settle()
        sums, taps = self.halves[0].plus(self.halves[1]), self.regression.taps
        gram: Array | None = sums.covariance(self.fitted)
        assert gram is not None
        blocks, damping = gram, DAMPINGS[-1]
        if sums.wide:
            gram = None
        else:
            channels = np.arange(len(gram)).reshape(-1, taps)
            blocks = gram[channels[:, :, None], channels[:, None, :]]
            if all(half.count for half in self.halves):
                damping = self._damping(blocks)
        targets = np.stack(self.targets)
        offset = np.square(self.sums / sums.count) if self.fitted else 0.0
        variance = float(np.maximum(self.squares / sums.count - offset, 0).sum())
        mean = sums.mean(self.fitted) + self.shift
        return LayerStatistics(self.rows, targets, gram, blocks, mean, variance, damping)

    def _damping(self, blocks: Array) -> float:
        """The damping with which one half of the samples best foretells the other when a quarter of the inputs goes.

        Rows of one sample are much alike, so that their number does not say how much is known.
        """
        matrix = self.matrix[:, :: -(-self.matrix.shape[1] // 64)]
        weights = matrix.reshape(len(blocks), self.regression.taps, -1)
        energy = np.einsum("cto,ctu,cuo->c", weights, blocks, weights, optimize=True)
        gone = np.zeros(len(blocks), bool)
        gone[np.argsort(energy, kind="stable")[: -(-len(blocks) // 4)]] = True
        out = np.repeat(gone, self.regression.taps)
        if out.all():
            return DAMPINGS[-1]
        errors = np.zeros(len(DAMPINGS))
        for one, other in (self.halves, self.halves[::-1]):
            known, judge = one.covariance(self.fitted), other.covariance(self.fitted)
            apart = one.mean(self.fitted) - other.mean(self.fitted)
            inside, across = known[np.ix_(~out, ~out)].astype(np.float64), known[np.ix_(~out, out)] @ matrix[out]
            size = max(float(np.mean(np.diag(inside))), 1e-12)
            for index, damping in enumerate(DAMPINGS):
                change = np.empty(matrix.shape)
                change[out] = matrix[out]
                change[~out] = -np.linalg.solve(inside + damping * size * np.eye(len(inside)), across)
                errors[index] += (change * (judge @ change)).sum() + np.square(apart @ change).sum()
        return DAMPINGS[int(np.argmin(errors))]


def _few_enough(graph: Graph, samples: Samples, regressions: tuple[Regression, ...]) -> Samples:
    shapes = [graph.shape(r.source) for r in regressions]
    largest = max(4 * int(np.prod(shape)) for shape in shapes if shape is not None)
    fit = max(1, KEPT_BYTES // largest)
    if len(samples) <= fit:
        return samples
    return samples.take(np.linspace(0, len(samples) - 1, fit).round().astype(np.int64))

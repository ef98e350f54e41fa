"""What pruning has to know of the model's behaviour, gathered in one pass and shared by every level."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.prune.regression import Regression, find_regressions, give_biases
from leanedge.compress.prune.saliency import Measure, Ranking, rank
from leanedge.errors import UnsupportedOperator
from leanedge.graph.groups import ChannelGroup, find_groups, why_frozen
from leanedge.graph.run import float_runner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.data.samples import Samples
    from leanedge.graph.model import Graph

__all__ = ["FOLDS", "LayerStatistics", "Statistics", "collect", "positions_of"]

Array = np.ndarray[Any, Any]

ROWS = (2048, 8192)
"""Least and most rows gathered for a layer; four for each column in between."""

FOLDS = 5
"""Parts of the calibration set that are fitted and judged on apart."""

KEPT_BYTES = 256 << 20
"""Most bytes that one value may take over all samples; beyond, samples are left out, evenly."""

LARGEST_GRAM = 3072
"""Widest layer whose whole second moment is kept; of a wider one only the blocks of single channels."""


@dataclass(frozen=True)
class LayerStatistics:
    """One layer of the unpruned model.

    Attributes:
        rows: Rows taken of each sample.
        targets: (samples, rows, outputs) what the layer made there, before any activation function.
        gram: (columns, columns) covariance of its rows (second moment where no bias can be fitted), or None when it
            is wider than `LARGEST_GRAM`.
        blocks: (channels, taps, taps) its blocks of single channels.
        variance: Sum of the variances (second moments) of its outputs.
    """

    rows: int
    targets: Array = field(repr=False)
    gram: Array | None = field(repr=False)
    blocks: Array = field(repr=False)
    variance: float


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
        return {"obs": self._rank("obs"), "energy": self._rank("energy")}

    def _rank(self, measure: Measure) -> tuple[Ranking, ...]:
        constants = self.graph.constants
        consumers = {r.weight: (r, self.layers[r.operator], r.matrix(constants[r.weight])) for r in self.regressions}
        return tuple(rank(group, consumers, measure) for group in self.groups)


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
    run = float_runner(graph, [r.source for r in regressions if r.source not in {i.name for i in graph.inputs}])
    gathered = {r.operator: _Gathered(graph, r, len(samples)) for r in regressions}
    outputs: dict[str, list[Array]] = {info.name: [] for info in graph.outputs}
    for number, sample in enumerate(samples):
        made = run(sample)
        for name, arrays in outputs.items():
            arrays.append(made[name])
        for regression in regressions:
            x = made[regression.source] if regression.source in made else sample[regression.source]
            gathered[regression.operator].take(x, number)
    layers = {name: layer.statistics() for name, layer in gathered.items()}
    stacked = {name: np.stack(arrays) for name, arrays in outputs.items()}
    return Statistics(graph, samples, groups, regressions, layers, stacked, _folds(samples), source)


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


class _Gathered:
    """Sums over the rows of one layer, sample by sample."""

    def __init__(self, graph: Graph, regression: Regression, samples: int) -> None:
        self.regression, self.samples = regression, samples
        self.matrix = regression.matrix(graph.constants[regression.weight])
        bias = regression.bias
        self.bias = graph.constants[bias].reshape(-1) if bias else np.zeros(self.matrix.shape[1], np.float32)
        width, taps = len(self.matrix), regression.taps
        self.wide = width > LARGEST_GRAM
        self.moment = np.zeros((width // taps, taps, taps) if self.wide else (width, width), np.float32)
        self.total, self.count, self.rows = np.zeros(width), 0, 0
        self.shift: Array | None = None  # keeps sums of squares small beside large means
        self.pending: list[Array] = []
        self.targets: list[Array] = []

    def take(self, x: Array, number: int) -> None:
        held = self.regression.positions(x.shape)
        if not self.rows:
            wanted = min(max(ROWS[0], 4 * len(self.matrix)), ROWS[1])
            self.rows = min(held, -(-wanted // self.samples))
        rows = self.regression.rows(x, positions_of(self.regression, x.shape, self.rows, number))
        self.targets.append((rows @ self.matrix + self.bias).astype(np.float32))
        self.pending.append(rows)
        if len(self.pending) * self.rows >= 1024:
            self._count()

    def _count(self) -> None:
        if not self.pending:
            return
        x = np.concatenate(self.pending)
        self.pending.clear()
        if self.shift is None:
            self.shift = x.mean(0) if self.regression.bias else np.zeros(x.shape[1], np.float32)
        x = x - self.shift
        if self.wide:
            channels = x.reshape(len(x), -1, self.regression.taps)
            self.moment += np.einsum("nct,ncu->ctu", channels, channels)
        else:
            self.moment += x.T @ x
        self.total += x.sum(0, np.float64)
        self.count += len(x)

    def statistics(self) -> LayerStatistics:
        self._count()
        taps, fitted = self.regression.taps, self.regression.bias is not None
        moment = self.moment / self.count
        mean = self.total / self.count if fitted else np.zeros_like(self.total)
        if self.wide:
            means = mean.reshape(-1, taps)
            gram, blocks = None, moment - means[:, :, None] * means[:, None, :]
        else:
            gram = moment - np.outer(mean, mean)
            channels = np.arange(len(gram)).reshape(-1, taps)
            blocks = gram[channels[:, :, None], channels[:, None, :]]
        targets = np.stack(self.targets)
        flat = targets.reshape(-1, targets.shape[-1]).astype(np.float64)
        variance = float((flat.var(0) if fitted else np.square(flat).mean(0)).sum())
        return LayerStatistics(self.rows, targets, gram, blocks, variance)


def _few_enough(graph: Graph, samples: Samples, regressions: tuple[Regression, ...]) -> Samples:
    shapes = [graph.shape(r.source) for r in regressions]
    largest = max(4 * int(np.prod(shape)) for shape in shapes if shape is not None)
    fit = max(1, KEPT_BYTES // largest)
    if len(samples) <= fit:
        return samples
    return samples.take(np.linspace(0, len(samples) - 1, fit).round().astype(np.int64))

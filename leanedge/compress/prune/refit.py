"""Least squares: what is left of each layer learns to make, from its pruned inputs, what the whole layer made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.prune.saliency import DAMPING
from leanedge.compress.prune.stages import Stages
from leanedge.compress.prune.statistics import positions_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.compress.prune.regression import Regression
    from leanedge.compress.prune.statistics import Statistics
    from leanedge.data.samples import Samples
    from leanedge.graph.model import Graph

__all__ = ["refit"]

Array = np.ndarray[Any, Any]

PLENTY = 12
"""Rows a column from which on the usual damping is taken; with fewer it is found by cross-validation."""

DAMPINGS = (DAMPING, 1e-2, 1e-1, 1.0, 10.0)


class _Moments:
    """Sums over rows that come in pieces."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.count = 0
        self.xx = np.zeros((inputs, inputs), np.float64)
        self.xy = np.zeros((inputs, outputs), np.float64)
        self.x, self.y, self.yy = np.zeros(inputs), np.zeros(outputs), 0.0

    def add(self, x: Array, y: Array) -> None:
        self.count += len(x)
        self.xx += x.T @ x
        self.xy += x.T @ y
        self.x += x.sum(0, np.float64)
        self.y += y.sum(0, np.float64)
        self.yy += float(np.square(y, dtype=np.float64).sum())

    def plus(self, other: _Moments) -> _Moments:
        both = _Moments(0, 0)
        for name in ("count", "xx", "xy", "x", "y", "yy"):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        return both

    def fit(self, start: Array, damping: float, centred: bool) -> tuple[Array, Array]:
        """(matrix, bias) of least squares, drawn towards `start`."""
        mean_x = self.x / self.count if centred else np.zeros_like(self.x)
        mean_y = self.y / self.count if centred else np.zeros_like(self.y)
        xx = self.xx - self.count * np.outer(mean_x, mean_x)
        xy = self.xy - self.count * np.outer(mean_x, mean_y)
        ridge = damping * max(float(np.mean(np.diag(xx))), 1e-12)
        np.fill_diagonal(xx, np.diag(xx) + ridge)
        matrix = np.linalg.solve(xx, xy + ridge * start)
        return matrix, mean_y - mean_x @ matrix

    def error(self, matrix: Array, bias: Array) -> float:
        """Squared error of a fit over these rows."""
        quadratic = float((matrix * (self.xx @ matrix)).sum())
        linear = float((matrix * self.xy).sum()) + float(bias @ self.y) - float(bias @ (self.x @ matrix))
        return quadratic + self.yy - 2 * linear + self.count * float(bias @ bias)


def refit(
    pruned: Graph, statistics: Statistics, kept_outputs: Mapping[str, Array], samples: Samples, numbers: Array
) -> tuple[Graph, dict[str, Array]]:
    """Fits every layer behind a cut, in execution order, each on what the fitted layers before it make.

    Args:
        pruned: The graph with channels cut.
        statistics: Of the whole graph.
        kept_outputs: Weight -> indices of the outputs that are left of it.
        samples: Calibration samples to fit on.
        numbers: Their indices in `statistics.samples`.

    Returns:
        The graph with new weights, and what it makes of `samples`: output -> (samples, ...).
    """
    constants: dict[str, Array] = {}
    whole, outputs = statistics.graph, [info.name for info in pruned.outputs]
    readers: dict[str, list[Regression]] = {}
    for regression in statistics.regressions:
        readers.setdefault(regression.source, []).append(regression)
    stages = Stages(pruned, samples, list(dict.fromkeys([*readers, *outputs])))
    made: dict[str, Array] = {}
    for source, regressions in readers.items():
        inputs = stages.advance(constants)
        if source in outputs:
            made[source] = np.stack(inputs)
        for regression in regressions:
            weight = pruned.constants[regression.weight]
            untouched = (
                weight.shape[regression.input_axis] == whole.constants[regression.weight].shape[regression.input_axis]
            )
            if untouched and not constants:
                continue  # all before it is as it was
            start = regression.matrix(weight)
            layer = statistics.layers[regression.operator]
            kept = kept_outputs.get(regression.weight)
            columns = np.arange(start.shape[1]) if kept is None else regression.outputs(kept, weight.shape)
            folds = _Moments(*start.shape), _Moments(*start.shape)
            for number, x in zip(numbers, inputs, strict=True):
                rows = regression.rows(x, positions_of(regression, x.shape, layer.rows, int(number)))
                folds[number % 2].add(rows, layer.targets[number][:, columns])
            matrix, bias = _fit(folds, start, regression)
            constants[regression.weight] = regression.weight_of(matrix, weight.shape)
            if regression.bias is not None:
                constants[regression.bias] = bias.reshape(pruned.constants[regression.bias].shape).astype(np.float32)
    for name in outputs:
        if name not in made:
            made[name] = np.stack(stages.advance(constants))
    return pruned.with_constants(constants), made


def _fit(folds: tuple[_Moments, _Moments], start: Array, regression: Regression) -> tuple[Array, Array]:
    both, centred = folds[0].plus(folds[1]), regression.bias is not None
    damping = DAMPING
    if min(fold.count for fold in folds) > 0 and both.count < PLENTY * len(start):
        errors = [
            sum(other.error(*one.fit(start, d, centred)) for one, other in (folds, folds[::-1])) for d in DAMPINGS
        ]
        damping = DAMPINGS[int(np.argmin(errors))]
    return both.fit(start, damping, centred)

"""Least squares: what is left of each layer learns to make, from its pruned inputs, what the whole layer made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.prune.saliency import DAMPING
from leanedge.compress.prune.stages import Stages
from leanedge.compress.prune.statistics import positions_of
from leanedge.graph.operators import find_operators

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

ROUNDS = 3
"""Times that targets behind a clamp are moved."""

DAMPINGS = (DAMPING, 1e-2, 1e-1, 1.0, 10.0)


class _Problem:
    """Rows and targets of one layer, with the products that every solution needs."""

    def __init__(self, x: Array, y: Array, start: Array, centred: bool) -> None:
        self.x, self.y, self.start = x, y, start
        self.mean = x.mean(0, dtype=np.float64) if centred else np.zeros(x.shape[1])
        moment = (x.T @ x).astype(np.float64) - len(x) * np.outer(self.mean, self.mean)
        self.moment, self.centred = moment, centred
        self.size = max(float(np.mean(np.diag(moment))), 1e-12)

    def solve(self, damping: float, clamp: tuple[float, float]) -> tuple[Array, Array]:
        """(matrix, bias) of least squares, drawn towards `start`.

        Where an activation clamps the output, only what comes through counts: a target below the clamp is met by
        any value below it. So such targets are moved to what the last solution made, as far as it was right, and
        the problem is solved again (Zhang et al., 2016, by auxiliary variables).
        """
        damped = self.moment + damping * self.size * np.eye(len(self.moment))
        pull = damping * self.size * self.start
        matrix, bias = self._solution(damped, pull, self.y)
        for _ in range(ROUNDS if any(map(np.isfinite, clamp)) else 0):
            made = self.x @ matrix.astype(np.float32) + bias.astype(np.float32)
            targets = self.y.copy()
            low, high = clamp
            targets = np.where(self.y <= low, np.minimum(made, low), targets) if np.isfinite(low) else targets
            targets = np.where(self.y >= high, np.maximum(made, high), targets) if np.isfinite(high) else targets
            matrix, bias = self._solution(damped, pull, targets)
        return matrix, bias

    def _solution(self, damped: Array, pull: Array, targets: Array) -> tuple[Array, Array]:
        mean = targets.mean(0, dtype=np.float64) if self.centred else np.zeros(targets.shape[1])
        product = (self.x.T @ targets).astype(np.float64) - len(self.x) * np.outer(self.mean, mean)
        matrix = np.linalg.solve(damped, product + pull)
        return matrix, mean - self.mean @ matrix

    def error(self, matrix: Array, bias: Array) -> float:
        """Squared error of a solution over these rows."""
        return float(np.square(self.x @ matrix + bias - self.y).sum())


def refit(
    pruned: Graph, statistics: Statistics, kept_outputs: Mapping[str, Array], samples: Samples, numbers: Array
) -> Graph:
    """Fits every layer behind a cut, in execution order, each on what the fitted layers before it make.

    Args:
        pruned: The graph with channels cut.
        statistics: Of the whole graph.
        kept_outputs: Weight -> indices of the outputs that are left of it.
        samples: Calibration samples to fit on.
        numbers: Their indices in `statistics.samples`.
    """
    constants: dict[str, Array] = {}
    before = statistics.graph.constants
    clamps = {o.id: o.activation for o in find_operators(pruned)}
    readers: dict[str, list[Regression]] = {}
    for regression in statistics.regressions:
        readers.setdefault(regression.source, []).append(regression)
    stages = Stages(pruned, samples, list(readers))
    for source, regressions in readers.items():
        inputs = stages.advance(constants)
        for regression in regressions:
            weight, axis = pruned.constants[regression.weight], regression.input_axis
            if weight.shape[axis] == before[regression.weight].shape[axis] and not constants:
                continue  # all before it is as it was
            start = regression.matrix(weight)
            layer = statistics.layers[regression.operator]
            kept = kept_outputs.get(regression.weight)
            columns = np.arange(start.shape[1]) if kept is None else regression.outputs(kept, weight.shape)
            x = [
                regression.rows(array, positions_of(regression, array.shape, layer.rows, int(number)))
                for number, array in zip(numbers, inputs, strict=True)
            ]
            clamp = clamps.get(regression.operator) or (-np.inf, np.inf)
            matrix, bias = _fit(np.stack(x), layer.targets[numbers][:, :, columns], start, regression, clamp)
            constants[regression.weight] = regression.weight_of(matrix, weight.shape)
            if regression.bias is not None:
                constants[regression.bias] = bias.reshape(pruned.constants[regression.bias].shape).astype(np.float32)
    return pruned.with_constants(constants)


def _fit(x: Array, y: Array, start: Array, regression: Regression, clamp: tuple[float, float]) -> tuple[Array, Array]:
    """Fits (samples, rows, columns) to (samples, rows, outputs)."""
    centred = regression.bias is not None

    def problem(part: slice) -> _Problem:
        return _Problem(x[part].reshape(-1, x.shape[-1]), y[part].reshape(-1, y.shape[-1]), start, centred)

    damping = DAMPING
    if len(x) > 1 and x.shape[0] * x.shape[1] < PLENTY * len(start):
        one, other = problem(slice(0, None, 2)), problem(slice(1, None, 2))
        open_ended = (-np.inf, np.inf)
        errors = [other.error(*one.solve(d, open_ended)) + one.error(*other.solve(d, open_ended)) for d in DAMPINGS]
        damping = DAMPINGS[int(np.argmin(errors))]
    return problem(slice(None)).solve(damping, clamp)

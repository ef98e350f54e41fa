"""Least squares: what is left of each layer learns to make, from its pruned inputs, what the whole layer made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.prune.saliency import DAMPINGS
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

ROUNDS = 3
"""Times that targets behind a clamp are moved."""

JUDGED_OUTPUTS = 64
"""Outputs of a layer, at most, that choose its damping."""


class _Problem:
    """Rows and targets of one layer, with the products that every solution needs."""

    def __init__(self, x: Array, y: Array, start: Array, centred: bool) -> None:
        self.mean_x = x.mean(0) if centred else np.zeros_like(x[0])
        self.x, self.y, self.start, self.centred = x - self.mean_x, y, start, centred
        self.moment = (self.x.T @ self.x).astype(np.float64)
        self.size = max(float(np.mean(np.diag(self.moment))), 1e-12)

    def solve(self, damping: float, clamp: tuple[float, float] = (-np.inf, np.inf)) -> tuple[Array, Array]:
        """(matrix, bias) of least squares, drawn towards `start`.

        Where an activation clamps the output, only what comes through counts: a target below the clamp is met by
        any value below it. So such targets are moved to what the last solution made, as far as it was right, and
        the problem is solved again (Zhang et al., 2016, by auxiliary variables).
        """
        # One inverse serves every round.
        inverse = np.linalg.inv(self.moment + damping * self.size * np.eye(len(self.moment)))
        pull = damping * self.size * self.start
        matrix, bias = self._solution(inverse, pull, self.y)
        for _ in range(ROUNDS if any(map(np.isfinite, clamp)) else 0):
            made, targets, (low, high) = self._outputs(matrix, bias), self.y, clamp
            if np.isfinite(low):
                targets = np.where(self.y <= low, np.minimum(made, np.float32(low)), targets)
            if np.isfinite(high):
                targets = np.where(self.y >= high, np.maximum(made, np.float32(high)), targets)
            matrix, bias = self._solution(inverse, pull, targets)
        return matrix, bias

    def _solution(self, inverse: Array, pull: Array, targets: Array) -> tuple[Array, Array]:
        mean = targets.mean(0, dtype=np.float64) if self.centred else np.zeros(targets.shape[1])
        matrix = inverse @ (self.x.T @ (targets - mean.astype(np.float32)) + pull)
        return matrix, mean - self.mean_x @ matrix

    def _outputs(self, matrix: Array, bias: Array) -> Array:
        made: Array = self.x @ matrix.astype(np.float32) + (bias + self.mean_x @ matrix).astype(np.float32)
        return made

    def error(self, matrix: Array, bias: Array) -> float:
        """Squared error of a solution over these rows."""
        return float(np.square(self._outputs(matrix, bias) - self.y).sum())


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
    for regressions in readers.values():
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
            matrix, bias = _fit(
                np.stack(x), layer.targets[numbers][:, :, columns], start, regression, clamp, layer.damping
            )
            constants[regression.weight] = regression.weight_of(matrix, weight.shape)
            if regression.bias is not None:
                constants[regression.bias] = bias.reshape(pruned.constants[regression.bias].shape).astype(np.float32)
    return pruned.with_constants(constants)


def _fit(
    x: Array, y: Array, start: Array, regression: Regression, clamp: tuple[float, float], damping: float
) -> tuple[Array, Array]:
    """Fits (samples, rows, columns) to (samples, rows, outputs)."""
    rows, targets = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
    return _Problem(rows, targets, start, regression.bias is not None).solve(damping, clamp)

"""Least squares: what is left of each layer learns to make, from its pruned inputs, what the whole layer made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

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

ROUNDS = 3
"""Times that targets behind a clamp are moved."""


class _Problem:
    """Rows and targets of one layer, with the products that every solution needs."""

    def __init__(self, x: Array, y: Array, offset: Array | None, start: Array, centred: bool) -> None:
        """Takes (rows, columns), (rows, outputs), what is added to the outputs, and the weights to stay near."""
        self.mean = x.mean(0) if centred else np.zeros_like(x[0])
        self.x, self.y, self.start, self.centred = x - self.mean, y, start, centred
        self.offset = np.float32(0) if offset is None else offset

    def solve(self, damping: float, clamp: tuple[float, float]) -> tuple[Array, Array]:
        """(matrix, bias) of least squares, drawn towards `start`.

        Where an activation clamps the output, only what comes through counts: a target below the clamp is met by
        any value below it. So such targets are moved to what the last solution made, as far as it was right, and
        the problem is solved again (Zhang et al., 2016, by auxiliary variables).
        """
        moment = (self.x.T @ self.x).astype(np.float64)
        ridge = damping * max(float(np.mean(np.diag(moment))), 1e-12)
        # One inverse serves every round.
        inverse = np.linalg.inv(moment + ridge * np.eye(len(moment)))
        pull = ridge * self.start
        matrix, bias = self._solution(inverse, pull, self.y)
        low, high = clamp
        for _ in range(ROUNDS if np.isfinite(low) or np.isfinite(high) else 0):
            made: Array = self.x @ matrix.astype(np.float32) + (bias + self.mean @ matrix).astype(np.float32)
            made += self.offset
            targets = self.y
            if np.isfinite(low):
                targets = np.where(self.y <= low, np.minimum(made, np.float32(low)), targets)
            if np.isfinite(high):
                targets = np.where(self.y >= high, np.maximum(made, np.float32(high)), targets)
            matrix, bias = self._solution(inverse, pull, targets)
        return matrix, bias

    def _solution(self, inverse: Array, pull: Array, targets: Array) -> tuple[Array, Array]:
        own = targets - self.offset
        mean = own.mean(0, dtype=np.float64) if self.centred else np.zeros(own.shape[1])
        matrix = inverse @ (self.x.T @ (own - mean.astype(np.float32)) + pull)
        return matrix, mean - self.mean @ matrix


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
    readers: dict[str, list[Regression]] = {}
    for regression in statistics.regressions:
        readers.setdefault(regression.source, []).append(regression)
    # A skip is asked for just before the source of the layer that it is added to: all before it is settled then.
    skips = {source: [r.skip for r in regressions if r.skip] for source, regressions in readers.items()}
    targets = dict.fromkeys(name for source in readers for name in (*skips[source], source))
    needed_until = {name: step for step, source in enumerate(readers) for name in (*skips[source], source)}
    stages, values = Stages(pruned, samples, list(targets)), dict[str, list[Array]]()
    for step, (source, regressions) in enumerate(readers.items()):
        for name in (*skips[source], source):
            if name not in values:
                values[name] = stages.advance(constants)
        for regression in regressions:
            weight, axis = pruned.constants[regression.weight], regression.input_axis
            if weight.shape[axis] == before[regression.weight].shape[axis] and not constants:
                continue  # all before it is as it was
            start = regression.matrix(weight)
            layer = statistics.layers[regression.operator]
            kept = kept_outputs.get(regression.weight)
            columns = np.arange(start.shape[1]) if kept is None else regression.outputs(kept, weight.shape)
            rows, targets_here, offsets = [], [], []
            for sample, number in enumerate(numbers):
                x = values[source][sample]
                positions = positions_of(regression, x.shape, layer.rows, int(number))
                rows.append(regression.rows(x, positions))
                targets_here.append(layer.targets[number][:, columns])
                if regression.skip:
                    offsets.append(regression.skip_rows(values[regression.skip][sample], positions))
            offset = np.concatenate(offsets) if offsets else None
            problem = _Problem(np.concatenate(rows), np.concatenate(targets_here), offset, start, bool(regression.bias))
            matrix, bias = problem.solve(layer.damping, regression.clamp)
            constants[regression.weight] = regression.weight_of(matrix, weight.shape)
            if regression.bias is not None:
                constants[regression.bias] = bias.reshape(pruned.constants[regression.bias].shape).astype(np.float32)
        values = {name: arrays for name, arrays in values.items() if needed_until[name] > step}
    return pruned.with_constants(constants)

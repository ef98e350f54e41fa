"""In which order the units of a channel group go, and what each costs.

Cost is the squared error that a consumer's outputs suffer, as a fraction of their variance:

- ``energy``: of removing the unit and leaving the rest as it is (its activations' covariance times the weights
  that read it).
- ``obs``: of removing it and refitting all that is left by least squares, greedily, unit after unit, as in the
  optimal brain surgeon (Hassibi and Stork, 1993; in blocks as in Kwon et al., 2022, and Frantar and Alistarh, 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.compress.prune.regression import Regression
    from leanedge.compress.prune.statistics import LayerStatistics
    from leanedge.graph.groups import ChannelGroup

__all__ = ["DAMPING", "Measure", "Ranking", "rank"]

Array = np.ndarray[Any, Any]
Measure = Literal["energy", "obs"]

DAMPING = 1e-3
"""Added to the diagonal of a second moment, as a fraction of its mean: what refitting uses as well."""

SMALLEST_SHARE = 8
"""At least one unit in so many stays."""

STEPS = 96
"""A group is ranked in about so many steps; between two of them costs are not found anew."""


@dataclass(frozen=True)
class Ranking:
    """The way down of one group.

    Attributes:
        order: (size,) units, the first to go first; those that always stay come last.
        costs: (size,) what each adds to the error when all before it are gone; never falls. Infinite: stays.
    """

    order: Array
    costs: Array


class _Consumer:
    """One layer that reads a group: its weights and the inverse of its inputs' second moment, as units go."""

    def __init__(self, regression: Regression, layer: LayerStatistics, matrix: Array, columns: Array) -> None:
        self.columns = columns
        self.scale = 1.0 / max(layer.variance, 1e-12)
        self.matrix = matrix.astype(np.float32)
        self.inverse: Array | None = None
        self.blocks = layer.blocks
        self.taps = regression.taps
        if layer.gram is not None:
            damping = DAMPING * max(float(np.mean(np.diag(layer.gram))), 1e-12)
            self.gram = layer.gram
            self.inverse = np.linalg.inv(layer.gram + damping * np.eye(len(layer.gram), dtype=np.float32))

    def energy(self) -> Array:
        """Cost of each unit when nothing else changes."""
        if self.inverse is None:
            channels = self.columns[:, :: self.taps] // self.taps
            weights = self.matrix.reshape(len(self.blocks), self.taps, -1)[channels]
            alone: Array = np.einsum("ucto,uctv,ucvo->u", weights, self.blocks[channels], weights, optimize=True)
            return self.scale * alone
        weights = self.matrix[self.columns]
        moments = self.gram[self.columns[:, :, None], self.columns[:, None, :]]
        together: Array = np.einsum("uko,ukl,ulo->u", weights, moments, weights, optimize=True)
        return self.scale * together

    def surgery(self, units: Array) -> Array:
        """Cost of each of these units after the refit."""
        if self.inverse is None:
            return self.energy()[units]
        columns = self.columns[units]
        weights = self.matrix[columns]
        inner = self.inverse[columns[:, :, None], columns[:, None, :]]
        fitted = weights / inner if inner.shape[1] == 1 else np.linalg.solve(inner, weights)
        cost: Array = np.einsum("uko,uko->u", weights, fitted)
        return self.scale * cost

    def remove(self, units: Array) -> float:
        """Takes the units out, refits the rest; the cost of all of them together."""
        gone = self.columns[units].ravel()
        if self.inverse is None:
            cost = float(self.energy()[units].sum())
            self.matrix[gone] = 0
            return cost
        across = self.inverse[:, gone]
        fitted = np.linalg.solve(across[gone], self.matrix[gone])
        cost = self.scale * float((self.matrix[gone] * fitted).sum())
        self.matrix -= across @ fitted
        self.inverse -= across @ np.linalg.solve(across[gone], across.T)
        self.matrix[gone] = 0
        # What is gone must not come back through rounding: it is cut off from the rest.
        self.inverse[gone] = self.inverse[:, gone] = 0
        self.inverse[gone, gone] = 1
        return cost


def rank(
    group: ChannelGroup, layers: Mapping[str, tuple[Regression, LayerStatistics, Array]], measure: Measure
) -> Ranking:
    """The ranking of one group.

    Args:
        group: What is cut.
        layers: Weight -> the layer, its statistics and its weights as a matrix, for every layer that sums channels.
        measure: See the top of this file.
    """
    consumers = []
    for member in group.members:
        if member.role == "consumer" and member.constant in layers:
            regression, layer, matrix = layers[member.constant]
            consumers.append(_Consumer(regression, layer, matrix, regression.columns(member.indices)))
    stay = max(1, -(-group.size // SMALLEST_SHARE))
    if measure == "energy":
        costs = sum((consumer.energy() for consumer in consumers), np.zeros(group.size))
        order = np.argsort(costs, kind="stable")
        costs = np.maximum.accumulate(np.maximum(costs[order], 0))
    else:
        order, costs = _greedy(group.size, stay, consumers)
    costs[group.size - stay :] = np.inf
    return Ranking(order, costs)


def _greedy(size: int, stay: int, consumers: Sequence[_Consumer]) -> tuple[Array, Array]:
    alive = np.arange(size)
    order: list[Array] = []
    costs: list[Array] = []
    step = max(1, size // STEPS)
    while len(alive) > stay:
        each = np.maximum(sum(consumer.surgery(alive) for consumer in consumers), 0)
        lowest = np.argsort(each, kind="stable")[: min(step, len(alive) - stay)]
        together = sum(consumer.remove(alive[lowest]) for consumer in consumers)
        share = each[lowest] / each[lowest].sum() if each[lowest].sum() > 0 else np.full(len(lowest), 1 / len(lowest))
        order.append(alive[lowest])
        costs.append(max(together, 0.0) * share)
        alive = np.delete(alive, lowest)
    flat = np.concatenate([*costs, np.zeros(len(alive))]) if costs else np.zeros(len(alive))
    return np.concatenate([*order, alive]), np.maximum.accumulate(flat)

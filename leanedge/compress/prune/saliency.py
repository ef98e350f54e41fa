"""In which order the units of a channel group go, and what each costs.

Cost is the squared error that a consumer's outputs suffer, as a fraction of their variance:

- ``energy``: of removing the unit and leaving the rest as it is (its activations' covariance times the weights
  that read it).
- ``obs``: of removing it and refitting all that is left by least squares, greedily, unit after unit, as in the
  optimal brain surgeon (Hassibi and Stork, 1993; in blocks as in Kwon et al., 2022, and Frantar and Alistarh, 2023).
- ``effect``: as ``obs``, times what an error in these consumers does to the model's outputs, measured: each group
  in turn loses a part, its consumers refitted, and the model is run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.compress.prune.regression import Regression
    from leanedge.compress.prune.statistics import LayerStatistics
    from leanedge.graph.groups import ChannelGroup

    Layers = Mapping[str, tuple[Regression, LayerStatistics, "Array"]]
    """Weight -> the layer, its statistics and its weights as a matrix, for every layer that sums over channels."""

__all__ = [
    "DAMPINGS",
    "SMALLEST_SHARE",
    "Measure",
    "Probe",
    "Ranking",
    "rank_by_energy",
    "rank_by_surgery",
    "scale_to_effect",
]

Array = np.ndarray[Any, Any]
Measure = Literal["energy", "obs", "effect"]

DAMPINGS = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""What may be added to the diagonal of a second moment, as a fraction of its mean; cross-validation says which."""

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


@dataclass(frozen=True)
class Probe:
    """A group that lost its first units, seen by its consumers.

    Attributes:
        gone: Units.
        matrices: Weight -> the refitted matrix, zero where it reads what is gone.
    """

    gone: int
    matrices: Mapping[str, Array]


PROBED = 4
"""One unit in so many is gone in a probe. Probes further down were tried, and chose worse."""


class _Consumer:
    """One layer that reads a group: its weights and the inverse of its inputs' second moment, as units go."""

    def __init__(self, regression: Regression, layer: LayerStatistics, matrix: Array, columns: Array) -> None:
        self.columns = columns
        self.scale = 1.0 / max(layer.variance, 1e-12)
        self.matrix = matrix.astype(np.float32)
        self.inverse: Array | None = None
        self.blocks = layer.blocks
        self.taps = regression.taps
        self.gram, self.damping = layer.gram, 0.0
        if layer.gram is not None:
            self.damping = layer.damping * max(float(np.mean(np.diag(layer.gram))), 1e-12)
            damped = layer.gram + self.damping * np.eye(len(layer.gram))
            self.inverse = np.linalg.inv(damped).astype(np.float32)

    def energy(self) -> Array:
        """Cost of each unit when nothing else changes."""
        if self.gram is None:
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
        # Less what the damping adds: a layer of which little is known is judged by energy, not by magnitude.
        cost: Array = np.einsum("uko,uko->u", weights, fitted - self.damping * weights)
        return self.scale * cost

    def remove(self, units: Array) -> None:
        """Takes the units out and refits the rest."""
        gone = self.columns[units].ravel()
        if self.inverse is None:
            self.matrix[gone] = 0
            return
        across = self.inverse[:, gone]
        self.matrix -= across @ np.linalg.solve(across[gone], self.matrix[gone])
        self.inverse -= across @ np.linalg.solve(across[gone], across.T)
        self.matrix[gone] = 0
        # What is gone must not come back through rounding: it is cut off from the rest.
        self.inverse[gone] = self.inverse[:, gone] = 0
        self.inverse[gone, gone] = 1


def rank_by_energy(group: ChannelGroup, layers: Layers) -> Ranking:
    """The ranking of one group by ``energy``."""
    consumers = _consumers(group, layers)
    costs = sum((consumer.energy() for consumer in consumers.values()), np.zeros(group.size))
    order = np.argsort(costs, kind="stable")
    return _ranking(order, np.maximum(costs[order], 0))


def rank_by_surgery(group: ChannelGroup, layers: Layers) -> tuple[Ranking, Probe | None]:
    """The ranking of one group by ``obs``, and what its consumers are when a part is gone."""
    consumers = _consumers(group, layers)
    alive, stay = np.arange(group.size), _stays(group.size)
    order: list[Array] = []
    costs: list[Array] = []
    probe: Probe | None = None
    step = max(1, group.size // STEPS)
    while len(alive) > stay:
        each = np.maximum(sum(consumer.surgery(alive) for consumer in consumers.values()), 0)
        lowest = np.argsort(each, kind="stable")[: min(step, len(alive) - stay)]
        for consumer in consumers.values():
            consumer.remove(alive[lowest])
        order.append(alive[lowest])
        costs.append(each[lowest])
        alive = np.delete(alive, lowest)
        gone = group.size - len(alive)
        if probe is None and PROBED * gone >= group.size:
            probe = Probe(gone, {name: consumer.matrix.copy() for name, consumer in consumers.items()})
    return _ranking(np.concatenate([*order, alive]), np.concatenate([*costs, np.zeros(stay)])), probe


def scale_to_effect(ranking: Ranking, probe: Probe, effect: float) -> Ranking:
    """The ranking with its costs scaled so that those of what is gone in the probe add up to the measured effect."""
    foretold = float(ranking.costs[: probe.gone].sum())
    if foretold <= 0:
        return ranking
    return Ranking(ranking.order, ranking.costs * max(effect / foretold, 1e-12))  # a factor of 0 would make inf nan


def _consumers(group: ChannelGroup, layers: Layers) -> dict[str, _Consumer]:
    consumers = {}
    for member in group.members:
        if member.role == "consumer" and member.constant in layers:
            regression, layer, matrix = layers[member.constant]
            columns = regression.columns(member.indices)
            consumers[member.constant] = _Consumer(regression, layer, matrix, columns)
    return consumers


def _ranking(order: Array, costs: Array) -> Ranking:
    costs = np.maximum.accumulate(costs)
    costs[len(costs) - _stays(len(costs)) :] = np.inf
    return Ranking(order, costs)


def _stays(size: int) -> int:
    return max(1, -(-size // SMALLEST_SHARE))

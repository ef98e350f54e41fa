"""How many units of each group stay, so that the layers' multiply-accumulates come down to a given count."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from leanedge.graph.layers import describe_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.compress.prune.saliency import Ranking
    from leanedge.graph.groups import ChannelGroup
    from leanedge.graph.model import Graph

__all__ = ["Macs", "share_globally", "share_uniformly"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates as a function of how many units each group has: a sum of products.

    Attributes:
        scale: (layers,) MACs for one input and one output channel.
        channels: (layers, 2) input and output channels of the whole layer (1 where it has no such axis).
        shares: (layers, 2, groups) channels of it that one unit of a group takes.
        sizes: (groups,) units.
    """

    scale: Array
    channels: Array
    shares: Array
    sizes: Array

    @classmethod
    def of(cls, graph: Graph, groups: Sequence[ChannelGroup]) -> Macs:
        """Counts the layers that some group reaches."""
        macs = {layer.id: layer.macs for layer in describe_layers(graph)}
        weights = {(m.node, m.constant): None for g in groups for m in g.members if macs.get(m.node)}
        channels = np.ones((len(weights), 2))
        shares = np.zeros((len(weights), 2, len(groups)))
        for row, (node, constant) in enumerate(weights):
            for column, group in enumerate(groups):
                for member in group.members:
                    # The bias lies along the outputs as well, and is no factor.
                    if (member.node, member.constant) == (node, constant) and graph.constants[constant].ndim > 1:
                        side = 0 if member.role == "consumer" else 1
                        channels[row, side] = graph.constants[constant].shape[member.axis]
                        shares[row, side, column] += member.indices.shape[1]
        scale = np.array([macs[node] or 0 for node, _ in weights], float) / channels.prod(1)
        used = shares.any((1, 2))
        sizes = np.array([group.size for group in groups])
        return cls(scale[used], channels[used], shares[used], sizes)

    def at(self, counts: Array) -> float:
        """MACs when so many units of each group stay."""
        left = self.channels - self.shares @ (self.sizes - counts)
        return float(self.scale @ left.prod(1))


def share_uniformly(macs: Macs, target: float, floors: Array, steps: Array) -> Array:
    """Keeps the same fraction of every group: the smallest, in steps and above floors, that is still over `target`."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        if macs.at(_counts(macs.sizes * middle, macs.sizes, floors, steps)) > target:
            high = middle
        else:
            low = middle
    return _counts(macs.sizes * high, macs.sizes, floors, steps)


def share_globally(
    macs: Macs, target: float, rankings: Sequence[Ranking], floors: Array, steps: Array, start: Array
) -> Array:
    """From `start` on, takes the units of least cost for the MACs that they save until `target` is reached."""
    counts = start.astype(np.int64)
    totals = [np.concatenate([[0.0], np.cumsum(np.where(np.isinf(r.costs), 0, r.costs))]) for r in rankings]
    now = macs.at(counts)
    while now > target:
        moves = []
        for group, (size, floor, step) in enumerate(zip(macs.sizes, floors, steps, strict=True)):
            fewer = (counts[group] - 1) // step * step
            if fewer >= floor:
                trial = counts.copy()
                trial[group] = fewer
                cost = totals[group][size - fewer] - totals[group][size - counts[group]]
                moves.append(_Move(cost, trial, macs.at(trial)))
        if not moves:
            break
        best = min(moves, key=lambda move: move.cost / max(now - move.macs, 1e-9))
        counts, now = best.counts, best.macs
    return counts


class _Move(NamedTuple):
    cost: float
    counts: Array
    macs: float


def _counts(wanted: Array, sizes: Array, floors: Array, steps: Array) -> Array:
    rounded = np.rint(wanted / steps).astype(np.int64) * steps
    return np.where(wanted >= sizes, sizes, np.clip(rounded, floors, sizes))

"""Sequential bias correction: each layer's mean output is moved back to what it was in float.

Rounded weights and rounded inputs shift the mean of every output channel; the bias takes the shift away, layer after
layer, on inputs that went through all corrected layers before (Nagel et al. 2019, "Data-Free Quantization Through
Weight Equalization and Bias Correction", section 4.2, the empirical form).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.graph.run import float_runner

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from leanedge.graph.model import Graph
    from leanedge.graph.operators import Operator

__all__ = ["before_activation", "channel_axis", "channel_mean", "float_means"]

Array = np.ndarray[Any, Any]


def before_activation(graph: Graph, operator: Operator) -> str:
    """The value that a weighted operator makes before its fused clamp: where a shift is a constant."""
    if operator.activation is None or len(operator.nodes) == 1:
        return operator.output
    return str(graph.node_by_name[operator.nodes[-2]].outputs[0].name)


def channel_axis(operator: Operator, rank: int) -> int:
    """Axis of the channels in the operator's output: 1 for convolutions, the last for linear."""
    return rank - 1 if operator.kind == "linear" else 1


def channel_mean(array: Array, axis: int) -> Array:
    """Mean over all other axes, in float64."""
    others = tuple(index for index in range(array.ndim) if index != axis)
    mean: Array = array.mean(axis=others, dtype=np.float64)
    return mean


def float_means(
    graph: Graph, operators: Iterable[Operator], samples: Iterable[Mapping[str, Array]]
) -> dict[str, Array]:
    """Operator id -> (channels,) mean of what it makes in float before its activation."""
    where = {operator.id: (before_activation(graph, operator), operator) for operator in operators}
    run = float_runner(graph, extra=[value for value, _ in where.values()])
    sums: dict[str, Array] = {}
    count = 0
    for sample in samples:
        made = run(sample)
        count += 1
        for name, (value, operator) in where.items():
            mean = channel_mean(made[value], channel_axis(operator, made[value].ndim))
            sums[name] = sums[name] + mean if name in sums else mean
    return {name: total / count for name, total in sums.items()}

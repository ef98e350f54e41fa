"""What feeds a logarithm stays in float: 8 bits can't hold the relative error that it turns into an absolute one.

The front ends of audio models take the logarithm of a spectrum whose values span many orders of magnitude. All values
below half a step become 0 in integers, and log 0 is no number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.graph.operators import find_operators
from leanedge.graph.run import float_runner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.graph.model import Graph

__all__ = ["feeds_logarithm"]

Array = np.ndarray[Any, Any]
_SPAN = 255.0
"""Largest / smallest value that 8 bits can tell apart from 0."""

_SAMPLES = 8


def feeds_logarithm(graph: Graph, samples: Sequence[Mapping[str, Array]]) -> frozenset[str]:
    """Ids of the operators from which a ``Log`` computes, if its input spans more than 8 bits in the samples."""
    operators = find_operators(graph)
    logarithms = [o for o in operators if graph.node_by_name[o.id].op_type == "Log" and len(o.inputs) == 1]
    if not logarithms:
        return frozenset()
    run = float_runner(graph, extra=[o.inputs[0] for o in logarithms])
    spans = {o.inputs[0]: (np.inf, 0.0) for o in logarithms}
    for sample in samples[:: max(1, len(samples) // _SAMPLES)]:
        made = {**sample, **run(sample)}
        for value, (least, most) in spans.items():
            spans[value] = min(least, float(made[value].min())), max(most, float(made[value].max()))
    producer = {value: operator for operator in operators for value in operator.outputs}
    found: set[str] = set()
    todo = [value for value, (least, most) in spans.items() if most > _SPAN * max(least, 0.0)]
    while todo:
        operator = producer.get(todo.pop())
        if operator is not None and operator.id not in found:
            found.add(operator.id)
            todo += operator.inputs
    return frozenset(found)

"""Dynamic quantization (``w8a8_dynamic``) of linear layers and tables: int8 weights, input ranges found at run time.

The runtime takes the smallest and largest value of each input as it comes, so no calibration is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from leanedge.compress.quantize.weights import quantize_weight
from leanedge.compress.types import QuantizedConstant, QuantSpec
from leanedge.graph.model import attribute
from leanedge.graph.operators import find_operators

if TYPE_CHECKING:
    from leanedge.compress.quantize.rules import QuantRules
    from leanedge.graph.model import Graph
    from leanedge.graph.operators import Operator

__all__ = ["quantize_dynamic", "quantize_tables", "table_of"]

_SMALLEST_TABLE = 4096
"""Tables below this many values stay in float: their bytes don't matter."""


def quantize_dynamic(graph: Graph, rules: QuantRules, float_operators: frozenset[str]) -> QuantSpec:
    """Rounds the weights of every linear layer and embedding table; see `leanedge.compress.quantize.quantize`."""
    constants: dict[str, QuantizedConstant] = {}
    dynamic = set()
    operators = find_operators(graph)
    for operator in operators:
        if operator.id in float_operators or operator.kind != "linear" or operator.weight is None:
            continue
        weight = graph.constants[operator.weight]
        if weight.dtype != np.float32:
            continue
        axis = operator.channel_axis if operator.kind in rules.per_channel else None
        constants[operator.weight] = quantize_weight(weight, axis)
        dynamic.add(operator.id)
    constants.update(quantize_tables(graph, operators, float_operators))
    tables = {o.id for o in operators if (table := table_of(graph, o)) is not None and table in constants}
    return QuantSpec(
        scheme="w8a8_dynamic",
        rules=rules.name,
        constants=constants,
        float_operators=frozenset(o.id for o in operators if o.id not in dynamic | tables),
        dynamic_operators=frozenset(dynamic),
    )


def table_of(graph: Graph, operator: Operator) -> str | None:
    """The constant table whose rows a ``gather`` picks, or None where it picks from an activation or another axis."""
    if operator.kind != "gather":
        return None
    node = graph.node_by_name[operator.id]
    name = str(node.inputs[0].name) if node.inputs[0] is not None else ""
    table = graph.constants.get(name)
    if table is None or table.dtype != np.float32 or table.ndim != 2 or attribute(node, "axis", 0) != 0:
        return None
    return name if table.size >= _SMALLEST_TABLE and len(graph.consumers[name]) == 1 else None


def quantize_tables(
    graph: Graph, operators: tuple[Operator, ...], float_operators: frozenset[str]
) -> dict[str, QuantizedConstant]:
    """Embedding tables as int8, one scale a row: stored small, looked up, then made float."""
    found = {}
    for operator in operators:
        table = table_of(graph, operator)
        if table is not None and operator.id not in float_operators:
            found[table] = quantize_weight(graph.constants[table], 0)
    return found

"""Which operators compute in integers, which values carry a scale, and which values share one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from leanedge.errors import UsageError, nearest
from leanedge.graph.model import attribute
from leanedge.graph.operators import find_operators

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.compress.quantize.rules import QuantRules
    from leanedge.graph.model import Graph
    from leanedge.graph.operators import Operator

__all__ = ["Placement", "float_is_at_hand", "place", "spatial_mean"]

_MOVES = frozenset({"reshape", "transpose", "split", "slice", "pad", "gather", "max_pool", "resize", "clip"})
"""Kinds that take integers as they come: in integers wherever their input is, or wherever all their readers are."""


@dataclass(frozen=True)
class Placement:
    """Where the integers are.

    Attributes:
        operators: All operators in execution order.
        integer: Ids of those that compute in integers.
        quantized: Values that carry a scale, in order.
        group: Quantized value -> the value that stands for all that share its scale.
        fixed: Value that stands for a group -> (scale, int8 zero point) the rules demand.
        producer: Value -> the operator that makes it.
        readers: Value -> operators that read it.
    """

    operators: tuple[Operator, ...]
    integer: frozenset[str]
    quantized: tuple[str, ...]
    group: Mapping[str, str]
    fixed: Mapping[str, tuple[float, int]]
    producer: Mapping[str, Operator] = field(default_factory=dict)
    readers: Mapping[str, tuple[Operator, ...]] = field(default_factory=dict)


def place(graph: Graph, rules: QuantRules, float_operators: frozenset[str] = frozenset()) -> Placement:
    """Decides for every operator and value of the graph.

    Args:
        graph: The float graph.
        rules: What the runtime's kernels demand.
        float_operators: Ids of operators that must stay in float.

    Raises:
        UsageError: `float_operators` names no operator of the graph.
    """
    operators = find_operators(graph)
    ids = [operator.id for operator in operators]
    for name in sorted(float_operators):
        if name not in ids:
            raise UsageError(f"float_operators: the graph has no operator {name!r}", hint=nearest(name, ids))
    producer = {value: operator for operator in operators for value in operator.outputs}
    readers: dict[str, list[Operator]] = {}
    for operator in operators:
        for value in dict.fromkeys(operator.inputs):
            readers.setdefault(value, []).append(operator)
    able = {o.id for o in operators if o.id not in float_operators and _has_kernel(graph, o, rules)}
    integer = able if rules.whole else _that_gain(graph, operators, rules, able, readers)
    quantized = _values(graph, operators, rules, integer)
    group, fixed = _groups(operators, rules, integer, quantized)
    return Placement(
        operators=operators,
        integer=frozenset(integer),
        quantized=tuple(quantized),
        group=group,
        fixed=fixed,
        producer=producer,
        readers={value: tuple(found) for value, found in readers.items()},
    )


def float_is_at_hand(graph: Graph, rules: QuantRules, placement: Placement, value: str) -> bool:
    """True where a quantized value exists in float too, so that float readers need not take the rounded one.

    So it is with model inputs, with what a float operator makes, and with the float output of an integer kernel that
    has one and is read by a float operator.
    """
    made_by = placement.producer.get(value)
    if made_by is None or made_by.id not in placement.integer:
        return True
    if made_by.kind not in rules.float_output:
        return False
    return value in graph.output_names or any(r.id not in placement.integer for r in placement.readers.get(value, ()))


def spatial_mean(graph: Graph, operator: Operator) -> bool:
    """True where a ``mean`` is over all spatial axes and no other: a global average pool."""
    node = graph.node_by_name[operator.nodes[0]]
    if node.op_type == "GlobalAveragePool":
        return True
    shape = graph.shape(operator.inputs[0]) if operator.inputs else None
    if shape is None or len(shape) < 3:
        return False
    axes = attribute(node, "axes", None)
    if axes is None and len(node.inputs) > 1 and node.inputs[1] is not None:
        axes = graph.constants.get(str(node.inputs[1].name))
    if axes is None:
        return False
    found = {int(axis) % len(shape) for axis in np.ravel(axes)}
    return found == set(range(2, len(shape)))


def _has_kernel(graph: Graph, operator: Operator, rules: QuantRules) -> bool:
    """Whether an integer kernel of the runtime can compute this operator as it stands."""
    if operator.kind not in rules.integer or not operator.inputs:
        return False
    if any(_is_not_float(graph, value) for value in (*operator.inputs, *operator.outputs)):
        return False
    if operator.has_channels and any(len(graph.consumers[n]) > 1 for n in (operator.weight, operator.bias) if n):
        return False  # integers of a shared constant would need one input scale for all who read it
    node = graph.node_by_name[operator.nodes[0]]
    if any(attr.type.name in ("GRAPH", "GRAPHS") for attr in node.attributes.values()):
        return False
    if operator.kind == "mean":
        return spatial_mean(graph, operator)
    if operator.kind == "max_pool":
        return len(operator.outputs) == 1
    if operator.kind == "resize":
        return bool(attribute(node, "mode", "nearest") in ("nearest", "linear"))
    if operator.kind in ("gather", "concat", "matmul"):
        data = node.inputs[:1] if operator.kind == "gather" else node.inputs
        return all(value is None or str(value.name) not in graph.constants for value in data)
    if operator.kind == "pad":
        return bool(attribute(node, "mode", "constant") == "constant")
    return True


def _is_not_float(graph: Graph, name: str) -> bool:
    value = graph.values.get(name)
    return value is None or value.dtype is None or np.dtype(value.dtype.numpy()) != np.float32


def _that_gain(
    graph: Graph,
    operators: tuple[Operator, ...],
    rules: QuantRules,
    able: set[str],
    readers: Mapping[str, list[Operator]],
) -> set[str]:
    """Drops operators that would only add a rounding: those without integers on both sides.

    Kinds with weights stay. A mover stays where its input is made as integers, or where all that reads its output
    takes integers. Any other stays where its inputs can come as integers and somebody takes its output as integers.
    """
    weighted = {o.id for o in operators if o.id in able and o.has_channels}
    movers = {o.id for o in operators if o.id in able and o.kind in _MOVES}
    # Forward: which values can come as integers without a rounding that nobody asked for.
    can_come: set[str] = set()
    for operator in operators:
        if operator.id in weighted or (operator.id in able and all(value in can_come for value in operator.inputs)):
            can_come.update(operator.outputs)
    # Backward: which values some reader takes as integers.
    wanted: set[str] = set()
    weak: set[str] = set()
    for operator in reversed(operators):
        is_wanted = any(value in wanted for value in operator.outputs)
        is_weak = operator.id in able and operator.id not in weighted | movers
        if is_weak and is_wanted and all(value in can_come for value in operator.inputs):
            weak.add(operator.id)
        if operator.id in weighted | weak or (operator.id in movers and is_wanted):
            wanted.update(operator.inputs)
    # Movers: forward from values that exist only as integers, backward from values that all readers take so.
    integer = weighted | weak
    for operator in reversed(operators):
        if operator.id in movers and operator.kind != "clip":
            read_by = [reader for value in operator.outputs for reader in readers.get(value, ())]
            outlet = any(value in graph.output_names for value in operator.outputs)
            if read_by and not outlet and all(reader.id in integer for reader in read_by):
                integer.add(operator.id)
    only_integers: set[str] = set()
    for operator in operators:
        comes = all(value in only_integers for value in operator.inputs)
        if operator.id in movers and comes:
            integer.add(operator.id)
        optional = operator.kind in rules.float_output
        if operator.id in integer and not optional and (operator.id not in movers or comes):
            only_integers.update(operator.outputs)
    return integer


def _values(
    graph: Graph,
    operators: tuple[Operator, ...],
    rules: QuantRules,
    integer: set[str],
) -> list[str]:
    needed = {value for operator in operators if operator.id in integer for value in operator.inputs}
    for operator in operators:
        if operator.id not in integer:
            continue
        for value in operator.outputs:
            if rules.whole or operator.kind not in rules.float_output:
                needed.add(value)
    order = [info.name for info in graph.inputs] + [value for operator in operators for value in operator.outputs]
    return [value for value in order if value in needed]


def _groups(
    operators: tuple[Operator, ...], rules: QuantRules, integer: set[str], quantized: list[str]
) -> tuple[dict[str, str], dict[str, tuple[float, int]]]:
    """Unites the values that the rules tie; a fixed scale wins over its whole group."""
    parent = {value: value for value in quantized}

    def root(value: str) -> str:
        while parent[value] != value:
            value = parent[value]
        return value

    order = {value: index for index, value in enumerate(quantized)}
    fixed_value = {
        operator.output: rules.fixed[operator.kind]
        for operator in operators
        if operator.id in integer and operator.kind in rules.fixed and operator.output in parent
    }

    def tie(values: list[str]) -> None:
        for value in values[1:]:
            first, second = sorted((root(values[0]), root(value)), key=lambda name: order[name])
            parent[second] = first

    tied = [operator for operator in operators if operator.id in integer and operator.kind in rules.tied]
    for operator in tied:
        if operator.kind != "concat":
            tie([value for value in (*operator.inputs, *operator.outputs) if value in parent])
    fixed = {root(value): scale for value, scale in fixed_value.items()}
    for operator in tied:
        if operator.kind == "concat":
            # An input whose scale is fixed can't follow the others: it is requantized on the way in.
            free = [value for value in operator.inputs if root(value) not in fixed]
            tie([*free, operator.output])
    return {value: root(value) for value in quantized}, fixed

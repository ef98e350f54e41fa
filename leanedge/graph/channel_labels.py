"""Labels of channels: what is cut together shares one. Values and constants are labelled in one walk over the graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx_ir as ir

    from leanedge.graph.model import Graph

__all__ = ["FROZEN", "Channels", "Claim", "Role", "Walk", "input_name"]

Array = np.ndarray[Any, Any]
Role = Literal["producer", "through", "consumer"]

FROZEN = 0
"""The label of channels that can't be cut."""


@dataclass(frozen=True)
class Channels:
    """The labels along one axis of a value."""

    axis: int
    labels: Array


@dataclass(frozen=True)
class Claim:
    """One axis of a constant that follows the channels of a value.

    Attributes:
        node: The node that reads the constant.
        constant: Initializer.
        axis: Its axis, as long as `labels`.
        labels: Label of each index.
        role: ``producer``: the node makes these channels anew. ``through``: it works on each channel alone
            (depthwise, bias, slope). ``consumer``: it sums over them.
    """

    node: str
    constant: str
    axis: int
    labels: Array
    role: Role


class Walk:
    """The state of one walk: a union-find over labels, and what they are attached to."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.parent = [FROZEN]
        self.values: dict[str, Channels] = {}
        self.claims: list[Claim] = []
        self.reasons: list[tuple[str, str]] = []
        self.read_by: dict[str, list[str]] = {}
        for name, nodes in graph.consumers.items():
            for node in nodes:
                self.read_by.setdefault(str(node.name), []).append(name)

    def fresh(self, count: int) -> Array:
        """New labels, each different from all others."""
        first = len(self.parent)
        self.parent.extend(range(first, first + count))
        return np.arange(first, first + count)

    def find(self, label: int) -> int:
        """The label that stands for all that this one was merged with."""
        while self.parent[label] != label:
            self.parent[label] = label = self.parent[self.parent[label]]
        return label

    def merge(self, first: Iterable[int], second: Iterable[int]) -> None:
        """Makes the labels equal, pair by pair."""
        for a, b in zip(first, second, strict=True):
            one, other = self.find(int(a)), self.find(int(b))
            # The smaller label leads, so that FROZEN always does.
            self.parent[max(one, other)] = min(one, other)

    def roots(self) -> Array:
        """What every label has become."""
        return np.array([self.find(label) for label in range(len(self.parent))])

    def freeze(self, value: str, where: str, reason: str) -> None:
        """Fixes a value's channels for good."""
        found = self.values.get(value)
        if found is not None:
            for label in found.labels:
                self.merge([int(label)], [FROZEN])
            self.reasons.append((where, reason))

    def of(self, node: ir.Node, index: int = 0) -> Channels | None:
        """The channels of an input of the node."""
        return self.values.get(input_name(node, index))

    def on_axis(self, node: ir.Node, axis: int, index: int = 0) -> Channels | None:
        """The input's channels when they lie on that axis; frozen when on another."""
        found = self.of(node, index)
        if found is not None and found.axis != axis:
            self.freeze(input_name(node, index), str(node.name), f"{node.op_type} reads another axis of it")
            return None
        return found

    def constant(self, node: ir.Node, index: int) -> Array | None:
        """An input of the node that is a constant."""
        return self.graph.constants.get(input_name(node, index))

    def claim(self, node: ir.Node, index: int, axis: int, labels: Array, role: Role) -> None:
        """Says that an axis of a constant input follows these labels."""
        self.claims.append(Claim(str(node.name), input_name(node, index), axis, labels, role))

    def give(self, node: ir.Node, axis: int, labels: Array, output: int = 0) -> None:
        """Labels an output of the node."""
        self.values[str(node.outputs[output].name)] = Channels(axis, labels)

    def settle_constants(self) -> None:
        """A constant axis that several nodes read is cut for all of them or for none."""
        claimed: dict[tuple[str, int], list[Claim]] = {}
        for claim in self.claims:
            claimed.setdefault((claim.constant, claim.axis), []).append(claim)
        for (constant, _), claims in claimed.items():
            for other in claims[1:]:
                self.merge(claims[0].labels, other.labels)
            readers = {str(node.name) for node in self.graph.consumers.get(constant, ())}
            if constant in self.graph.output_names or readers != {claim.node for claim in claims}:
                for label in claims[0].labels:
                    self.merge([int(label)], [FROZEN])
                self.reasons.append((constant, "is a constant that other nodes read as well"))


def input_name(node: ir.Node, index: int) -> str:
    """Name of an input; empty where the node has none there."""
    value = node.inputs[index] if index < len(node.inputs) else None
    return str(value.name) if value is not None else ""

"""Which channels are one and the same: every channel of every value gets a label, and coupled ones share it.

A convolution makes new labels; an activation or pool hands them on; an addition merges those of its operands; a
concatenation lays them side by side; what is not understood, and the model's inputs and outputs, fix them for good.
The idea of coupling is DepGraph's (Fang et al., CVPR 2023); here it is one walk over the graph with a union-find.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from leanedge.graph.channel_labels import Channels, Claim, Walk
from leanedge.graph.channel_rules import RULES, freeze_all

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.graph.model import Graph

__all__ = ["ChannelFlow", "follow_channels"]


@dataclass(frozen=True)
class ChannelFlow:
    """Labels of values and constants, merged: equal labels are cut together, `FROZEN` never.

    Attributes:
        values: Value -> its labelled axis. A value without an entry has no channels that could be cut.
        claims: What follows them, in execution order.
        frozen_by: Where and why labels were frozen: (node, output or constant; reason).
    """

    values: Mapping[str, Channels]
    claims: tuple[Claim, ...]
    frozen_by: tuple[tuple[str, str], ...]


def follow_channels(graph: Graph) -> ChannelFlow:
    """Walks the graph once, in execution order."""
    walk = Walk(graph)
    for node in graph.nodes:
        rule = RULES.get(node.op_type, freeze_all) if node.domain in ("", "ai.onnx") else freeze_all
        rule(walk, node)
    for name in graph.output_names:
        walk.freeze(name, name, "is a model output")
    walk.settle_constants()
    root = walk.roots()
    return ChannelFlow(
        {name: Channels(found.axis, root[found.labels]) for name, found in walk.values.items()},
        tuple(Claim(c.node, c.constant, c.axis, root[c.labels], c.role) for c in walk.claims),
        tuple(dict.fromkeys(walk.reasons)),
    )

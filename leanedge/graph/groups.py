"""Channel groups: what has to be cut together, and the cut itself.

conv a -> relu -> depthwise -> conv b        one group: a's outputs, the depthwise's channels, b's inputs
x + conv a,  x + conv b                      one group: all that is ever added to x
concat(conv a, conv b) -> conv c             two groups: c's inputs are cut where a's or b's outputs are
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from leanedge.errors import UsageError
from leanedge.graph.channel_flow import ChannelFlow, follow_channels
from leanedge.graph.channel_labels import FROZEN, Role
from leanedge.graph.channel_rules import slice_parameters
from leanedge.graph.model import Graph, attribute
from leanedge.graph.patterns import add_constant
from leanedge.graph.shapes import infer_shapes

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ChannelGroup", "Member", "cut", "find_groups", "why_frozen"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Member:
    """One axis of a constant that is cut with the group.

    Attributes:
        node: The node that reads the constant.
        constant: Initializer.
        axis: Its axis.
        indices: (size, n) the n indices on the axis that each unit covers (more than 1 behind a flatten).
        role: ``producer``, ``through`` (one channel at a time: depthwise, bias, slope) or ``consumer``.
    """

    node: str
    constant: str
    axis: int
    indices: Array
    role: Role


@dataclass(frozen=True)
class ChannelGroup:
    """Units that can be cut, each with all that has to go with it.

    Attributes:
        id: Name of the first node that produces its channels, with ``#2`` and so on where that one has several.
        size: Units.
        members: What is cut, in execution order.
        labels: (size,) the units in the `ChannelFlow` of the graph.
    """

    id: str
    size: int
    members: tuple[Member, ...] = field(repr=False)
    labels: Array = field(repr=False)

    @property
    def producers(self) -> tuple[str, ...]:
        """Nodes that make the channels."""
        return self._nodes("producer")

    @property
    def consumers(self) -> tuple[str, ...]:
        """Nodes that sum over the channels."""
        return self._nodes("consumer")

    @property
    def unit(self) -> int:
        """Channels of the first producer that go together (more than 1 in a grouped convolution)."""
        return next(int(m.indices.shape[1]) for m in self.members if m.role == "producer")

    def _nodes(self, role: Role) -> tuple[str, ...]:
        return tuple(dict.fromkeys(member.node for member in self.members if member.role == role))


def find_groups(graph: Graph) -> tuple[ChannelGroup, ...]:
    """All groups that can be cut, in execution order: with a producer, a consumer and more than one unit."""
    return groups_of(follow_channels(graph))


def groups_of(flow: ChannelFlow) -> tuple[ChannelGroup, ...]:
    """The groups of a flow that was already found."""
    places: dict[int, dict[int, list[int]]] = {}
    for number, claim in enumerate(flow.claims):
        for index, label in enumerate(claim.labels):
            if label != FROZEN:
                places.setdefault(int(label), {}).setdefault(number, []).append(index)
    # Units that touch the same claims, each as often, make a group.
    alike: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for label, touched in places.items():
        alike.setdefault(tuple((number, len(found)) for number, found in sorted(touched.items())), []).append(label)
    groups, used = [], dict[str, int]()
    for signature, labels in sorted(alike.items(), key=lambda item: item[0]):
        members = tuple(
            Member(
                flow.claims[number].node,
                flow.claims[number].constant,
                flow.claims[number].axis,
                np.array([places[label][number] for label in labels]),
                flow.claims[number].role,
            )
            for number, _ in signature
        )
        roles = {member.role for member in members}
        if len(labels) < 2 or not {"producer", "consumer"} <= roles:
            continue
        name = next(member.node for member in members if member.role == "producer")
        used[name] = used.get(name, 0) + 1
        identity = name if used[name] == 1 else f"{name}#{used[name]}"
        groups.append(ChannelGroup(identity, len(labels), members, np.array(labels)))
    return tuple(groups)


def why_frozen(graph: Graph) -> str:
    """In words, what keeps channels from being cut; for a refusal."""
    reasons: dict[str, list[str]] = {}
    for where, reason in follow_channels(graph).frozen_by:
        reasons.setdefault(reason, []).append(where)
    if not reasons:
        return "no layer makes channels that another one reads"
    return "; ".join(f"{', '.join(names[:3])}{' ...' * (len(names) > 3)}: {why}" for why, names in reasons.items())


def cut(graph: Graph, kept: Mapping[str, Array]) -> Graph:
    """Removes channels.

    Args:
        graph: Not changed.
        kept: Group id -> indices of the units that stay; groups that are not named stay whole.

    Raises:
        UsageError: An unknown group, or indices that are out of range or leave nothing.
    """
    flow = follow_channels(graph)
    groups = {group.id: group for group in groups_of(flow)}
    stays = np.ones(1 + max((int(claim.labels.max(initial=0)) for claim in flow.claims), default=0), bool)
    for name, indices in kept.items():
        if name not in groups:
            raise UsageError(f"no channel group {name}", allowed=", ".join(groups) or "none: nothing can be cut")
        units = np.unique(np.asarray(indices, np.int64))
        if not len(units) or units[0] < 0 or units[-1] >= groups[name].size:
            raise UsageError(f"units to keep of {name} are out of range", allowed=f"1 to {groups[name].size} of them")
        stays[groups[name].labels] = False
        stays[groups[name].labels[units]] = True
    model = graph.editable()
    arrays = {claim.constant: graph.constants[claim.constant] for claim in flow.claims}
    for (constant, axis), labels in {(c.constant, c.axis): c.labels for c in flow.claims}.items():
        arrays[constant] = np.compress(stays[labels], arrays[constant], axis)
    for name, array in arrays.items():
        value = model.graph.initializers[name]
        value.const_value = ir.tensor(np.ascontiguousarray(array), name=name)
        value.shape = ir.Shape(array.shape)
    masks = {name: (found.axis, stays[found.labels]) for name, found in flow.values.items()}
    for node in model.graph:
        _adjust(graph, model, node, masks)
    return Graph(infer_shapes(model, forget=True))


def _adjust(graph: Graph, model: ir.Model, node: ir.Node, masks: Mapping[str, tuple[int, Array]]) -> None:
    """Gives a node the attributes and parameters that fit its fewer channels."""
    source = masks.get(_first(node))
    made = [masks.get(str(output.name)) for output in node.outputs]
    if source is None or all(source[1]):
        return
    axis, mask = source
    if node.op_type in ("Conv", "ConvTranspose") and attribute(node, "group", 1) > 1:
        before = attribute(node, "group", 1)
        node.attributes["group"] = ir.AttrInt64("group", before * int(mask.sum()) // len(mask))
    elif node.op_type == "Reshape" and made[0] is not None:
        shape = list(graph.shape(str(node.outputs[0].name)) or ())
        shape[made[0][0]] = int(made[0][1].sum())
        _set_input(model, node, 1, np.array(shape, np.int64))
    elif node.op_type == "Split" and (made[0] is not None and attribute(node, "axis", 0) % _rank(graph, node) == axis):
        _set_input(model, node, 1, np.array([int(part[1].sum()) for part in made if part is not None], np.int64))
        node.attributes.pop("num_outputs", None)
    elif node.op_type == "Slice":
        starts, ends, axes, steps = slice_parameters(graph, node, _rank(graph, node))
        for at, sliced in enumerate(axes):
            if sliced == axis:
                start, end, _ = slice(starts[at], ends[at]).indices(len(mask))
                starts[at], ends[at] = int(mask[:start].sum()), int(mask[: max(start, end)].sum())
        for index, values in enumerate((starts, ends, axes, steps), 1):
            _set_input(model, node, index, np.array(values, np.int64))
    elif node.op_type == "Resize" and len(node.inputs) > 3 and node.inputs[3] is not None:
        sizes = graph.constants[str(node.inputs[3].name)].copy()
        sizes[axis] = int(mask.sum())
        _set_input(model, node, 3, sizes)


def _first(node: ir.Node) -> str:
    return str(node.inputs[0].name) if node.inputs and node.inputs[0] is not None else ""


def _rank(graph: Graph, node: ir.Node) -> int:
    return len(graph.shape(_first(node)) or ())


def _set_input(model: ir.Model, node: ir.Node, index: int, array: Array) -> None:
    """A constant of the node's own: other nodes may share the old one."""
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, add_constant(model, f"{node.name}.input{index}", array))

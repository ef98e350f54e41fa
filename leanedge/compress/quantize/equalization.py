"""Exact equalization: channels between two layers are scaled so that 8 bits serve all of them alike.

Where only layers with weights read the channels of another layer (through ReLU, pooling or means, if any), channel c
may be divided by s[c] at its source and multiplied by s[c] in its readers' weights: the float model computes the same.
It pays twice: activations have one scale a tensor, so a channel of small values wastes codes; and so do weights where
they must have one scale a tensor (Nagel et al. 2019, "Data-Free Quantization", section 4.1; Xiao et al. 2022,
"SmoothQuant", equation 4, for activations). Never through a clip at a finite value: that would not be exact.

s is taken from a one-parameter family for each pair, by the output noise that each member is expected to leave.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.quantize.placement import place, spatial_mean
from leanedge.compress.quantize.rules import rules_named
from leanedge.graph.model import attribute
from leanedge.graph.run import float_runner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.compress.quantize.placement import Placement
    from leanedge.compress.quantize.rules import QuantRules
    from leanedge.data.samples import Samples
    from leanedge.graph.model import Graph
    from leanedge.graph.operators import Operator
    from leanedge.names import Scheme

__all__ = ["equalize"]

Array = np.ndarray[Any, Any]
_SAMPLES = 64
_LARGEST_SCALE = 2.0**8
"""Bound of s and 1/s: beyond it float32 sums change in their last bits, and dead channels would explode."""


@dataclass(frozen=True)
class _Source:
    """Where channels come from: constants whose axis is the channel, divided by s."""

    operator: Operator
    value: str
    constants: tuple[tuple[str, int], ...]
    weight: str | None


@dataclass(frozen=True)
class _Reader:
    """A layer that reads the channels: its weight is multiplied by s along its input channels."""

    operator: Operator
    weight: str


@dataclass(frozen=True)
class _Channels:
    """What one channel of the value holds, (channels,) each."""

    low: Array
    high: Array
    mean: Array
    energy: Array

    def span(self) -> Array:
        """(channels,) the range that unseen data may fill: what was seen, and 4 standard deviations on both sides.

        A channel of which few values were seen (a mean over all pixels) would else be scaled to its largest one, and
        every larger one would be cut off.
        """
        reach = 4 * np.sqrt(self.variance())
        low = np.where(self.low < 0, np.minimum(self.low, self.mean - reach), 0.0)
        width: Array = np.maximum(self.high, self.mean + reach) - low
        return width

    def variance(self) -> Array:
        """What rounding of weights acts on: bias correction takes the mean's share away."""
        spread: Array = np.maximum(self.energy - self.mean**2, 0.0)
        return spread


def equalize(graph: Graph, calibration: Samples, scheme: Scheme, rules: str) -> Graph:
    """The same float function with channels of like range between its layers.

    Args:
        graph: The float graph.
        calibration: Samples, one step each; at most 64 are read.
        scheme: ``w8a8``, ``w8a8_pt`` or ``mixed``; any other gives the graph back.
        rules: A key of `RULES`.

    Returns:
        A graph with other constants, equal up to float32 rounding; the same object where nothing can be scaled.
    """
    if scheme not in ("w8a8", "w8a8_pt", "mixed"):
        return graph
    checked = rules_named(rules)
    placement = place(graph, checked)
    pairs = [pair for operator in placement.operators if (pair := _pair(graph, placement, operator)) is not None]
    if not pairs:
        return graph
    samples = list(calibration)
    read = {reader.operator.inputs[0]: source for source, readers in pairs for reader in readers}
    seen = _channels(graph, read, samples[:: max(1, len(samples) // _SAMPLES)])
    constants: dict[str, Array] = {}

    def now(name: str) -> Array:
        return constants.get(name, graph.constants[name]).astype(np.float64)

    for source, readers in pairs:
        scale = _best(graph, source, readers, seen, now, checked, scheme == "w8a8_pt")
        if scale is None:
            continue
        for name, axis in source.constants:
            array = now(name)
            constants[name] = array / _along(scale, axis, array.ndim)
        for reader in readers:
            constants[reader.weight] = now(reader.weight) * _spread(graph, reader, scale)
    if not constants:
        return graph
    return graph.with_constants({name: array.astype(np.float32) for name, array in constants.items()})


def _pair(graph: Graph, placement: Placement, operator: Operator) -> tuple[_Source, tuple[_Reader, ...]] | None:
    """The operator as a source of channels and its readers, or None where the channels can't be scaled."""
    source = _source(graph, placement, operator)
    if source is None:
        return None
    channels = graph.constants[source.constants[0][0]].shape[source.constants[0][1]]
    readers: list[_Reader] = []
    todo = [source.value]
    while todo:
        value = todo.pop()
        if value in graph.output_names:
            return None
        for reader in placement.readers.get(value, ()):
            if _passes(graph, reader, channels):
                todo.append(reader.output)
            elif reader.has_channels and reader.id in placement.integer and reader.weight is not None:
                if _inputs_of(graph, reader) != channels or len(graph.consumers[reader.weight]) != 1:
                    return None
                readers.append(_Reader(reader, reader.weight))
            else:
                return None
    return (source, tuple(readers)) if readers else None


def _source(graph: Graph, placement: Placement, operator: Operator) -> _Source | None:
    node = graph.node_by_name[operator.id]
    if node.op_type == "LayerNormalization" and not node.domain and len(operator.outputs) == 1:
        shape = graph.shape(operator.output)
        names = [str(value.name) for value in node.inputs[1:] if value is not None]
        last = shape is not None and attribute(node, "axis", -1) in (-1, len(shape) - 1)
        if not last or not names or not all(_own(graph, name) and graph.constants[name].ndim == 1 for name in names):
            return None
        return _Source(operator, operator.output, tuple((name, 0) for name in names), None)
    if not operator.has_channels or operator.id not in placement.integer or operator.weight is None:
        return None
    if operator.activation is not None and operator.activation != (0.0, math.inf):
        return None
    if operator.kind == "conv_transpose" and attribute(node, "group", 1) != 1:
        return None
    assert operator.channel_axis is not None
    constants = [(operator.weight, operator.channel_axis)] + ([(operator.bias, 0)] if operator.bias else [])
    if not all(_own(graph, name) for name, _ in constants):
        return None
    return _Source(operator, operator.output, tuple(constants), operator.weight)


def _own(graph: Graph, name: str) -> bool:
    return name in graph.constants and len(graph.consumers[name]) == 1


def _passes(graph: Graph, operator: Operator, channels: int) -> bool:
    """Whether channel c scaled by s gives channel c of its output scaled by s, channels on the same axis."""
    if operator.kind in ("max_pool", "average_pool"):
        return len(operator.outputs) == 1
    if operator.kind == "mean":
        return spatial_mean(graph, operator)
    if operator.kind == "clip":
        return operator.activation == (0.0, math.inf)
    if operator.kind == "reshape":
        before, after = graph.shape(operator.inputs[0]), graph.shape(operator.output)
        return before is not None and after == (1, channels) and before == (1, channels, *[1] * (len(before) - 2))
    return False


def _inputs_of(graph: Graph, operator: Operator) -> int:
    """How many input channels a layer reads."""
    assert operator.weight is not None
    shape = graph.constants[operator.weight].shape
    if operator.kind == "linear":
        return int(shape[1 - (operator.channel_axis or 0)])
    if operator.kind == "conv_transpose":
        return int(shape[0])
    return int(shape[1]) * int(attribute(graph.node_by_name[operator.id], "group", 1))


def _along(scale: Array, axis: int, rank: int) -> Array:
    shape = [1] * rank
    shape[axis] = -1
    return scale.reshape(shape)


def _spread(graph: Graph, reader: _Reader, scale: Array) -> Array:
    """`scale`, one an input channel, broadcast to the layout of the reader's weight."""
    operator, shape = reader.operator, graph.constants[reader.weight].shape
    if operator.kind == "linear":
        return _along(scale, 1 - (operator.channel_axis or 0), 2)
    if operator.kind == "conv_transpose":
        return _along(scale, 0, len(shape))
    group = int(attribute(graph.node_by_name[operator.id], "group", 1))
    # Output channel o of group g reads input channels g * shape[1] ... of it.
    rows = np.repeat(scale.reshape(group, shape[1]), shape[0] // group, axis=0)
    return rows.reshape(*rows.shape, *[1] * (len(shape) - 2))


def _channels(
    graph: Graph, read: Mapping[str, _Source], samples: Sequence[Mapping[str, Array]]
) -> dict[str, _Channels]:
    """What the channels hold where a reader takes them: value -> its channels."""
    run = float_runner(graph, extra=list(read))
    rows: dict[str, list[Array]] = {value: [] for value in read}
    for sample in samples:
        made = run(sample)
        for value, source in read.items():
            array = made[value]
            spatial = array.ndim > 2 and source.operator.kind in ("conv", "conv_transpose")
            axis = 1 if spatial else array.ndim - 1
            flat = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
            squares = np.einsum("cn,cn->c", flat, flat, dtype=np.float64) / flat.shape[1]
            rows[value].append(np.stack([flat.min(1), flat.max(1), flat.mean(1, dtype=np.float64), squares]))
    found = {}
    for value, stacked in rows.items():
        low, high, mean, energy = np.stack(stacked).transpose(1, 0, 2)
        found[value] = _Channels(
            np.minimum(low.min(0), 0.0), np.maximum(high.max(0), 0.0), mean.mean(0), energy.mean(0)
        )
    return found


def _best(
    graph: Graph,
    source: _Source,
    readers: tuple[_Reader, ...],
    seen: Mapping[str, _Channels],
    now: Any,
    rules: QuantRules,
    per_tensor: bool,
) -> Array | None:
    """The s that is expected to leave the least noise behind the readers, or None for s = 1."""
    span = seen[readers[0].operator.inputs[0]].span()
    if span.max() <= 0:
        return None
    used = np.where(span > span.max() * 1e-4, span, span.max())  # dead channels are left as they are
    columns = np.sqrt(sum(_column_energy(graph, reader, now(reader.weight)) for reader in readers))
    columns = np.maximum(columns, columns.max() * 1e-6) if columns.max() > 0 else np.ones_like(columns)
    candidates = [(used / used.max()) ** part for part in np.linspace(0.0, 1.0, 11)]
    candidates += [(used / columns) ** 0.5]
    if source.weight is not None and (per_tensor or source.operator.kind not in rules.per_channel):
        axis = source.constants[0][1]
        own = np.abs(np.moveaxis(now(source.weight), axis, 0).reshape(len(span), -1)).max(axis=1)
        own = np.maximum(own, own.max() * 1e-6)
        largest = np.sqrt(own / columns)
        candidates += [(own / own.max()) ** part for part in np.linspace(0.1, 1.0, 10)] + [largest]
    best, least = None, math.inf
    for candidate in candidates:
        scale = candidate / np.exp(np.log(candidate).mean())
        scale = np.clip(scale, 1 / _LARGEST_SCALE, _LARGEST_SCALE)
        noise = _noise(graph, source, readers, seen, scale, now, rules, per_tensor)
        if noise < least * (1 - 1e-3):  # s = 1 is the first: anything else must be better
            best, least = scale, noise
    return None if best is None or np.allclose(best, 1.0) else best


def _column_energy(graph: Graph, reader: _Reader, weight: Array) -> Array:
    """(input channels,) sum of squares of the weights that read each."""
    squared = weight * weight
    if reader.operator.kind == "linear":
        energy: Array = squared.sum(axis=reader.operator.channel_axis)
        return energy
    if reader.operator.kind == "conv_transpose":
        return squared.reshape(len(weight), -1).sum(axis=1)  # type: ignore[no-any-return]
    group = int(attribute(graph.node_by_name[reader.operator.id], "group", 1))
    by_group = squared.reshape(group, len(weight) // group, weight.shape[1], -1).sum(axis=(1, 3))
    return by_group.reshape(-1)  # type: ignore[no-any-return]


def _noise(
    graph: Graph,
    source: _Source,
    readers: tuple[_Reader, ...],
    seen: Mapping[str, _Channels],
    scale: Array,
    now: Any,
    rules: QuantRules,
    per_tensor: bool,
) -> float:
    """Expected squared error of the readers' outputs relative to their expected energy, up to a common factor."""
    total = 0.0
    for reader in readers:
        channels = seen[reader.operator.inputs[0]]
        step = (channels.span() / scale).max() / 255
        energy = (channels.variance() if reader.operator.bias else channels.energy) / scale**2
        weight = now(reader.weight) * _spread(graph, reader, scale)
        columns = _column_energy(graph, reader, weight)
        axis = reader.operator.channel_axis or 0
        per_channel = not per_tensor and reader.operator.kind in rules.per_channel
        rows = np.abs(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)).max(axis=1)
        steps = (rows if per_channel else np.full_like(rows, rows.max())) / 127
        # Each output sums the rounding of the weights that it has, times the energy of what they read.
        taps = weight.size / weight.shape[axis] / _reads_of(graph, reader, weight)
        read = _energy_read(graph, reader, energy, len(rows))
        noise = (columns.sum() * step**2 + (steps**2 * read * taps).sum()) / 12
        if source.weight is not None:
            axis = source.constants[0][1]
            own = now(source.weight) / _along(scale, axis, now(source.weight).ndim)
            largest = np.abs(np.moveaxis(own, axis, 0).reshape(len(scale), -1)).max(axis=1)
            if per_tensor or source.operator.kind not in rules.per_channel:
                largest = np.full_like(largest, largest.max())
            # Rounding of a row relative to its size is rounding of its output relative to its.
            squares = (np.moveaxis(own, axis, 0).reshape(len(scale), -1) ** 2).mean(axis=1)
            relative = (largest / 127) ** 2 / 12 / np.maximum(squares, 1e-30)
            noise += float((columns * energy * np.minimum(relative, 1e6)).sum())
        signal = float((columns * energy).sum())
        total += noise / signal if signal > 0 else 0.0
    return total


def _reads_of(graph: Graph, reader: _Reader, weight: Array) -> int:
    """Input channels that one output channel reads."""
    if reader.operator.kind == "linear":
        return int(weight.shape[1 - (reader.operator.channel_axis or 0)])
    return int(weight.shape[0] if reader.operator.kind == "conv_transpose" else weight.shape[1])


def _energy_read(graph: Graph, reader: _Reader, energy: Array, outputs: int) -> Array:
    """(output channels,) energy summed over the input channels that each reads."""
    if reader.operator.kind != "conv":
        return np.full(outputs, energy.sum())
    group = int(attribute(graph.node_by_name[reader.operator.id], "group", 1))
    return np.repeat(energy.reshape(group, -1).sum(axis=1), outputs // group)

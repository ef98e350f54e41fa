"""Exact equalization: channels between layers are scaled so that 8 bits serve all of them alike.

Where only layers with weights read the channels of other layers (through additions, ReLU, pooling or means, if any),
channel c may be divided by s[c] at its sources and multiplied by s[c] in its readers' weights: the float model computes
the same. It pays twice: activations have one scale a tensor, so a channel of small values wastes codes; and so do
weights where they must have one scale a tensor (Nagel et al. 2019, "Data-Free Quantization", section 4.1; Xiao et al.
2022, "SmoothQuant", equation 4, for activations). Never through a clip at a finite value: that would not be exact.

s is taken from a one-parameter family for each link, by the output noise that each member is expected to leave.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.quantize.channel_links import along, links, spread
from leanedge.compress.quantize.placement import place
from leanedge.compress.quantize.rules import rules_named
from leanedge.graph.model import attribute
from leanedge.graph.run import float_runner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from leanedge.compress.quantize.channel_links import Link, Reader, Source
    from leanedge.compress.quantize.rules import QuantRules
    from leanedge.data.samples import Samples
    from leanedge.graph.model import Graph
    from leanedge.names import Scheme

__all__ = ["equalize"]

Array = np.ndarray[Any, Any]
_SAMPLES = 64
_LARGEST_SCALE = 16.0
"""Bound of s and 1/s."""

_WIDEST = 8.0
"""A channel of which less than this part of the widest was seen counts as this wide: an input that wakes a sleeping
channel must not be cut off. On the benchmark's nets 4 to 1000 give the same to 1 dB."""


@dataclass(frozen=True)
class _Channels:
    """What each channel of a value held, (channels,) each."""

    low: Array
    high: Array
    mean: Array
    energy: Array

    def variance(self) -> Array:
        """What rounding of weights acts on: bias correction takes the mean's share away."""
        spread_: Array = np.maximum(self.energy - self.mean**2, 0.0)
        return spread_

    def span(self) -> Array:
        """(channels,) the range that unseen data may fill: what was seen, and 4 standard deviations on both sides.

        A channel of which few values were seen (a mean over all pixels) would else be scaled to its largest one, and
        every larger one would be cut off.
        """
        reach = 4 * np.sqrt(self.variance())
        low = np.where(self.low < 0, np.minimum(self.low, self.mean - reach), 0.0)
        width: Array = np.maximum(self.high, self.mean + reach) - low
        return width


@dataclass(frozen=True)
class _Plan:
    """What the choice of one link's s looks at."""

    graph: Graph
    link: Link
    seen: Mapping[str, _Channels]
    now: Callable[[str], Array]
    rules: QuantRules
    per_tensor: bool

    def one_scale(self, kind: str) -> bool:
        """Whether weights of that kind have one scale a tensor."""
        return self.per_tensor or kind not in self.rules.per_channel


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
    found = links(graph, place(graph, checked))
    samples = list(calibration)
    if not found or not samples:
        return graph
    seen = _channels(graph, found, samples[:: -(-len(samples) // _SAMPLES)])
    constants: dict[str, Array] = {}

    def now(name: str) -> Array:
        return constants.get(name, graph.constants[name]).astype(np.float64)

    for link in found:
        scale = _best(_Plan(graph, link, seen, now, checked, scheme == "w8a8_pt"))
        if scale is None:
            continue
        for name, axis in (constant for source in link.sources for constant in source.constants):
            constants[name] = now(name) / along(scale, axis, graph.constants[name].ndim)
        for reader in link.readers:
            constants[reader.weight] = now(reader.weight) * spread(graph, reader, scale)
    if not constants:
        return graph
    return graph.with_constants({name: array.astype(np.float32) for name, array in constants.items()})


def _channels(graph: Graph, found: Sequence[Link], samples: Sequence[Mapping[str, Array]]) -> dict[str, _Channels]:
    """What the channels of every linked value held."""
    axes = {value: link.axis for link in found for value in link.values}
    run = float_runner(graph, extra=list(axes))
    rows: dict[str, list[Array]] = {value: [] for value in axes}
    for sample in samples:
        made = run(sample)
        for value, axis in axes.items():
            flat = np.moveaxis(made[value], axis, 0).reshape(made[value].shape[axis], -1)
            squares = np.einsum("cn,cn->c", flat, flat, dtype=np.float64) / flat.shape[1]
            rows[value].append(np.stack([flat.min(1), flat.max(1), flat.mean(1, dtype=np.float64), squares]))
    channels = {}
    for value, stacked in rows.items():
        low, high, mean, energy = np.stack(stacked).transpose(1, 0, 2)
        channels[value] = _Channels(
            np.minimum(low.min(0), 0.0), np.maximum(high.max(0), 0.0), mean.mean(0), energy.mean(0)
        )
    return channels


def _best(plan: _Plan) -> Array | None:
    """The s that is expected to leave the least noise behind the readers, or None for s = 1."""
    link = plan.link
    span = np.max([plan.seen[reader.operator.inputs[0]].span() for reader in link.readers], axis=0)
    if span.max() <= 0:
        return None
    used = np.maximum(span, span.max() / _WIDEST)
    columns = np.sqrt(sum(_column_energy(plan.graph, reader, plan.now(reader.weight)) for reader in link.readers))
    columns = np.maximum(columns, columns.max() * 1e-6) if columns.max() > 0 else np.ones_like(columns)
    candidates = [(used / used.max()) ** part for part in np.linspace(0.0, 1.0, 11)]
    candidates += [(used / columns) ** 0.5]
    rows = [_rows(plan, source) for source in link.sources if plan.one_scale(source.operator.kind)]
    if rows:
        own = np.max([np.abs(row).max(axis=1) for row in rows], axis=0)
        own = np.maximum(own, own.max() * 1e-6)
        candidates += [(own / own.max()) ** part for part in np.linspace(0.1, 1.0, 10)] + [np.sqrt(own / columns)]
    best, least = None, math.inf
    for candidate in candidates:
        scale = candidate / np.exp(np.log(candidate).mean())
        scale = np.clip(scale, 1 / _LARGEST_SCALE, _LARGEST_SCALE)
        noise = _noise(plan, scale)
        if noise < least * (1 - 1e-3):  # s = 1 is the first: anything else must be better
            best, least = scale, noise
    return None if best is None or np.allclose(best, 1.0) else best


def _rows(plan: _Plan, source: Source) -> Array:
    """(channels, values) of a source's weight; of a LayerNormalization its gain."""
    name, axis = source.constants[0]
    return np.moveaxis(plan.now(name), axis, 0).reshape(plan.link.channels, -1)


def _noise(plan: _Plan, scale: Array) -> float:
    """Expected squared error of the readers' outputs relative to their expected energy, up to a common factor."""
    graph, link = plan.graph, plan.link
    rounded = link.values if len(link.sources) > 1 else ()  # sums carry the rounding of all that was added
    total = 0.0
    for reader in link.readers:
        channels = plan.seen[reader.operator.inputs[0]]
        energy = (channels.variance() if reader.operator.bias else channels.energy) / scale**2
        values = dict.fromkeys((reader.operator.inputs[0], *rounded))
        steps = [float((plan.seen[value].span() / scale).max()) / 255 for value in values]
        weight = plan.now(reader.weight) * spread(graph, reader, scale)
        columns = _column_energy(graph, reader, weight)
        axis = reader.operator.channel_axis or 0
        rows = np.abs(np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)).max(axis=1)
        step = (np.full_like(rows, rows.max()) if plan.one_scale(reader.operator.kind) else rows) / 127
        # Each output sums the rounding of the weights that it has, times the energy of what they read.
        taps = weight.size / weight.shape[axis] / _reads_of(reader, weight)
        read = _energy_read(graph, reader, energy, len(rows))
        noise = (columns.sum() * float(np.square(steps).sum()) + float((step**2 * read * taps).sum())) / 12
        for source in link.sources:
            if source.operator.weight is not None:
                noise += _source_noise(plan, source, scale, columns * energy)
        signal = float((columns * energy).sum())
        total += noise / signal if signal > 0 else 0.0
    return total


def _source_noise(plan: _Plan, source: Source, scale: Array, read: Array) -> float:
    """What rounding of a source's weights leaves: relative to a row's size it is that relative to its output's."""
    own = _rows(plan, source) / scale[:, None]
    largest = np.abs(own).max(axis=1)
    if plan.one_scale(source.operator.kind):
        largest = np.full_like(largest, largest.max())
    relative = (largest / 127) ** 2 / 12 / np.maximum((own**2).mean(axis=1), 1e-30)
    return float((read * np.minimum(relative, 1e6)).sum())


def _column_energy(graph: Graph, reader: Reader, weight: Array) -> Array:
    """(input channels,) sum of squares of the weights that read each."""
    squared = weight * weight
    energy: Array
    if reader.operator.kind == "linear":
        energy = squared.sum(axis=reader.operator.channel_axis)
    elif reader.operator.kind == "conv_transpose":
        energy = squared.reshape(len(weight), -1).sum(axis=1)
    else:
        group = int(attribute(graph.node_by_name[reader.operator.id], "group", 1))
        by_group = squared.reshape(group, len(weight) // group, weight.shape[1], -1)
        energy = by_group.sum(axis=(1, 3)).reshape(-1)
    return energy


def _reads_of(reader: Reader, weight: Array) -> int:
    """Input channels that one output channel reads."""
    if reader.operator.kind == "linear":
        return int(weight.shape[1 - (reader.operator.channel_axis or 0)])
    return int(weight.shape[0] if reader.operator.kind == "conv_transpose" else weight.shape[1])


def _energy_read(graph: Graph, reader: Reader, energy: Array, outputs: int) -> Array:
    """(output channels,) energy summed over the input channels that each reads."""
    if reader.operator.kind != "conv":
        return np.full(outputs, energy.sum())
    group = int(attribute(graph.node_by_name[reader.operator.id], "group", 1))
    return np.repeat(energy.reshape(group, -1).sum(axis=1), outputs // group)

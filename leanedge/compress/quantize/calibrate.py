"""Ranges of activations: two passes over the calibration samples, one value's data in memory at a time.

The first pass finds the smallest and largest value of each tensor, the second a histogram between them. Two ranges are
judged by the squared error each leaves on the histogram, and the better one is kept, for each tensor by itself:
min-max, and the range of least mean squared error (a scan as in "LAPQ", Nahshan et al. 2019, section 3, p = 2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.types import TensorQuant
from leanedge.errors import DataError
from leanedge.graph.run import float_runner

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from leanedge.compress.quantize.placement import Placement
    from leanedge.graph.model import Graph

__all__ = ["SMALLEST_SCALE", "Histogram", "calibrate", "quant_of_range", "squared_error"]

Array = np.ndarray[Any, Any]
SMALLEST_SCALE = 2.0**-100
"""Products of two scales stay normal float32 numbers."""

_BINS = 2048
_STEPS = 255

_MOST_VALUES = 32_768
"""Values of a tensor that go into its histogram from one sample; of more, every n-th, from another start each time."""

_FEW = 1536
_MARGIN = 1.1
"""A tensor of few values (a mean over all pixels) shows its largest ones in no 100 samples: a tenth is added to what
was seen, and nothing cut off. The largest of n values of an exponential tail grows by that from n = 100 to 200."""


@dataclass(frozen=True)
class Histogram:
    """Values of one tensor, or of all tensors that share a scale.

    Attributes:
        low: Smallest value or 0, whichever is less.
        high: Largest value or 0, whichever is more.
        counts: (bins,) how many values fell in each bin, exact zeros left out: they cost nothing.
        sums: (bins,) their sum, so that a bin stands at its mean.
    """

    low: float
    high: float
    counts: Array
    sums: Array


def quant_of_range(low: float, high: float) -> TensorQuant:
    """The int8 quantization that spans a range and represents 0 exactly.

    >>> quant = quant_of_range(0.0, 2.55)
    >>> round(float(quant.scale), 4), int(quant.zero_point)
    (0.01, -128)
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max((high - low) / _STEPS, SMALLEST_SCALE) if high > low else 1.0)
    zero = round(-128 - low / float(scale))
    return TensorQuant("int8", np.asarray(scale), np.asarray(min(max(zero, -128), 127), np.int64))


def squared_error(histogram: Histogram, quant: TensorQuant) -> float:
    """Sum of squared errors that the quantization leaves: step^2 / 12 inside its range, the overshoot outside."""
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.where(histogram.counts > 0, histogram.sums / histogram.counts, 0.0)
    low, high = quant.range
    step = float(quant.scale)
    over = np.maximum(centre - high, 0.0) + np.maximum(low - centre, 0.0)
    inside = np.minimum(over, step / 2) ** 2  # the edge codes round as well
    return float((histogram.counts * (step * step / 12 + over * over - inside / 3)).sum())


def calibrate(
    graph: Graph,
    placement: Placement,
    samples: Iterable[Mapping[str, Array]],
    method: str = "best",
) -> dict[str, TensorQuant]:
    """Finds scale and zero point of each quantized value.

    Args:
        graph: The float graph.
        placement: Which values, and which share a scale.
        samples: Calibration samples; read twice.
        method: ``best`` of the two for each tensor, or ``minmax``.

    Returns:
        Value -> its quantization.

    Raises:
        DataError: There is no sample, or the model makes NaN or infinite values of one.
    """
    values = [value for value in placement.quantized if placement.group[value] not in placement.fixed]
    inner = [value for value in values if value in placement.producer]
    run = float_runner(graph, extra=inner)
    extremes = _extremes(run, samples, values)
    few = {value for value in inner if _few_values(graph, placement, value)}
    ranges: dict[str, tuple[float, float]] = {}
    for value in values:
        low, high = extremes[value]
        if value in few:
            low, high = low * _MARGIN, high * _MARGIN
        low, high = _clamped(placement, value, (low, high))
        name = placement.group[value]
        known = ranges.get(name, (0.0, 0.0))
        ranges[name] = min(known[0], low), max(known[1], high)
    chosen = {name: quant_of_range(*bounds) for name, bounds in ranges.items()}
    if method != "minmax" and ranges:
        histograms = _histograms(run, samples, {value: placement.group[value] for value in values}, ranges)
        rare = {placement.group[value] for value in few}
        chosen = {
            name: chosen[name] if name in rare else _better(histogram, chosen[name])
            for name, histogram in histograms.items()
        }
    for name, (scale, zero) in placement.fixed.items():
        chosen[name] = TensorQuant("int8", np.asarray(scale, np.float32), np.asarray(zero, np.int64))
    return {value: chosen[placement.group[value]] for value in placement.quantized}


def _few_values(graph: Graph, placement: Placement, value: str) -> bool:
    """Whether a sample shows so few values of the tensor that larger ones must be expected of unseen samples."""
    shape = graph.shape(value)
    bounded = placement.producer[value].kind in ("sigmoid", "softmax", "tanh", "hard_sigmoid")
    return shape is not None and int(np.prod(shape)) <= _FEW and not bounded


def _extremes(run: Any, samples: Iterable[Mapping[str, Array]], values: list[str]) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    count = 0
    for sample in samples:
        count += 1
        made = {**sample, **run(sample)}
        for value in values:
            low, high = float(made[value].min()), float(made[value].max())
            if not (math.isfinite(low) and math.isfinite(high)):
                raise DataError(
                    f"the float model makes NaN or infinite values in tensor {value}",
                    where=f"calibration sample {count - 1}",
                    hint="remove that sample, or check its scaling (inputs: {scale, mean, std} in leanedge.yaml)",
                )
            known = found.get(value, (low, high))
            found[value] = min(known[0], low), max(known[1], high)
    if not count:
        raise DataError("there are no calibration samples", allowed="at least 1; 100 are a good number")
    return found


def _clamped(placement: Placement, value: str, extremes: tuple[float, float]) -> tuple[float, float]:
    """Only values that saturation must not cut off: the activation's own bounds, which the data may not reach."""
    operator = placement.producer.get(value)
    low, high = extremes
    if operator is None or operator.activation is None or not math.isfinite(operator.activation[0]):
        return low, high
    return max(low, operator.activation[0]), min(high, operator.activation[1])


def _histograms(
    run: Any,
    samples: Iterable[Mapping[str, Array]],
    group: Mapping[str, str],
    ranges: Mapping[str, tuple[float, float]],
) -> dict[str, Histogram]:
    counts = {name: np.zeros(_BINS) for name in ranges}
    sums = {name: np.zeros(_BINS) for name in ranges}
    for number, sample in enumerate(samples):
        made = {**sample, **run(sample)}
        for value, name in group.items():
            low, high = ranges[name]
            if high <= low:
                continue
            data = made[value].ravel()
            stride = max(1, -(-data.size // _MOST_VALUES))
            data = data[(number * 7919) % stride :: stride]
            if low == 0.0:
                data = data[data > 0]
            place = ((data - np.float32(low)) * np.float32(_BINS / (high - low))).astype(np.int32)
            np.clip(place, 0, _BINS - 1, out=place)
            counts[name] += np.bincount(place, minlength=_BINS)
            sums[name] += np.bincount(place, weights=data, minlength=_BINS)
    return {name: Histogram(*ranges[name], counts[name], sums[name]) for name in ranges}


def _better(histogram: Histogram, minmax: TensorQuant) -> TensorQuant:
    """Min-max, or the range with the least squared error: each end is drawn in while that helps."""
    best, least = minmax, squared_error(histogram, minmax)
    low, high = histogram.low, histogram.high
    for _ in range(3):
        before = least
        for end in (0, 1):
            for part in np.linspace(1.0, 0.3, 57):
                bounds = (histogram.low * part, high) if end == 0 else (low, histogram.high * part)
                quant = quant_of_range(*bounds)
                error = squared_error(histogram, quant)
                if error < least * (1 - 1e-9):
                    best, least, (kept_low, kept_high) = quant, error, bounds
                    low, high = (kept_low, high) if end == 0 else (low, kept_high)
            if histogram.low == 0.0:
                continue
        if least == before:
            break
    return best

"""The one entry of quantization: scheme by scheme, one file each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from leanedge.compress.quantize.dynamic import quantize_dynamic
from leanedge.compress.quantize.equalization import equalize
from leanedge.compress.quantize.rules import rules_named
from leanedge.compress.quantize.simulate import output_noise, simulated_runner
from leanedge.compress.quantize.static import quantize_static
from leanedge.errors import DataError, UsageError
from leanedge.graph.run import float_runner

if TYPE_CHECKING:
    from leanedge.compress.types import QuantSpec
    from leanedge.data.samples import Samples
    from leanedge.graph.model import Graph
    from leanedge.names import Scheme

__all__ = ["quantize", "quantize_best"]

_MOST_SAMPLES = 512
"""Ranges gain nothing from more; of a longer set so many are taken, evenly spaced."""


_JUDGE_SAMPLES = 128
_TRIAL_SAMPLES = 64
_TRIAL_VALUES = 100_000_000
"""To find the better of two graphs so many values are calibrated on, but at least those of 64 samples."""


def quantize(
    graph: Graph,
    calibration: Samples,
    scheme: Scheme,
    rules: str,
    *,
    float_operators: frozenset[str] = frozenset(),
) -> QuantSpec:
    """Finds every integer of the compressed model; exporters only write them.

    Args:
        graph: The float graph, pruned and equalized already if it is to be.
        calibration: Representative samples, about 100, with every input of the graph: a streaming model's sequences
            as single steps (`leanedge.state.steps_of`). ``w8a8_dynamic`` does not read them.
        scheme: ``w8a8``, ``w8a8_pt``, ``w8a8_dynamic`` or ``mixed``.
        rules: A key of `RULES`.
        float_operators: Ids of operators that stay in float.

    Raises:
        UsageError: An unknown scheme, rules or operator.
        DataError: No samples, an input without data, or a sample that makes NaN.
    """
    checked = rules_named(rules)
    if scheme == "w8a8_dynamic":
        return quantize_dynamic(graph, checked, float_operators)
    if scheme not in ("w8a8", "w8a8_pt", "mixed"):
        raise UsageError(f"{scheme} is not quantized", allowed="w8a8, w8a8_pt, w8a8_dynamic, mixed")
    missing = [info.name for info in graph.inputs if info.name not in calibration.inputs]
    if missing or calibration.streaming:
        raise DataError(
            f"input {missing[0]} has no calibration data" if missing else "calibration samples are sequences",
            allowed=f"one array for each of {', '.join(info.name for info in graph.inputs)}, one step a sample",
            hint="leanedge.state.steps_of unrolls sequences and their state",
        )
    samples = list(calibration)
    few = samples[:: -(-len(samples) // _MOST_SAMPLES)] if samples else samples
    return quantize_static(graph, few, scheme, checked, float_operators)


def quantize_best(
    graph: Graph,
    calibration: Samples,
    scheme: Scheme,
    rules: str,
    *,
    float_operators: frozenset[str] = frozenset(),
) -> tuple[Graph, QuantSpec]:
    """Quantizes the graph as it is or equalized, whichever leaves the less noise in the outputs.

    Of a large graph both are made from a part of the samples, and the better one is then made from all.

    Args and errors are those of `quantize`.

    Returns:
        The graph that the integers are of (the same float function, its constants possibly equalized) and they.
    """

    def made(of: Graph, samples: Samples) -> QuantSpec:
        return quantize(of, samples, scheme, rules, float_operators=float_operators)

    equalized = equalize(graph, calibration, scheme, rules)
    if equalized is graph:
        return graph, made(graph, calibration)
    some = _spaced(calibration, max(_TRIAL_SAMPLES, _TRIAL_VALUES // _values(graph)))
    trials = [(each, made(each, some)) for each in (graph, equalized)]
    few = list(_spaced(calibration, _JUDGE_SAMPLES))
    run = float_runner(graph)
    wanted = [run(sample) for sample in few]
    noise = [output_noise(graph, wanted, simulated_runner(each, spec), few) for each, spec in trials]
    better, spec = trials[1] if noise[1] < noise[0] else trials[0]
    return better, spec if len(some) == len(calibration) else made(better, calibration)


def _values(graph: Graph) -> int:
    """How many values one run of the graph makes."""
    shapes = (graph.shape(name) for name in graph.producer)
    return max(1, sum(math.prod(shape) for shape in shapes if shape is not None))


def _spaced(samples: Samples, most: int) -> Samples:
    return samples.take(np.arange(0, len(samples), -(-len(samples) // most)))

"""Static quantization (``w8a8``, ``w8a8_pt``, ``mixed``): every range is fixed beforehand, on calibration samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.quantize.bias_correction import before_activation, channel_axis, channel_mean, float_means
from leanedge.compress.quantize.calibrate import calibrate
from leanedge.compress.quantize.dynamic import quantize_tables
from leanedge.compress.quantize.logarithm import feeds_logarithm
from leanedge.compress.quantize.placement import place
from leanedge.compress.quantize.rounding import Moments, gptq_rows, patches, rows_of, rows_to_weight, takes_patches
from leanedge.compress.quantize.staged import OperatorRunner, Store
from leanedge.compress.quantize.weights import (
    quantize_bias,
    quantize_constant,
    quantize_weight,
    smallest_weight_scale,
)
from leanedge.compress.types import QuantizedConstant, QuantSpec
from leanedge.graph.model import attribute

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.compress.quantize.placement import Placement
    from leanedge.compress.quantize.rules import QuantRules
    from leanedge.compress.types import TensorQuant
    from leanedge.graph.model import Graph
    from leanedge.graph.operators import Operator
    from leanedge.names import Scheme

__all__ = ["quantize_static"]

Array = np.ndarray[Any, Any]
_BIAS_SAMPLES = 128
_BIAS_BYTES = 400_000_000
"""Bias correction holds what lies between two operators for all its samples; this bounds it."""


def quantize_static(
    graph: Graph,
    samples: Sequence[Mapping[str, Array]],
    scheme: Scheme,
    rules: QuantRules,
    float_operators: frozenset[str],
) -> QuantSpec:
    """Quantizes every operator that the rules allow; see `leanedge.compress.quantize.quantize`."""
    if not rules.whole:
        float_operators |= feeds_logarithm(graph, samples)
    placement = place(graph, rules, float_operators)
    activations = calibrate(graph, placement, samples)
    constants = _rounded(graph, placement, rules, activations, scheme == "w8a8_pt")
    constants = _corrected(graph, placement, rules, activations, constants, samples)
    if not rules.whole:
        constants.update(quantize_tables(graph, placement.operators, float_operators))
    return QuantSpec(
        scheme=scheme,
        rules=rules.name,
        activations=activations,
        constants=constants,
        float_operators=frozenset(o.id for o in placement.operators if o.id not in placement.integer),
    )


def _rounded(
    graph: Graph,
    placement: Placement,
    rules: QuantRules,
    activations: Mapping[str, TensorQuant],
    per_tensor: bool,
) -> dict[str, QuantizedConstant]:
    found: dict[str, QuantizedConstant] = {}
    for operator in placement.operators:
        if operator.id not in placement.integer or operator.weight is None:
            continue
        weight = graph.constants[operator.weight]
        if not operator.has_channels:
            found[operator.weight] = quantize_constant(weight)
            continue
        scale = activations[operator.inputs[0]].scale
        axis = operator.channel_axis if operator.kind in rules.per_channel and not per_tensor else None
        groups = attribute(graph.node_by_name[operator.id], "group", 1) if operator.kind == "conv_transpose" else 1
        bias = graph.constants[operator.bias] if operator.bias is not None else np.zeros(1, np.float32)
        least = smallest_weight_scale(bias, scale)
        found[operator.weight] = quantize_weight(
            weight, axis, groups=groups, smallest_scale=least if len(least) > 1 else float(least[0])
        )
        if operator.bias is not None:
            found[operator.bias] = quantize_bias(bias, scale, found[operator.weight].quant)
    return found


def _corrected(
    graph: Graph,
    placement: Placement,
    rules: QuantRules,
    activations: Mapping[str, TensorQuant],
    constants: dict[str, QuantizedConstant],
    samples: Sequence[Mapping[str, Array]],
) -> dict[str, QuantizedConstant]:
    """The same constants with corrected biases (operators without a bias keep their shift)."""
    correctable = {
        operator.id: operator
        for operator in placement.operators
        if operator.id in placement.integer and operator.has_channels and operator.bias is not None
    }
    if not correctable:
        return constants
    few = samples[:: max(1, -(-len(samples) // _count(graph, placement, activations, len(samples))))]
    means = float_means(graph, correctable.values(), few)
    store = Store(graph, rules, placement, activations, few)
    generator = np.random.default_rng(0)
    constants = dict(constants)
    for operator in placement.operators:
        if operator.id in placement.integer and operator.has_channels and takes_patches(graph, operator):
            assert operator.weight is not None
            constants[operator.weight] = _by_covariance(graph, operator, store, constants[operator.weight], generator)
        use = {
            name: constants[name].quant.dequantize(constants[name].integers)
            for name in (operator.weight, operator.bias)
            if name is not None and name in constants and operator.id in placement.integer
        }
        if operator.id in correctable and operator.bias is not None:
            value = before_activation(graph, operator)
            run = OperatorRunner(graph, operator, use, until=value)
            total: Array | None = None
            for index in range(store.count):
                made = run(store.read(operator, index))[value]
                mean = channel_mean(made, channel_axis(operator, made.ndim))
                total = mean if total is None else total + mean
            assert total is not None
            bias = use[operator.bias].astype(np.float64) + means[operator.id] - total / store.count
            constants[operator.bias] = _again(operator, bias, activations, constants)
            rounded = constants[operator.bias]
            use[operator.bias] = rounded.quant.dequantize(rounded.integers)
        store.advance(operator, OperatorRunner(graph, operator, use))
    return constants


def _by_covariance(
    graph: Graph, operator: Operator, store: Store, rounded: QuantizedConstant, generator: np.random.Generator
) -> QuantizedConstant:
    """The layer's weight rounded again, at the same scales, for the least error of its output."""
    assert operator.weight is not None
    moments = Moments()
    for index in range(store.count):
        moments.add(patches(graph, operator, store.read(operator, index), store.count, generator))
    rows = rows_of(graph, operator, graph.constants[operator.weight])
    scale = np.broadcast_to(rounded.quant.scale.astype(np.float64).reshape(-1), (rows.shape[0] * rows.shape[1],))
    if rounded.quant.scale.ndim == 0:
        scale = np.full(rows.shape[0] * rows.shape[1], float(rounded.quant.scale))
    covariance = moments.covariance(centred=operator.bias is not None)
    integers, _ = gptq_rows(rows, scale.reshape(rows.shape[:2]), covariance)
    return QuantizedConstant(rows_to_weight(operator, integers, rounded.integers.shape), rounded.quant)


def _again(
    operator: Operator,
    bias: Array,
    activations: Mapping[str, TensorQuant],
    constants: Mapping[str, QuantizedConstant],
) -> QuantizedConstant:
    assert operator.weight is not None
    return quantize_bias(bias, activations[operator.inputs[0]].scale, constants[operator.weight].quant)


def _count(graph: Graph, placement: Placement, activations: Mapping[str, TensorQuant], available: int) -> int:
    """How many samples can be held between two operators: the three largest values of each."""
    sizes = sorted(
        (
            math.prod(shape) * (1 if name in activations else 4)
            for name in (*placement.producer, *(info.name for info in graph.inputs))
            if (shape := graph.shape(name)) is not None
        ),
        reverse=True,
    )
    return max(1, min(available, _BIAS_SAMPLES, _BIAS_BYTES // max(1, sum(sizes[:3]))))

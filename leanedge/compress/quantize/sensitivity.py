"""Which operators lose most in integers: each alone is quantized, and the error of the model's outputs measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.quantize.placement import place
from leanedge.compress.quantize.quantize import quantize
from leanedge.compress.quantize.rules import rules_named
from leanedge.compress.quantize.simulate import output_noise, simulated_runner
from leanedge.graph.run import float_runner

if TYPE_CHECKING:
    from leanedge.compress.types import QuantSpec
    from leanedge.data.samples import Samples
    from leanedge.graph.model import Graph

__all__ = ["rank_operators"]

Array = np.ndarray[Any, Any]
_SAMPLES = 24


def rank_operators(
    graph: Graph, samples: Samples, rules: str, spec: QuantSpec | None = None
) -> list[tuple[str, float]]:
    """Operators with weights by what they lose, the worst first: the order in which to leave them in float.

    Args:
        graph: The float graph.
        samples: Calibration samples, one step each; 24 of them are run for each operator.
        rules: A key of `RULES`.
        spec: Its ``w8a8`` quantization; made from `samples` if not given.

    Returns:
        (operator id, output noise energy / output energy with this operator alone in integers).

    Raises:
        DataError: No samples, an input without data, or a sample that makes NaN.
    """
    spec = spec or quantize(graph, samples, "w8a8", rules)
    checked = rules_named(rules)
    placement = place(graph, checked, spec.float_operators)
    rows = list(samples)
    few = rows[:: max(1, len(rows) // _SAMPLES)][:_SAMPLES]
    run = float_runner(graph)
    wanted = [run(sample) for sample in few]
    everything = frozenset(operator.id for operator in placement.operators)
    found = []
    for operator in placement.operators:
        if operator.id not in placement.integer or not operator.has_channels:
            continue
        alone = everything - {operator.id}
        values = set(place(graph, checked, alone).quantized)
        own = {operator.weight, operator.bias}
        part = replace(
            spec,
            activations={name: quant for name, quant in spec.activations.items() if name in values},
            constants={name: constant for name, constant in spec.constants.items() if name in own},
            float_operators=alone,
        )
        found.append((operator.id, output_noise(graph, wanted, simulated_runner(graph, part), few)))
    return sorted(found, key=lambda item: (-item[1], item[0]))

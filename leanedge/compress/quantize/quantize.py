"""The one entry of quantization: scheme by scheme, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.compress.quantize.dynamic import quantize_dynamic
from leanedge.compress.quantize.rules import rules_named
from leanedge.compress.quantize.static import quantize_static
from leanedge.compress.quantize.steps import steps
from leanedge.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.compress.types import QuantSpec
    from leanedge.data.samples import Samples
    from leanedge.graph.model import Graph
    from leanedge.names import Scheme

__all__ = ["quantize"]

Array = np.ndarray[Any, Any]


def quantize(
    graph: Graph,
    calibration: Samples,
    scheme: Scheme,
    rules: str,
    *,
    float_operators: frozenset[str] = frozenset(),
    state: Mapping[str, str] | None = None,
    reset: Mapping[str, Array] | None = None,
) -> QuantSpec:
    """Finds every integer of the compressed model; exporters only write them.

    Args:
        graph: The float graph, pruned and equalized already if it is to be.
        calibration: Samples whose ranges are representative; about 100.
        scheme: ``w8a8``, ``w8a8_pt``, ``w8a8_dynamic`` or ``mixed``.
        rules: A key of `RULES`.
        float_operators: Ids of operators that stay in float (``mixed``).
        state: Streaming: input -> the output that feeds it at the next step.
        reset: Streaming: the state's first value; zeros where it is not given.

    Raises:
        UsageError: An unknown scheme, rules or operator.
        DataError: No samples, or a sample that makes NaN.
    """
    checked = rules_named(rules)
    if scheme == "w8a8_dynamic":
        return quantize_dynamic(graph, checked, float_operators)
    if scheme not in ("w8a8", "w8a8_pt", "mixed"):
        raise UsageError(f"{scheme} is not quantized", allowed="w8a8, w8a8_pt, w8a8_dynamic, mixed")
    return quantize_static(graph, steps(graph, calibration, state or {}, reset or {}), scheme, checked, float_operators)

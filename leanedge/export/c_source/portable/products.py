"""Matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from leanedge.export.c_source.kernel import Constant
from leanedge.export.c_source.leads import sequential_lead
from leanedge.export.c_source.portable.parts import all_int8, inputs_of, operand, output_of, portable, zero_of
from leanedge.export.c_source.portable.wide import make_wide_layer
from leanedge.program.types import BatchMatmulOptions
from leanedge.program.weighted import product_scale, weighted_layer

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Kernel, Layer

__all__ = ["make_batch_matmul", "make_fully_connected"]

_BLOCK = 4
"""Outputs that fully_connected computes before it writes any."""


def make_fully_connected(layer: Layer) -> Kernel | None:
    """fully_connected with constant weights; None for other types or sums that 32 bits may not hold."""
    if output_of(layer).dtype == "int16":
        return make_wide_layer(layer)
    if not all_int8(layer, 2) or inputs_of(layer)[1].data is None:
        return None
    numbers = weighted_layer(layer.program, layer.operator)
    most = np.abs(numbers.folded_bias) + 128 * np.abs(numbers.weights.astype(np.int64)).sum(axis=1)
    if most.max() >= 1 << 31:
        return None
    _, rows, depth = numbers.input_shape
    outputs = numbers.output_shape[2]
    same = len(set(zip(numbers.multiplier.tolist(), numbers.power.tolist(), strict=True))) == 1
    factors = 1 if same else outputs
    constants = (
        Constant(f"{layer.prefix}_weights", numbers.weights, "weights, (output, input)"),
        Constant(f"{layer.prefix}_bias", numbers.folded_bias.astype(np.int32), "bias - input zero x sum of weights"),
        Constant(f"{layer.prefix}_multiplier", numbers.multiplier[:factors].astype(np.int32), "factor of the outputs"),
        Constant(f"{layer.prefix}_power", numbers.power[:factors].astype(np.int8), "and its power of two"),
    )
    fields = {
        "rows": rows,
        "depth": depth,
        "outputs": outputs,
        "weights": constants[0].name,
        "bias": constants[1].name,
        "multiplier": constants[2].name,
        "power": constants[3].name,
        "factor_step": factors > 1,
        "output_zero": numbers.output_zero,
        "low": numbers.low,
        "high": numbers.high,
    }
    first = np.repeat(np.arange(rows) * depth, outputs)
    # Outputs are computed four at a time, and those that are left one by one.
    whole = outputs // _BLOCK * _BLOCK
    within = np.append(np.arange(_BLOCK, whole + 1, _BLOCK), np.arange(whole, outputs) + 1)
    ends = (np.arange(rows)[:, None] * outputs + within[None, :]).ravel()
    return portable(
        layer,
        "leanedge_fully_connected_int8",
        "leanedge_fully_connected",
        fields,
        ("fully_connected_int8.c",),
        constants=constants,
        leads=(sequential_lead(first, rows * depth, ends=ends),),
    )


def make_batch_matmul(layer: Layer) -> Kernel | None:
    """batch_matmul; None where the leading axes of one operand are repeated in part."""
    options, (left, right), out = layer.operator.options, inputs_of(layer), output_of(layer)
    assert isinstance(options, BatchMatmulOptions)
    if not all_int8(layer):
        return None
    batches = int(np.prod(out.shape[:-2]))
    counts = [int(np.prod(tensor.shape[:-2])) for tensor in (left, right)]
    if any(count not in (1, batches) for count in counts):
        return None
    rows, depth, columns = left.shape[-2], left.shape[-1], out.shape[-1]
    multiplier, power = product_scale(left, right, out)
    fields = {
        "batches": batches,
        "rows": rows,
        "depth": depth,
        "columns": columns,
        "left_batch_stride": rows * depth if counts[0] > 1 else 0,
        "right_batch_stride": depth * columns if counts[1] > 1 else 0,
        "right_depth_stride": 1 if options.adjoint_right else columns,
        "right_column_stride": depth if options.adjoint_right else 1,
        "left_zero": zero_of(left),
        "right_zero": zero_of(right),
        "multiplier": multiplier,
        "power": power,
        "output_zero": zero_of(out),
        "low": -128,
        "high": 127,
    }
    operands = (operand(layer, 0), operand(layer, 1))
    return portable(
        layer,
        "leanedge_batch_matmul_int8",
        "leanedge_batch_matmul",
        fields,
        ("batch_matmul_int8.c",),
        operands=operands,
        leads=tuple(None for tensor in (left, right) if tensor.data is None),
    )

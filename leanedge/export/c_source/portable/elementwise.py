"""Element-wise kinds of two operands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.export.c_source.leads import sequential_lead
from leanedge.export.c_source.portable.parts import (
    inputs_of,
    operand,
    output_of,
    portable,
    scale_of,
    width_of,
    zero_of,
)
from leanedge.program.fixed_point import quantized_multiplier
from leanedge.program.types import ElementwiseOptions
from leanedge.program.weighted import output_limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.export.c_source.kernel import Kernel, Layer

__all__ = ["make_add", "make_mul", "make_pick", "make_prelu", "merged_axes"]

_MOST_AXES = 4

_KERNELS = {
    ("add", 8): ("leanedge_add_int8", "add_int8.c"),
    ("add", 16): ("leanedge_add_int16", "add_int16.c"),
    ("sub", 8): ("leanedge_sub_int8", "sub_int8.c"),
    ("sub", 16): ("leanedge_sub_int16", "sub_int16.c"),
    ("mul", 8): ("leanedge_mul_int8", "mul_int8.c"),
    ("mul", 16): ("leanedge_mul_int16", "mul_int16.c"),
    ("prelu", 8): ("leanedge_prelu_int8", "prelu_int8.c"),
    ("maximum", 8): ("leanedge_maximum_int8", "maximum_int8.c"),
    ("minimum", 8): ("leanedge_minimum_int8", "minimum_int8.c"),
}
"""(kind, bits) -> the function and its file."""


def make_add(layer: Layer) -> Kernel | None:
    """Kernels of add and sub."""
    (left, right), out, options = inputs_of(layer), output_of(layer), layer.operator.options
    assert isinstance(options, ElementwiseOptions)
    widest = 2.0 * max(scale_of(left), scale_of(right))
    low, high = output_limits(options.activation, out)
    left_factor = quantized_multiplier(scale_of(left) / widest)
    right_factor = quantized_multiplier(scale_of(right) / widest)
    shift = 20 if out.dtype == "int8" else 15
    factor = quantized_multiplier(widest / ((1 << shift) * scale_of(out)))
    fields = {
        "left_zero": zero_of(left),
        "left_multiplier": left_factor[0],
        "left_power": left_factor[1],
        "right_zero": zero_of(right),
        "right_multiplier": right_factor[0],
        "right_power": right_factor[1],
        "output_zero": zero_of(out),
        "multiplier": factor[0],
        "power": factor[1],
        "low": low,
        "high": high,
    }
    return _pairs(layer, "leanedge_add", fields)


def make_mul(layer: Layer) -> Kernel | None:
    """Kernel of mul."""
    (left, right), out, options = inputs_of(layer), output_of(layer), layer.operator.options
    assert isinstance(options, ElementwiseOptions)
    low, high = output_limits(options.activation, out)
    multiplier, power = quantized_multiplier(scale_of(left) * scale_of(right) / scale_of(out))
    fields = {
        "left_zero": zero_of(left),
        "right_zero": zero_of(right),
        "output_zero": zero_of(out),
        "multiplier": multiplier,
        "power": power,
        "low": low,
        "high": high,
    }
    return _pairs(layer, "leanedge_mul", fields)


def make_prelu(layer: Layer) -> Kernel | None:
    """Kernel of prelu."""
    (source, slope), out = inputs_of(layer), output_of(layer)
    above = quantized_multiplier(scale_of(source) / scale_of(out))
    below = quantized_multiplier(scale_of(source) * scale_of(slope) / scale_of(out))
    fields = {
        "input_zero": zero_of(source),
        "slope_zero": zero_of(slope),
        "output_zero": zero_of(out),
        "above_multiplier": above[0],
        "above_power": above[1],
        "below_multiplier": below[0],
        "below_power": below[1],
    }
    return _pairs(layer, "leanedge_prelu", fields)


def make_pick(layer: Layer) -> Kernel | None:
    """Kernels of maximum and minimum."""
    return _pairs(layer, "leanedge_pairs", None)


def merged_axes(
    left: tuple[int, ...], right: tuple[int, ...], out: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """(sizes, left strides, right strides) of a broadcast, neighbouring axes made one where both operands allow it.

    >>> merged_axes((1, 4, 5, 8), (8,), (1, 4, 5, 8))
    ((20, 8), (8, 1), (0, 1))
    """
    sizes: list[int] = []
    strides: list[tuple[int, int]] = []
    rank = len(out)
    operands = [(1,) * (rank - len(shape)) + shape for shape in (left, right)]
    steps = [1, 1]
    for axis in reversed(range(rank)):
        step = tuple(0 if shape[axis] == 1 else steps[n] for n, shape in enumerate(operands))
        for n, shape in enumerate(operands):
            steps[n] *= shape[axis]
        if out[axis] == 1:
            continue
        if sizes and all(step[n] == strides[0][n] * sizes[0] for n in range(2)):
            sizes[0] *= out[axis]
        else:
            sizes.insert(0, out[axis])
            strides.insert(0, (step[0], step[1]))
    return tuple(sizes), tuple(a for a, _ in strides), tuple(b for _, b in strides)


def _pairs(layer: Layer, struct: str, fields: Mapping[str, Any] | None) -> Kernel | None:
    left, right = inputs_of(layer)
    out = output_of(layer)
    sizes, left_strides, right_strides = merged_axes(left.shape, right.shape, out.shape)
    missing = _MOST_AXES - len(sizes)
    bits = width_of(layer)
    if bits is None or (layer.operator.kind, bits) not in _KERNELS or missing < 0:
        return None
    function, file = _KERNELS[layer.operator.kind, bits]
    size = np.dtype(out.dtype).itemsize
    pairs = {
        "sizes": (1,) * missing + sizes,
        "left_strides": (0,) * missing + left_strides,
        "right_strides": (0,) * missing + right_strides,
    }
    leads = tuple(
        sequential_lead(
            np.broadcast_to(np.arange(tensor.elements).reshape(tensor.shape), out.shape), tensor.elements, size, size
        )
        for tensor in (left, right)
        if tensor.data is None
    )
    return portable(
        layer,
        function,
        struct,
        pairs if fields is None else {"pairs": pairs, **fields},
        (file,),
        operands=(operand(layer, 0), operand(layer, 1)),
        leads=leads,
    )

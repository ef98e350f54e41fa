"""Means and softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.export.c_source.kernel import Constant
from leanedge.export.c_source.leads import sequential_lead
from leanedge.export.c_source.portable.parts import (
    all_int8,
    all_of,
    inputs_of,
    output_of,
    portable,
    scale_of,
    width_of,
    zero_of,
)
from leanedge.export.c_source.portable.wide import make_wide_softmax
from leanedge.program.fixed_point import doubling_high_product, exp_of_negative, input_radius, quantized_multiplier
from leanedge.program.types import ReduceOptions, SoftmaxOptions

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Kernel, Layer

__all__ = ["make_mean", "make_softmax"]

Array = np.ndarray[Any, Any]

_SOFTMAX_BITS = 5
"""Integer bits of the softmax's fixed-point input."""


def make_mean(layer: Layer) -> Kernel | None:
    """mean; None where the axes alternate too often between kept and reduced."""
    source, out, options = inputs_of(layer)[0], output_of(layer), layer.operator.options
    assert isinstance(options, ReduceOptions)
    axes: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
    stride, before = 1, None
    for axis in reversed(range(len(source.shape))):
        size = source.shape[axis]
        reduced = axis in options.axes
        if size > 1:
            if before == reduced:
                axes[reduced][0] = (axes[reduced][0][0] * size, axes[reduced][0][1])
            else:
                axes[reduced].insert(0, (size, stride))
            before = reduced
        stride *= size
    bits = width_of(layer)
    if bits is None or len(axes[False]) > 3 or len(axes[True]) > 2:
        return None
    kept = [(1, 0)] * (3 - len(axes[False])) + axes[False]
    gone = [(1, 0)] * (2 - len(axes[True])) + axes[True]
    count = int(np.prod([source.shape[axis] for axis in options.axes], dtype=np.int64))
    multiplier, power = quantized_multiplier(scale_of(source) / scale_of(out))
    # The division by the count goes into the multiplier, with as many bits as it can take.
    shift = min(count.bit_length() - 1, 32, 31 + power)
    first = np.arange(source.elements).reshape(source.shape).min(axis=options.axes)
    fields = {
        "kept": tuple(size for size, _ in kept),
        "kept_strides": tuple(step for _, step in kept),
        "reduced": tuple(size for size, _ in gone),
        "reduced_strides": tuple(step for _, step in gone),
        "input_zero": zero_of(source),
        "output_zero": zero_of(out),
        "multiplier": (multiplier << shift) // count,
        "power": power - shift,
    }
    lead = sequential_lead(first, source.elements, bits // 8, bits // 8)
    function, file = ("leanedge_mean_int8", "mean_int8.c") if bits == 8 else ("leanedge_mean_int16", "mean_int16.c")
    return portable(layer, function, "leanedge_mean", fields, (file,), leads=(lead,))


def make_softmax(layer: Layer) -> Kernel | None:
    """softmax, with a table of exact exponentials."""
    source, options = inputs_of(layer)[0], layer.operator.options
    assert isinstance(options, SoftmaxOptions)
    if all_of(layer, "int16"):
        return make_wide_softmax(layer)
    if not all_int8(layer):
        return None
    table = _exponentials(float(np.float32(options.beta)) * scale_of(source))
    constant = Constant(f"{layer.prefix}_exponentials", table, "exp(-d x beta x scale) in Q0.31")
    depth = source.shape[-1]
    fields = {
        "rows": source.elements // depth,
        "depth": depth,
        "exponentials": constant.name,
        "count": table.size,
    }
    return portable(
        layer,
        "leanedge_softmax_int8",
        "leanedge_softmax",
        fields,
        ("softmax_int8.c",),
        constants=(constant,),
        leads=(0,),
    )


def _exponentials(scale: float) -> Array:
    """int32: exp(-difference x scale) for each difference that the reference arithmetic counts."""
    real = min(scale * (1 << (31 - _SOFTMAX_BITS)), (1 << 31) - 1.0)
    multiplier, power = quantized_multiplier(real)
    difference = -np.arange(min(256, input_radius(_SOFTMAX_BITS, power) + 1), dtype=np.int64)
    scaled = doubling_high_product(difference << power, multiplier)
    return exp_of_negative(scaled, _SOFTMAX_BITS).astype(np.int32)

"""Convolutions and pools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.export.c_source.kernel import Constant
from leanedge.export.c_source.leads import channel_block_ends, first_reads_of_window, sequential_lead
from leanedge.export.c_source.portable.parts import (
    all_int8,
    inputs_of,
    is_image,
    output_of,
    portable,
    width_of,
    window_fields,
    zero_of,
)
from leanedge.export.c_source.portable.wide import make_wide_layer
from leanedge.program.types import PoolOptions, TransposeConvOptions
from leanedge.program.weighted import channel_scales, output_limits, weighted_layer

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Kernel, Layer

__all__ = ["make_conv", "make_pool", "make_transpose_conv"]

Array = np.ndarray[Any, Any]

_POOLS = {
    ("max_pool", 8): ("leanedge_max_pool_int8", "max_pool_int8.c"),
    ("max_pool", 16): ("leanedge_max_pool_int16", "max_pool_int16.c"),
    ("average_pool", 8): ("leanedge_average_pool_int8", "average_pool_int8.c"),
    ("average_pool", 16): ("leanedge_average_pool_int16", "average_pool_int16.c"),
}

_INT32_MAX = (1 << 31) - 1

_BLOCK = 16
"""Channels that depthwise_conv_2d and the pools compute before they write any (BLOCK in the C)."""


def make_conv(layer: Layer) -> Kernel | None:
    """conv_2d and depthwise_conv_2d; None for other types, batches, or sums that 32 bits may not hold."""
    if output_of(layer).dtype == "int16":
        return make_wide_layer(layer)
    if not all_int8(layer, 2) or not is_image(layer):
        return None
    numbers = weighted_layer(layer.program, layer.operator)
    depthwise = numbers.kind == "depthwise_conv_2d"
    taps = (0, 1) if depthwise else (1, 2, 3)
    if not _sums_fit(numbers.folded_bias, numbers.weights, taps):
        return None
    groups = 1 if depthwise else numbers.input_shape[2] // numbers.weights.shape[3]
    constants = (
        Constant(
            f"{layer.prefix}_weights",
            numbers.weights,
            f"weights, ({'row, column, channel' if depthwise else 'output, row, column, input'})",
        ),
        Constant(f"{layer.prefix}_bias", numbers.folded_bias.astype(np.int32), "bias - input zero x sum of weights"),
        Constant(f"{layer.prefix}_multiplier", numbers.multiplier.astype(np.int32), "factor of each output channel"),
        Constant(f"{layer.prefix}_power", numbers.power.astype(np.int8), "and its power of two"),
    )
    (height, width, channels), pads = numbers.input_shape, numbers.pads
    pixels = first_reads_of_window(
        (height, width), numbers.output_shape[:2], numbers.strides, (pads[0], pads[2])
    ).ravel()[:, None]
    outputs = np.arange(numbers.output_shape[2])[None, :]
    if depthwise:
        first = pixels * channels + outputs * channels // numbers.output_shape[2]
    else:
        first = pixels * channels + outputs * groups // numbers.output_shape[2] * (channels // groups)
    fields = {
        "window": window_fields(
            numbers.input_shape, numbers.output_shape, numbers.kernel, numbers.strides, pads, numbers.dilations
        ),
        "groups": groups,
        **_arrays(layer),
        "input_zero": numbers.input_zero,
        "output_zero": numbers.output_zero,
        "low": numbers.low,
        "high": numbers.high,
    }
    function, file = (
        ("leanedge_depthwise_conv_2d_int8", "depthwise_conv_2d_int8.c")
        if depthwise
        else ("leanedge_conv_2d_int8", "conv_2d_int8.c")
    )
    ends = _block_ends(numbers.output_shape) if depthwise else None
    lead = sequential_lead(first, height * width * channels, ends=ends)
    return portable(layer, function, "leanedge_conv", fields, (file,), constants=constants, leads=(lead,))


def make_transpose_conv(layer: Layer) -> Kernel | None:
    """transpose_conv; its input and output may not overlap."""
    if output_of(layer).dtype == "int16":
        return make_wide_layer(layer)
    source, weights = inputs_of(layer)[:2]
    out, options = output_of(layer), layer.operator.options
    assert isinstance(options, TransposeConvOptions)
    if not all_int8(layer, 2) or not is_image(layer) or weights.data is None:
        return None
    bias_tensor = inputs_of(layer)[2]
    assert bias_tensor.data is not None
    integers, bias = weights.data.decode(), bias_tensor.data.decode().astype(np.int64)
    if not _sums_fit(bias, 2 * integers.astype(np.int64), (1, 2, 3)):
        return None
    multiplier, power = channel_scales(source, weights, out)
    low, high = output_limits(options.activation, out)
    channels = integers.shape[0]
    constants = (
        Constant(f"{layer.prefix}_weights", integers, "weights, (output, row, column, input)"),
        Constant(f"{layer.prefix}_bias", bias.astype(np.int32), "bias"),
        Constant(
            f"{layer.prefix}_multiplier",
            np.broadcast_to(multiplier, (channels,)).astype(np.int32),
            "factor of each output channel",
        ),
        Constant(f"{layer.prefix}_power", np.broadcast_to(power, (channels,)).astype(np.int8), "and its power of two"),
    )
    fields = {
        "window": window_fields(source.shape[1:], out.shape[1:], integers.shape[1:3], options.strides, options.pads),
        "groups": 1,
        **_arrays(layer),
        "input_zero": zero_of(source),
        "output_zero": zero_of(out),
        "low": low,
        "high": high,
    }
    return portable(
        layer,
        "leanedge_transpose_conv_int8",
        "leanedge_conv",
        fields,
        ("transpose_conv_int8.c",),
        constants=constants,
        leads=(None,),
    )


def make_pool(layer: Layer) -> Kernel | None:
    """max_pool and average_pool."""
    source, out, options = inputs_of(layer)[0], output_of(layer), layer.operator.options
    assert isinstance(options, PoolOptions)
    bits = width_of(layer)
    if bits is None or not is_image(layer):
        return None
    low, high = output_limits(options.activation, out)
    size = np.dtype(out.dtype).itemsize
    _, height, width, channels = source.shape
    window = window_fields(source.shape[1:], out.shape[1:], options.kernel, options.strides, options.pads)
    pixels = first_reads_of_window(
        (height, width), (out.shape[1], out.shape[2]), options.strides, (options.pads[0], options.pads[2])
    )
    first = pixels.ravel()[:, None] * channels + np.arange(channels)[None, :]
    function, file = _POOLS[layer.operator.kind, bits]
    return portable(
        layer,
        function,
        "leanedge_pool",
        {"window": window, "low": low, "high": high},
        (file,),
        leads=(sequential_lead(first, source.elements, size, size, _block_ends(out.shape[1:])),),
    )


def _block_ends(shape: tuple[int, ...]) -> Array:
    return channel_block_ends(shape[0] * shape[1], shape[2], _BLOCK)


def _sums_fit(bias: Array, weights: Array, taps: tuple[int, ...]) -> bool:
    """Whether no sum of products leaves 32 bits, whatever the input."""
    return bool((np.abs(bias) + 128 * np.abs(weights.astype(np.int64)).sum(axis=taps)).max(initial=0) <= _INT32_MAX)


def _arrays(layer: Layer) -> dict[str, str]:
    return {name: f"{layer.prefix}_{name}" for name in ("weights", "bias", "multiplier", "power")}

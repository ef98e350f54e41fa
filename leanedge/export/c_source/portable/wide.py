"""Kinds with int16 activations: layers with weights, functions of one number, softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.export.c_source.kernel import Constant
from leanedge.export.c_source.leads import first_reads_of_window, sequential_lead
from leanedge.export.c_source.portable.parts import (
    inputs_of,
    is_image,
    output_of,
    portable,
    scale_of,
    window_fields,
    zero_of,
)
from leanedge.program.fixed_point import quantized_multiplier
from leanedge.program.simulate.tables_16 import (
    exp_table,
    reciprocal_table,
    sigmoid_table,
    softmax_scale,
    twelve_thousandths,
)
from leanedge.program.types import (
    ConvOptions,
    FullyConnectedOptions,
    LeakyReluOptions,
    SoftmaxOptions,
    TransposeConvOptions,
)
from leanedge.program.weighted import channel_scales, output_limits

if TYPE_CHECKING:
    from leanedge.export.c_source.kernel import Kernel, Layer
    from leanedge.program.types import Activation

__all__ = ["make_wide_function", "make_wide_layer", "make_wide_softmax"]

Array = np.ndarray[Any, Any]

_LAYERS = {
    "conv_2d": ("leanedge_conv_2d_int16", "conv_2d_int16.c"),
    "fully_connected": ("leanedge_conv_2d_int16", "conv_2d_int16.c"),
    "depthwise_conv_2d": ("leanedge_depthwise_conv_2d_int16", "depthwise_conv_2d_int16.c"),
    "transpose_conv": ("leanedge_transpose_conv_int16", "transpose_conv_int16.c"),
}

_LINES = {
    ("int16", "int16"): ("leanedge_lines_int16", "lines_int16.c"),
    ("int8", "int16"): ("leanedge_lines_int8_int16", "lines_int8_int16.c"),
    ("int16", "int8"): ("leanedge_lines_int16_int8", "lines_int16_int8.c"),
}


def make_wide_layer(layer: Layer) -> Kernel | None:
    """A layer with weights of int16; None without int8 weights and a 64-bit bias."""
    source, weights, bias = inputs_of(layer)
    out, options, kind = output_of(layer), layer.operator.options, layer.operator.kind
    if (source.dtype, weights.dtype, bias.dtype, out.dtype) != ("int16", "int8", "int64", "int16"):
        return None
    if weights.data is None or bias.data is None or zero_of(source) or zero_of(out):
        return None
    integers = weights.data.decode()
    groups = 1
    if isinstance(options, FullyConnectedOptions):
        rows = source.elements // integers.shape[1]
        window = window_fields((rows, 1, integers.shape[1]), (rows, 1, out.shape[-1]), (1, 1), (1, 1), (0, 0, 0, 0))
        first = np.repeat(np.arange(rows) * integers.shape[1], out.shape[-1])
    elif not is_image(layer):
        return None
    else:
        assert isinstance(options, ConvOptions | TransposeConvOptions)
        dilations = options.dilations if isinstance(options, ConvOptions) else (1, 1)
        window = window_fields(
            source.shape[1:], out.shape[1:], integers.shape[1:3], options.strides, options.pads, dilations
        )
        groups = source.shape[3] // integers.shape[3] if kind == "conv_2d" else 1
        pixels = first_reads_of_window(
            (source.shape[1], source.shape[2]),
            (out.shape[1], out.shape[2]),
            options.strides,
            (options.pads[0], options.pads[2]),
        )
        first = np.repeat(pixels.ravel() * source.shape[3], out.shape[3])
    multiplier, power = channel_scales(source, weights, out)
    # The multiplier of 31 bits is rounded to 15, and the sum is shifted once.
    short = np.where(multiplier < 0x7FFF0000, (multiplier + (1 << 15)) >> 16, 0x7FFF)
    constants = (
        Constant(f"{layer.prefix}_weights", integers, f"weights, shape {list(integers.shape)}"),
        Constant(f"{layer.prefix}_bias", bias.data.decode(), "bias", alignment=8),
        Constant(f"{layer.prefix}_multiplier", short.astype(np.int16), "factor of the outputs"),
        Constant(f"{layer.prefix}_shift", (15 - power).astype(np.int8), "and the power of two that divides it"),
    )
    low, high = output_limits(_activation(options), out)
    fields = {
        "window": window,
        "groups": groups,
        **{name: f"{layer.prefix}_{name}" for name in ("weights", "bias", "multiplier", "shift")},
        "factor_step": short.size > 1,
        "low": low,
        "high": high,
    }
    lead = None if kind == "transpose_conv" else sequential_lead(first, source.elements, 2, 2)
    function, file = _LAYERS[kind]
    return portable(layer, function, "leanedge_conv_16", fields, (file,), constants=constants, leads=(lead,))


def _activation(options: object) -> Activation:
    assert isinstance(options, ConvOptions | TransposeConvOptions | FullyConnectedOptions)
    return options.activation


def make_wide_function(layer: Layer) -> Kernel | None:
    """relu, relu6, relu_n1_to_1, leaky_relu, quantize; logistic and tanh."""
    source, out, kind = inputs_of(layer)[0], output_of(layer), layer.operator.kind
    if kind in ("logistic", "tanh"):
        return _sigmoid(layer) if source.dtype == out.dtype == "int16" else None
    if (source.dtype, out.dtype) not in _LINES or kind == "hard_swish":
        return None
    above = below = quantized_multiplier(scale_of(source) / scale_of(out))
    info = np.iinfo(out.dtype)
    low, high = int(info.min), int(info.max)
    input_zero, output_zero = zero_of(source), zero_of(out)
    if kind == "relu":
        low, high = output_limits("relu", out)
    elif kind in ("relu6", "relu_n1_to_1"):
        low, high = output_limits("relu6" if kind == "relu6" else "relu_n1_to_1", out)
        above = below = quantized_multiplier(1.0)
        input_zero = output_zero = 0
    elif isinstance(layer.operator.options, LeakyReluOptions):
        slope = float(np.float32(layer.operator.options.alpha))
        below = quantized_multiplier(scale_of(source) * slope / scale_of(out))
    fields = {
        "count": source.elements,
        "input_zero": input_zero,
        "output_zero": output_zero,
        "above_multiplier": above[0],
        "above_power": above[1],
        "below_multiplier": below[0],
        "below_power": below[1],
        "low": low,
        "high": high,
    }
    function, file = _LINES[source.dtype, out.dtype]
    sizes = (np.dtype(source.dtype).itemsize, np.dtype(out.dtype).itemsize)
    lead = sequential_lead(np.arange(source.elements), source.elements, *sizes)
    return portable(layer, function, "leanedge_lines", fields, (file,), leads=(lead,))


def _sigmoid(layer: Layer) -> Kernel:
    source = inputs_of(layer)[0]
    multiplier, rounding, shift = twelve_thousandths(scale_of(source))
    table = Constant(f"{layer.prefix}_sigmoid", sigmoid_table().astype(np.uint16), "sigmoid(n / 24) x 2^16")
    fields = {
        "count": source.elements,
        "sigmoid": table.name,
        "multiplier": multiplier,
        "rounding": rounding,
        "shift": shift,
    }
    function, file = (
        ("leanedge_logistic_int16", "logistic_int16.c")
        if layer.operator.kind == "logistic"
        else ("leanedge_tanh_int16", "tanh_int16.c")
    )
    return portable(layer, function, "leanedge_sigmoid", fields, (file,), constants=(table,), leads=(0,))


def make_wide_softmax(layer: Layer) -> Kernel:
    """Softmax of int16."""
    source, options = inputs_of(layer)[0], layer.operator.options
    assert isinstance(options, SoftmaxOptions)
    multiplier, power = softmax_scale(scale_of(source), options.beta)
    constants = (
        Constant(f"{layer.prefix}_exponentials", exp_table().astype(np.int16), "exp of -10 to 0, x 2^15"),
        Constant(f"{layer.prefix}_reciprocals", reciprocal_table().astype(np.int16), "1 / (1 + 0 to 1), x 2^15"),
    )
    depth = source.shape[-1]
    fields = {
        "rows": source.elements // depth,
        "depth": depth,
        "multiplier": multiplier,
        "power": power,
        "exponentials": constants[0].name,
        "reciprocals": constants[1].name,
    }
    return portable(
        layer,
        "leanedge_softmax_int16",
        "leanedge_softmax_16",
        fields,
        ("softmax_int16.c",),
        constants=constants,
        leads=(0,),
    )

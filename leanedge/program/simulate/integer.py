"""Integer kernels in numpy, bit for bit those of TensorFlow Lite Micro's and LiteRT's reference kernels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from leanedge.program.fixed_point import (
    doubling_high_product,
    exp_of_negative,
    input_radius,
    logistic,
    quantized_multiplier,
    reciprocal,
    rescale,
    rounding_shift,
    scale_by,
    scale_by_once,
    scale_wide,
    tanh,
)
from leanedge.program.simulate.tables_16 import logistic_16, softmax_16, tanh_16
from leanedge.program.simulate.windows import convolve, depthwise_convolve, spread, windows
from leanedge.program.types import (
    BatchMatmulOptions,
    ConvOptions,
    ElementwiseOptions,
    FullyConnectedOptions,
    LeakyReluOptions,
    PoolOptions,
    ReduceOptions,
    ResizeOptions,
    SoftmaxOptions,
    TransposeConvOptions,
)
from leanedge.program.weighted import channel_scales, output_limits, product_scale

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.compress.types import TensorQuant
    from leanedge.program.types import Activation, Kind, ProgramOperator, ProgramTensor

__all__ = ["INTEGER_KERNELS", "LAYER_OUTPUTS", "Arithmetic", "Kernel", "LayerOutput", "bilinear_places"]

Array = np.ndarray[Any, Any]

LayerOutput = Callable[["ProgramOperator", "list[ProgramTensor]", "ProgramTensor", Array], Array]


def _quant(tensor: ProgramTensor) -> TensorQuant:
    if tensor.quant is None:
        raise ValueError(f"{tensor.name} has no quantization")
    return tensor.quant


def _scale(tensor: ProgramTensor) -> np.float32:
    scale: np.float32 = np.float32(_quant(tensor).scale)
    return scale


def _zero(tensor: ProgramTensor) -> int:
    return int(_quant(tensor).zero_point)


def _centred(tensor: ProgramTensor, array: Array) -> Array:
    return array.astype(np.int64) - _zero(tensor)


def _finish(accumulated: Array, out: ProgramTensor, activation: Activation = "none") -> Array:
    """Adds the zero point and clamps."""
    low, high = output_limits(activation, out)
    return np.asarray(np.clip(accumulated + _zero(out), low, high).astype(out.dtype))


def _limits(tensor: ProgramTensor) -> tuple[int, int]:
    info = np.iinfo(tensor.dtype)
    return int(info.min), int(info.max)


def layer_output(operator: ProgramOperator, inputs: list[ProgramTensor], out: ProgramTensor, total: Array) -> Array:
    """What a layer with weights stores for its accumulators.

    Args:
        operator: A conv_2d, depthwise_conv_2d, transpose_conv or fully_connected.
        inputs: Its input, weights and bias.
        out: Its output.
        total: (..., channels), bias included.
    """
    multiplier, power = channel_scales(inputs[0], inputs[1], out)
    if inputs[2].dtype == "int64":
        return _finish(scale_wide(total, multiplier, power), out, _activation(operator))
    return _finish(scale_by(total, multiplier, power), out, _activation(operator))


def layer_output_litert(
    operator: ProgramOperator, inputs: list[ProgramTensor], out: ProgramTensor, total: Array
) -> Array:
    """The same of LiteRT, whose fully_connected rounds once."""
    if operator.kind != "fully_connected":
        return layer_output(operator, inputs, out, total)
    multiplier, power = channel_scales(inputs[0], inputs[1], out)
    return _finish(scale_by_once(total, multiplier, power), out, _activation(operator))


def _activation(operator: ProgramOperator) -> Activation:
    options = operator.options
    assert isinstance(options, ConvOptions | TransposeConvOptions | FullyConnectedOptions)
    return options.activation


def _conv(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    options, out = operator.options, outputs[0]
    assert isinstance(options, ConvOptions)
    run = convolve if operator.kind == "conv_2d" else depthwise_convolve
    total = run(_centred(inputs[0], arrays[0]), arrays[1], options, out.shape) + arrays[2]
    return layer_output(operator, inputs, out, total)


def _transpose_conv(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    options, out = operator.options, outputs[0]
    assert isinstance(options, TransposeConvOptions)
    total = spread(_centred(inputs[0], arrays[0]), arrays[1], options, out.shape) + arrays[2]
    return layer_output(operator, inputs, out, total)


def _fully_connected(
    operator: ProgramOperator,
    inputs: list[ProgramTensor],
    outputs: list[ProgramTensor],
    arrays: list[Array],
    store: LayerOutput = layer_output,
) -> Array:
    # float64 holds every sum of int8 products exactly and is far faster than integers.
    total = _centred(inputs[0], arrays[0]).astype(np.float64) @ arrays[1].astype(np.float64).T
    return store(operator, inputs, outputs[0], total.astype(np.int64) + arrays[2]).reshape(outputs[0].shape)


def _batch_matmul(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    options, out = operator.options, outputs[0]
    assert isinstance(options, BatchMatmulOptions)
    left, right = (_centred(tensor, array).astype(np.float64) for tensor, array in zip(inputs, arrays, strict=True))
    total = left @ (right.swapaxes(-1, -2) if options.adjoint_right else right)
    multiplier, power = product_scale(inputs[0], inputs[1], out)
    return _finish(scale_by(total.astype(np.int64), multiplier, power), out)


def _add(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    options, out = operator.options, outputs[0]
    assert isinstance(options, ElementwiseOptions)
    shift = 20 if inputs[0].dtype == "int8" else 15
    widest = 2.0 * float(max(_scale(tensor) for tensor in inputs))
    parts = [
        scale_by(_centred(tensor, array) << shift, *quantized_multiplier(float(_scale(tensor)) / widest))
        for tensor, array in zip(inputs, arrays, strict=True)
    ]
    total = parts[0] + parts[1] if operator.kind == "add" else parts[0] - parts[1]
    multiplier, power = quantized_multiplier(widest / ((1 << shift) * float(_scale(out))))
    return _finish(scale_by(total, multiplier, power), out, options.activation)


def _mul(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    options, out = operator.options, outputs[0]
    assert isinstance(options, ElementwiseOptions)
    left, right = (_centred(tensor, array) for tensor, array in zip(inputs, arrays, strict=True))
    real = float(_scale(inputs[0])) * float(_scale(inputs[1])) / float(_scale(out))
    return _finish(scale_by(left * right, *quantized_multiplier(real)), out, options.activation)


def _max_pool(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    options, out = operator.options, outputs[0]
    assert isinstance(options, PoolOptions)
    lowest, _ = _limits(out)
    seen = windows(arrays[0], options.kernel, options.strides, (1, 1), options.pads, out.shape, lowest)
    low, high = output_limits(options.activation, out)
    return np.asarray(np.clip(seen.max(axis=(3, 4)), low, high).astype(out.dtype))


def _average_pool(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    options, out = operator.options, outputs[0]
    assert isinstance(options, PoolOptions)

    def look(array: Array) -> Array:
        seen = windows(array, options.kernel, options.strides, (1, 1), options.pads, out.shape, 0)
        return np.asarray(seen.sum(axis=(3, 4)))

    total, count = look(arrays[0].astype(np.int64)), look(np.ones(arrays[0].shape, np.int64))
    mean = np.where(total > 0, (total + count // 2) // count, -((count // 2 - total) // count))
    low, high = output_limits(options.activation, out)
    return np.asarray(np.clip(mean, low, high).astype(out.dtype))


def _mean(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    options, out = operator.options, outputs[0]
    assert isinstance(options, ReduceOptions)
    count = int(np.prod([inputs[0].shape[axis] for axis in options.axes], dtype=np.int64))
    total = _centred(inputs[0], arrays[0]).sum(axis=options.axes, keepdims=options.keep_dims)
    multiplier, power = quantized_multiplier(float(_scale(inputs[0])) / float(_scale(out)))
    # The division by the count goes into the multiplier, with as many bits as it can take.
    shift = min(count.bit_length() - 1, 32, 31 + power)
    return _finish(scale_by(total, (multiplier << shift) // count, power - shift), out)


def _softmax(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    options, bits, sum_bits = operator.options, 5, 12
    assert isinstance(options, SoftmaxOptions)
    if outputs[0].dtype == "int16":
        return softmax_16(arrays[0], float(_scale(inputs[0])), options.beta)
    low, high = _limits(outputs[0])
    real = min(float(np.float32(options.beta)) * float(_scale(inputs[0])) * (1 << (31 - bits)), (1 << 31) - 1.0)
    multiplier, power = quantized_multiplier(real)
    difference = arrays[0].astype(np.int64) - arrays[0].max(axis=-1, keepdims=True)
    counted = difference >= -input_radius(bits, power)
    scaled = doubling_high_product(np.where(counted, difference, 0) << power, multiplier)
    e = exp_of_negative(scaled, bits)
    total = np.where(counted, rescale(e, -sum_bits), 0).sum(axis=-1, keepdims=True)
    headroom = 32 - np.frompyfunc(lambda number: int(number).bit_length(), 1, 1)(total).astype(np.int64)
    inverse = reciprocal(((total << headroom) & 0xFFFFFFFF) - (1 << 31))
    share = rounding_shift(doubling_high_product(e, inverse), sum_bits - headroom + 31 - 8)
    return np.asarray(np.where(counted, np.clip(share + low, low, high), low).astype(np.int8))


def _squash(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    """Logistic and tanh: a Q4.27 input, a Q0.31 result; those of int16 by a table."""
    if outputs[0].dtype == "int16":
        run = logistic_16 if operator.kind == "logistic" else tanh_16
        return run(arrays[0], float(_scale(inputs[0])))
    bits = 4
    low, high = _limits(outputs[0])
    multiplier, power = quantized_multiplier(float(_scale(inputs[0])) * (1 << (31 - bits)))
    radius = input_radius(bits, power)
    centred = _centred(inputs[0], arrays[0])
    inside = np.where(np.abs(centred) < radius, centred, 0)
    scaled = scale_by(inside, multiplier, power)
    if operator.kind == "logistic":
        result = rounding_shift(logistic(scaled, bits), 31 - 8) + low
    else:
        result = rounding_shift(tanh(scaled, bits), 31 - 7)
    result = np.where(centred <= -radius, low, np.where(centred >= radius, high, result))
    return np.asarray(np.clip(result, low, high).astype(np.int8))


def _squash_by_table(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    """Logistic and tanh as LiteRT makes its int8 tables: in float32, rounded half away from zero."""
    if outputs[0].dtype == "int16":
        return _squash(operator, inputs, outputs, arrays)
    real = (_centred(inputs[0], arrays[0]).astype(np.float32) * _scale(inputs[0])).astype(np.float64)
    if operator.kind == "tanh":
        value = np.tanh(real).astype(np.float32)
    else:
        value = np.float32(1) / (np.float32(1) + np.exp(-real).astype(np.float32))
    scaled = (value * (np.float32(1) / _scale(outputs[0]))).astype(np.float64)
    return _finish(np.copysign(np.floor(np.abs(scaled) + 0.5), scaled).astype(np.int64), outputs[0])


def _hard_swish(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    """X relu6(x + 3) / 6 in int16 with 7 bits more of resolution."""
    fine = np.float32(1 / 128) * _scale(inputs[0])
    out_multiplier, out_power = _multiplier_16(float(fine / _scale(outputs[0])))
    multiplier, power = _multiplier_16(float(fine / (np.float32(3) / np.float32(32768))))
    value = _centred(inputs[0], arrays[0]) << 7
    scaled = doubling_high_product(value, out_multiplier, 15)
    gate = np.clip(value << (power - 1), -32768, 32767) if power > 0 else value
    gate = doubling_high_product(gate, multiplier, 15)
    if power > 0:
        gate = np.clip(gate << 1, -32768, 32767)
    elif power < 0:
        gate = rounding_shift(gate, -power)
    gate = (gate + (1 << 15)) >> 1
    product = gate * scaled
    product = np.where(product >= 0, product >> 15, -((-product) >> 15))
    return _finish(rounding_shift(product, -out_power), outputs[0])


def _multiplier_16(real: float) -> tuple[int, int]:
    multiplier, power = quantized_multiplier(real)
    return min((multiplier + (1 << 15)) >> 16, 32767), power


def _relu(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    real = float(_scale(inputs[0])) / float(_scale(outputs[0]))
    scaled = scale_by(_centred(inputs[0], arrays[0]), *quantized_multiplier(real))
    return _finish(scaled, outputs[0], "relu")


def _clamp(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    low, high = output_limits("relu6" if operator.kind == "relu6" else "relu_n1_to_1", outputs[0])
    return np.asarray(np.clip(arrays[0], low, high))


def _leaky_relu(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    options = operator.options
    assert isinstance(options, LeakyReluOptions)
    source, out = float(_scale(inputs[0])), float(_scale(outputs[0]))
    centred = _centred(inputs[0], arrays[0])
    slope = float(np.float32(options.alpha))
    above = scale_by(centred, *quantized_multiplier(source / out))
    below = scale_by(centred, *quantized_multiplier(source * slope / out))
    return _finish(np.where(centred >= 0, above, below), outputs[0])


def _prelu(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    source, slope, out = float(_scale(inputs[0])), float(_scale(inputs[1])), float(_scale(outputs[0]))
    centred = _centred(inputs[0], arrays[0])
    above = scale_by(centred, *quantized_multiplier(source / out))
    below = scale_by(centred * _centred(inputs[1], arrays[1]), *quantized_multiplier(source * slope / out))
    return _finish(np.where(centred >= 0, above, below), outputs[0])


def _resize_bilinear(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    """Weights of 10 bits, the result of 20 bits rounded half away from zero."""
    options = operator.options
    assert isinstance(options, ResizeOptions)
    source, out = inputs[0].shape, outputs[0].shape
    y0, y1, fy = bilinear_places(source[1], out[1], options)
    x0, x1, fx = bilinear_places(source[2], out[2], options)
    image = arrays[0].astype(np.int64)
    fy, fx = fy[None, :, None, None], fx[None, None, :, None]
    upper = image[:, y0][:, :, x0] * (1024 - fx) + image[:, y0][:, :, x1] * fx
    lower = image[:, y1][:, :, x0] * (1024 - fx) + image[:, y1][:, :, x1] * fx
    total = upper * (1024 - fy) + lower * fy
    total = total + np.where(total > 0, 1 << 19, -(1 << 19))
    return np.asarray(np.where(total >= 0, total >> 20, -((-total) >> 20)).astype(np.int8))


def bilinear_places(size: int, out: int, options: ResizeOptions) -> tuple[Array, Array, Array]:
    """Both neighbours of each output position, and the weight of the second in 1/1024."""
    if options.align_corners and out > 1:
        step = (1024 * (size - 1) + (out - 1) // 2) // (out - 1)
    else:
        step = (1024 * size + out // 2) // out
    place = np.arange(out, dtype=np.int64) * step
    if options.half_pixel_centers:
        place = place + step // 2 - 512
    first = np.maximum(np.where(place >= 0, place // 1024, 0), 0)
    second = np.minimum(np.where(place + 1023 >= 0, (place + 1023) // 1024, 0), size - 1)
    return first, second, place - 1024 * first


def _requantize(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    real = float(_scale(inputs[0])) / float(_scale(outputs[0]))
    return _finish(scale_by(_centred(inputs[0], arrays[0]), *quantized_multiplier(real)), outputs[0])


def _pick(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> Array:
    return np.asarray(np.maximum(*arrays) if operator.kind == "maximum" else np.minimum(*arrays))


Arithmetic = Literal["tflm", "litert"]
"""Whose reference kernels: TensorFlow Lite Micro's or LiteRT's (and tflite-runtime's).

Of int16 activations, LiteRT's softmax and leaky_relu differ from what is here by one at most; all else is equal.
"""

LAYER_OUTPUTS: Mapping[Arithmetic, LayerOutput] = {"tflm": layer_output, "litert": layer_output_litert}
"""By arithmetic: from accumulators to what is stored."""

Kernel = Callable[["ProgramOperator", "list[ProgramTensor]", "list[ProgramTensor]", "list[Array]"], Array]

_MICRO: Mapping[Kind, Kernel] = {
    "conv_2d": _conv,
    "depthwise_conv_2d": _conv,
    "transpose_conv": _transpose_conv,
    "fully_connected": _fully_connected,
    "batch_matmul": _batch_matmul,
    "add": _add,
    "sub": _add,
    "mul": _mul,
    "maximum": _pick,
    "minimum": _pick,
    "max_pool": _max_pool,
    "average_pool": _average_pool,
    "mean": _mean,
    "softmax": _softmax,
    "logistic": _squash,
    "tanh": _squash,
    "hard_swish": _hard_swish,
    "relu": _relu,
    "relu6": _clamp,
    "relu_n1_to_1": _clamp,
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "resize_bilinear": _resize_bilinear,
    "quantize": _requantize,
}

INTEGER_KERNELS: Mapping[Arithmetic, Mapping[Kind, Kernel]] = {
    "tflm": _MICRO,
    "litert": {
        **_MICRO,
        "fully_connected": partial(_fully_connected, store=layer_output_litert),
        "logistic": _squash_by_table,
        "tanh": _squash_by_table,
    },
}
"""Kinds that calculate; those that only move numbers are in `movement`."""

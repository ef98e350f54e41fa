"""Float kernels in numpy, and the edges between float and integer.

Sums are taken in float64, so results differ from a device's by its order of summation.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.program.simulate.windows import convolve, depthwise_convolve, spread, windows
from leanedge.program.types import (
    BatchMatmulOptions,
    ConvOptions,
    ElementwiseOptions,
    FullyConnectedOptions,
    GeluOptions,
    LeakyReluOptions,
    PoolOptions,
    ReduceOptions,
    ResizeOptions,
    SoftmaxOptions,
    TransposeConvOptions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from leanedge.program.types import Activation, Kind, ProgramOperator, ProgramTensor

__all__ = ["REAL_KINDS", "dequantize", "quantize", "real_kernel"]

Array = np.ndarray[Any, Any]

_LIMITS: Mapping[Activation, tuple[float, float]] = {
    "none": (-np.inf, np.inf),
    "relu": (0.0, np.inf),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
}


def quantize(array: Array, out: ProgramTensor) -> Array:
    """float32 to int8: rounds half away from zero, in float32 (TensorFlow Lite's AffineQuantize)."""
    if out.quant is None:
        raise ValueError(f"{out.name} has no quantization")
    quotient = np.clip(array.astype(np.float32) / out.quant.scale.astype(np.float32), -(2.0**30), 2.0**30)
    rounded = np.copysign(np.floor(np.abs(quotient) + np.float32(0.5)), quotient)
    # The sum above would round 0.49999997 up: what rounds to the next integer must be at least half way there.
    rounded = np.where(np.abs(np.trunc(quotient) - quotient) < np.float32(0.5), np.trunc(quotient), rounded)
    info = np.iinfo(out.quant.dtype)
    limited = rounded.astype(np.int64) + out.quant.zero_point
    return np.clip(limited, info.min, info.max).astype(out.quant.dtype)


def dequantize(array: Array, source: ProgramTensor) -> Array:
    """int8 to float32: the product in float64, then rounded."""
    if source.quant is None:
        return array.astype(np.float32)
    return source.quant.dequantize(array)


def _clamped(array: Array, activation: Activation) -> Array:
    return np.clip(array, *_LIMITS[activation])


_UNARY: Mapping[Kind, Callable[[Array], Array]] = {
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "relu_n1_to_1": lambda x: np.clip(x, -1, 1),
    "hard_swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "neg": np.negative,
    "abs": np.abs,
    "logical_not": np.logical_not,
    "cast": lambda x: x,
}

_BINARY: Mapping[Kind, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "pow": np.power,
    "equal": np.equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "squared_difference": lambda x, y: (x - y) ** 2,
    "prelu": lambda x, slope: np.where(x >= 0, x, x * slope),
}

_REDUCE: Mapping[Kind, Callable[..., Array]] = {
    "mean": np.mean,
    "sum": np.sum,
    "reduce_max": np.max,
    "reduce_min": np.min,
}

REAL_KINDS: frozenset[Kind] = frozenset(
    {
        *_UNARY,
        *_BINARY,
        "conv_2d",
        "depthwise_conv_2d",
        "transpose_conv",
        "fully_connected",
        "batch_matmul",
        "max_pool",
        "average_pool",
        *_REDUCE,
        "softmax",
        "gelu",
        "select",
        "leaky_relu",
        "resize_bilinear",
    }
)


def real_kernel(operator: ProgramOperator, out: ProgramTensor, arrays: list[Array]) -> Array:
    """The output of an operator of `REAL_KINDS`; floats are reckoned with in float64."""
    operands = [array.astype(np.float64) if array.dtype == np.float32 else array for array in arrays]
    with np.errstate(all="ignore"):  # infinities and NaN come out as on the device
        return _real(operator, out, operands).astype(out.dtype).reshape(out.shape)


def _real(operator: ProgramOperator, out: ProgramTensor, arrays: list[Array]) -> Array:
    options, kind, first = operator.options, operator.kind, arrays[0]
    if isinstance(options, ConvOptions):
        run = convolve if kind == "conv_2d" else depthwise_convolve
        return _clamped(run(first, arrays[1], options, out.shape) + arrays[2], options.activation)
    if isinstance(options, TransposeConvOptions):
        return _clamped(spread(first, arrays[1], options, out.shape) + arrays[2], options.activation)
    if isinstance(options, FullyConnectedOptions):
        return _clamped(first @ arrays[1].T + arrays[2], options.activation)
    if isinstance(options, BatchMatmulOptions):
        return np.asarray(first @ (arrays[1].swapaxes(-1, -2) if options.adjoint_right else arrays[1]))
    if isinstance(options, PoolOptions):
        return _clamped(_pool(kind, first, options, out.shape), options.activation)
    if isinstance(options, ReduceOptions):
        return np.asarray(_REDUCE[kind](first, axis=options.axes, keepdims=options.keep_dims))
    if isinstance(options, GeluOptions):
        return _gelu(first, options.approximate)
    if kind == "select":
        return np.where(first, arrays[1], arrays[2])
    if isinstance(options, SoftmaxOptions):
        e = np.exp(options.beta * (first - first.max(axis=-1, keepdims=True)))
        return np.asarray(e / e.sum(axis=-1, keepdims=True))
    if isinstance(options, LeakyReluOptions):
        return np.where(first >= 0, first, first * options.alpha)
    if isinstance(options, ResizeOptions):
        return _bilinear(first, options, out.shape)
    if kind in _UNARY:
        return _UNARY[kind](first)
    result = _BINARY[kind](first, arrays[1])
    return _clamped(result, options.activation) if isinstance(options, ElementwiseOptions) else result


def _gelu(array: Array, approximate: bool) -> Array:
    if approximate:
        return np.asarray(0.5 * array * (1 + np.tanh(np.sqrt(2 / np.pi) * (array + 0.044715 * array**3))))
    error_function = np.frompyfunc(math.erf, 1, 1)
    return np.asarray(0.5 * array * (1 + error_function(array / np.sqrt(2)).astype(np.float64)))


def _pool(kind: Kind, image: Array, options: PoolOptions, shape: tuple[int, ...]) -> Array:
    def look(array: Array, fill: float) -> Array:
        return windows(array, options.kernel, options.strides, (1, 1), options.pads, shape, fill)

    if kind == "max_pool":
        return np.asarray(look(image, -np.inf).max(axis=(3, 4)))
    return np.asarray(look(image, 0).sum(axis=(3, 4)) / look(np.ones(image.shape), 0).sum(axis=(3, 4)))


def _bilinear(image: Array, options: ResizeOptions, shape: tuple[int, ...]) -> Array:
    for axis in (1, 2):
        size, out = image.shape[axis], shape[axis]
        step = (size - 1) / (out - 1) if options.align_corners and out > 1 else size / out
        place = np.arange(out) * step
        if options.half_pixel_centers:
            place = (np.arange(out) + 0.5) * step - 0.5
        place = np.clip(place, 0, size - 1)
        first = np.floor(place).astype(np.int64)
        second = np.minimum(first + 1, size - 1)
        weight = (place - first).reshape([-1 if other == axis else 1 for other in range(4)])
        image = np.take(image, first, axis=axis) * (1 - weight) + np.take(image, second, axis=axis) * weight
    return image

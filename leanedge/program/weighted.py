"""Layers with weights as plain numbers: what a kernel maker, a cost or an exact simplification needs of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.program.fixed_point import quantized_multiplier, quantized_multipliers
from leanedge.program.types import ConvOptions, FullyConnectedOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.compress.types import TensorQuant
    from leanedge.program.types import Activation, Kind, Program, ProgramOperator, ProgramTensor

__all__ = ["WeightedLayer", "channel_scales", "output_limits", "product_scale", "weighted_layer"]

Array = np.ndarray[Any, Any]

_BOUNDS: Mapping[Activation, tuple[float | None, float | None]] = {
    "none": (None, None),
    "relu": (0.0, None),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
}


@dataclass(frozen=True, eq=False)
class WeightedLayer:
    """A conv_2d, depthwise_conv_2d or fully_connected of int8, all in integers.

    output[c] = clip(scale_by(bias[c] + sum((input - input_zero) x weights), multiplier[c], power[c]) + output_zero,
    low, high), with `fixed_point.scale_by`.

    Attributes:
        kind: Which of the three.
        input_shape: (height, width, channels); (1, rows, depth) for fully_connected.
        output_shape: The same of the output.
        weights: int8: (out, kernel height, kernel width, in) for conv_2d; (kernel height, kernel width, channels) for
            depthwise_conv_2d with one output a channel, in general (kernel height, kernel width, out); (out, in) for
            fully_connected.
        bias: int32 (out,); zeros where the layer has none.
        input_zero: Zero point of the input, which is also what padding holds.
        output_zero: Zero point of the output.
        multiplier: int32 (out,), of 31 bits.
        power: (out,), a power of two: the factor is multiplier x 2^(power - 31).
        low: Smallest output that the fused activation lets through.
        high: Largest.
        strides: (vertical, horizontal).
        dilations: (vertical, horizontal).
        pads: (top, bottom, left, right).
    """

    kind: Kind
    input_shape: tuple[int, int, int]
    output_shape: tuple[int, int, int]
    weights: Array
    bias: Array
    input_zero: int
    output_zero: int
    multiplier: Array
    power: Array
    low: int
    high: int
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the window."""
        if self.kind == "fully_connected":
            return (1, 1)
        start = 1 if self.kind == "conv_2d" else 0
        return (self.weights.shape[start], self.weights.shape[start + 1])

    @property
    def folded_bias(self) -> Array:
        """Int32 (out,): the bias with the input's zero point folded in, exact where no window reaches into padding."""
        axes = tuple(range(1, self.weights.ndim)) if self.kind != "depthwise_conv_2d" else (0, 1)
        return np.asarray(self.bias - self.input_zero * self.weights.astype(np.int64).sum(axis=axes))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the plain layer, padding included."""
        rows, columns, channels = self.output_shape
        return rows * columns * channels * (self.weights.size // channels)


def weighted_layer(program: Program, operator: ProgramOperator) -> WeightedLayer:
    """The numbers of an integer conv_2d, depthwise_conv_2d or fully_connected of batch 1.

    Raises:
        ValueError: The operator is none of these, or its activations are not int8.
    """
    tensors = [program.tensors[name] for name in operator.inputs]
    source, weights, out = tensors[0], tensors[1], program.tensors[operator.output]
    if weights.data is None or source.dtype != "int8" or out.dtype != "int8":
        raise ValueError(f"{operator.source}: {operator.kind} is no int8 layer with constant weights")
    integers = weights.data.decode()
    channels = integers.shape[-1] if operator.kind == "depthwise_conv_2d" else integers.shape[0]
    bias = np.zeros(channels, np.int64)
    if len(tensors) > 2 and tensors[2].data is not None:
        bias = tensors[2].data.decode().astype(np.int64)
    options = operator.options
    if isinstance(options, ConvOptions):
        multiplier, power = channel_scales(source, weights, out)
        low, high = output_limits(options.activation, out)
        return WeightedLayer(
            operator.kind,
            _image(source),
            _image(out),
            integers.reshape(integers.shape[-3:]) if operator.kind == "depthwise_conv_2d" else integers,
            bias,
            _zero(source),
            _zero(out),
            np.broadcast_to(multiplier, (channels,)),
            np.broadcast_to(power, (channels,)),
            low,
            high,
            options.strides,
            options.dilations,
            options.pads,
        )
    if not isinstance(options, FullyConnectedOptions):
        raise ValueError(f"{operator.source}: {operator.kind} has no weights")
    multiplier, power = channel_scales(source, weights, out)
    low, high = output_limits(options.activation, out)
    rows = source.elements // integers.shape[1]
    return WeightedLayer(
        operator.kind,
        (1, rows, integers.shape[1]),
        (1, rows, channels),
        integers,
        bias,
        _zero(source),
        _zero(out),
        np.broadcast_to(multiplier, (channels,)),
        np.broadcast_to(power, (channels,)),
        low,
        high,
    )


def output_limits(activation: Activation, out: ProgramTensor) -> tuple[int, int]:
    """Smallest and largest integer that a fused activation lets through."""
    quant = _quant(out)
    scale, zero, info = np.float32(quant.scale), int(quant.zero_point), np.iinfo(quant.dtype)

    def integer(real: float) -> int:
        quotient = float(np.float32(real) / scale)
        return zero + int(np.copysign(np.floor(abs(quotient) + 0.5), quotient))

    low, high = _BOUNDS[activation]
    return (
        int(info.min) if low is None else max(int(info.min), integer(low)),
        int(info.max) if high is None else min(int(info.max), integer(high)),
    )


def channel_scales(source: ProgramTensor, weights: ProgramTensor, out: ProgramTensor) -> tuple[Array, Array]:
    """(multiplier, power) of each output channel of a convolution."""
    scales = np.atleast_1d(_quant(weights).scale).astype(np.float64)
    into, from_ = float(np.float32(_quant(source).scale)), float(np.float32(_quant(out).scale))
    return quantized_multipliers(into * scales / from_)


def product_scale(left: ProgramTensor, right: ProgramTensor, out: ProgramTensor) -> tuple[int, int]:
    """(multiplier, power) of a batch_matmul, whose product of scales is rounded to float32 first."""
    scales = [np.float32(_quant(tensor).scale) for tensor in (left, right, out)]
    return quantized_multiplier(float(scales[0] * scales[1]) / float(scales[2]))


def _quant(tensor: ProgramTensor) -> TensorQuant:
    if tensor.quant is None:
        raise ValueError(f"{tensor.name} has no quantization")
    return tensor.quant


def _zero(tensor: ProgramTensor) -> int:
    return int(_quant(tensor).zero_point)


def _image(tensor: ProgramTensor) -> tuple[int, int, int]:
    if len(tensor.shape) != 4 or tensor.shape[0] != 1:
        raise ValueError(f"{tensor.name} has shape {tensor.shape}; a batch of one image is needed")
    return (tensor.shape[1], tensor.shape[2], tensor.shape[3])

"""Interval arithmetic over every input that the types allow: which numbers each channel of each tensor can hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.program.fixed_point import INT32_MAX
from leanedge.program.simplify.borders import border_sums
from leanedge.program.simulate import run_operator
from leanedge.program.simulate.integer import LAYER_OUTPUTS
from leanedge.program.types import (
    ConcatenationOptions,
    ConvOptions,
    PadOptions,
    PoolOptions,
    ReduceOptions,
    SplitOptions,
    StridedSliceOptions,
    TransposeOptions,
)
from leanedge.program.weighted import channel_scales

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.program.types import Program, ProgramOperator, ProgramTensor

__all__ = ["Interval", "find_intervals"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Interval:
    """Smallest and largest number of each channel (last axis; one channel for a scalar), both int64 (channels,)."""

    low: Array
    high: Array

    @property
    def constant(self) -> Array:
        """Bool (channels,): those that hold one number whatever the input."""
        return np.asarray(self.low == self.high)


def find_intervals(program: Program) -> dict[str, Interval]:
    """Tensor -> its interval; real numbers have none.

    Every operator's interval holds all numbers that its reference kernels, TensorFlow Lite Micro's and LiteRT's, make
    of inputs within theirs. Inputs and states can be anything; where an operator is not known here, or a 32-bit sum
    could overflow, so can its output.
    """
    found: dict[str, Interval] = {}
    for name, tensor in program.tensors.items():
        if tensor.data is not None and tensor.dtype not in ("float32", "float16"):
            flat = tensor.data.decode().astype(np.int64).reshape(-1, _channels(tensor))
            if flat.size:
                found[name] = Interval(flat.min(axis=0), flat.max(axis=0))
        elif tensor.data is None and tensor.dtype in ("int8", "uint8", "int16"):
            found[name] = _anything(tensor)
    for operator in program.operators:
        if program.computes_in_integers(operator) and all(name in found for name in operator.inputs):
            found.update(_run(program, operator, found))
    return found


def _channels(tensor: ProgramTensor) -> int:
    return tensor.shape[-1] if tensor.shape else 1


def _anything(tensor: ProgramTensor) -> Interval:
    info, channels = np.iinfo(tensor.dtype), _channels(tensor)
    return Interval(np.full(channels, info.min, np.int64), np.full(channels, info.max, np.int64))


_RISING = frozenset({"max_pool", "average_pool", "relu", "relu6", "relu_n1_to_1", "quantize", "logistic", "tanh"})
"""Kinds whose output rises (or stays) when any input does, channel by channel."""

_TABLES = frozenset({"hard_swish", "leaky_relu"})
"""Kinds of one number each whose output may fall."""

_CORNERS = frozenset({"add", "sub", "mul", "maximum", "minimum"})
"""Kinds of two numbers whose extremes are at the corners of both intervals: rising or falling in each for any other."""


def _run(program: Program, operator: ProgramOperator, found: Mapping[str, Interval]) -> dict[str, Interval]:
    inputs = [program.tensors[name] for name in operator.inputs]
    ranges = [found[name] for name in operator.inputs]
    out = program.tensors[operator.output]
    kind, options = operator.kind, operator.options
    if kind in ("conv_2d", "depthwise_conv_2d", "fully_connected"):
        return {out.name: _layer(operator, inputs, out, ranges[0])}
    if kind in _RISING or (isinstance(options, ReduceOptions) and kind == "mean" and len(out.shape) > 0):
        if isinstance(options, ReduceOptions) and len(inputs[0].shape) - 1 in options.axes:
            ranges = [_whole(ranges[0])]
        return {out.name: _rising(operator, inputs[0], out, ranges[0])}
    if kind in _TABLES:
        return {out.name: _table(operator, inputs[0], out, ranges[0])}
    if kind in _CORNERS:
        return {out.name: _corners(operator, inputs, out, ranges)}
    if kind in ("resize_nearest", "resize_bilinear"):
        return {out.name: ranges[0]}
    if isinstance(options, ConcatenationOptions):
        return {out.name: _joined(ranges, options.axis == len(out.shape) - 1)}
    if isinstance(options, PadOptions):
        return {out.name: _padded(operator, inputs[0], out, options, ranges[0])}
    if kind == "reshape":
        return {out.name: _reshaped(ranges[0], _channels(out))}
    if isinstance(options, TransposeOptions | SplitOptions | StridedSliceOptions):
        kept = _keeps_channels(options, inputs[0])
        moved = ranges[0] if kept else _whole(ranges[0])
        return {name: _spread(moved, _channels(program.tensors[name])) for name in operator.outputs}
    return {name: _anything(program.tensors[name]) for name in operator.outputs}


def _layer(operator: ProgramOperator, inputs: list[ProgramTensor], out: ProgramTensor, source: Interval) -> Interval:
    """Extremes of the sums: each weight meets that end of its channel's interval which its sign asks for.

    What lies in padding adds 0, so a channel whose windows reach into it has 0 in its interval of differences. Channels
    that hold one number are reckoned with apart: which of their taps lie in padding is known at each position.
    """
    weights, bias = (_constant(tensor) for tensor in inputs[1:3])
    assert inputs[0].quant is not None
    zero = int(inputs[0].quant.zero_point)
    low: Array = source.low - zero
    high: Array = source.high - zero
    least, most = bias, bias
    options = operator.options
    if isinstance(options, ConvOptions) and any(options.pads):
        sums = border_sums(_fixed_taps(operator, weights, np.where(source.constant, low, 0)), options, inputs[0], out)
        least, most = bias + sums.min(axis=0), bias + sums.max(axis=0)
        low, high = (np.where(source.constant, 0, end) for end in (np.minimum(low, 0), np.maximum(high, 0)))
    if operator.kind == "depthwise_conv_2d":
        taps: Array = weights.reshape(-1, weights.shape[-1])
        repeat = weights.shape[-1] // len(low)
        low = np.asarray(np.repeat(low, repeat))
        high = np.asarray(np.repeat(high, repeat))
        summed: tuple[int, ...] = (0,)
    else:
        taps = weights.reshape(weights.shape[0], -1, weights.shape[-1])
        groups = len(low) // taps.shape[-1]
        repeat = taps.shape[0] // groups
        low = _of_groups(low, groups, repeat)
        high = _of_groups(high, groups, repeat)
        summed = (1, 2)
    above, below = np.maximum(taps, 0), np.minimum(taps, 0)
    least = least + (above * low + below * high).sum(axis=summed)
    most = most + (above * high + below * low).sum(axis=summed)
    _, power = channel_scales(inputs[0], inputs[1], out)
    if max(np.abs(least).max(), np.abs(most).max()) << max(int(power.max()), 0) > INT32_MAX:
        return _anything(out)
    ends = [store(operator, inputs, out, np.stack([least, most])) for store in LAYER_OUTPUTS.values()]
    return _hull([Interval(*end.astype(np.int64)) for end in ends])


def _fixed_taps(operator: ProgramOperator, weights: Array, fixed: Array) -> Array:
    """(outputs, kernel height, kernel width): what each tap adds for the numbers that the channels hold."""
    if operator.kind == "depthwise_conv_2d":
        return np.asarray(np.moveaxis(weights[0] * np.repeat(fixed, weights.shape[-1] // len(fixed)), -1, 0))
    groups = len(fixed) // weights.shape[-1]
    return np.asarray((weights * _of_groups(fixed, groups, len(weights) // groups)[:, None]).sum(axis=-1))


def _of_groups(channels: Array, groups: int, outputs: int) -> Array:
    """(all outputs, 1, channels of a group): what the outputs of each group see."""
    return np.asarray(np.repeat(channels.reshape(groups, 1, -1), outputs, axis=0))


def _constant(tensor: ProgramTensor) -> Array:
    assert tensor.data is not None
    return tensor.data.decode().astype(np.int64)


def _hull(parts: list[Interval]) -> Interval:
    return Interval(np.minimum.reduce([part.low for part in parts]), np.maximum.reduce([part.high for part in parts]))


def _whole(interval: Interval) -> Interval:
    return Interval(interval.low.min(keepdims=True), interval.high.max(keepdims=True))


def _spread(interval: Interval, channels: int) -> Interval:
    return Interval(np.broadcast_to(interval.low, (channels,)), np.broadcast_to(interval.high, (channels,)))


def _rising(operator: ProgramOperator, source: ProgramTensor, out: ProgramTensor, interval: Interval) -> Interval:
    """Both ends, run through the operator; a pool of equal numbers is one pixel of it."""
    if operator.kind != "mean":
        shape = (1,) * (len(source.shape) - 1) + source.shape[-1:]
        source, out = replace(source, shape=shape), replace(out, shape=shape)
    if isinstance(operator.options, PoolOptions):
        operator = replace(operator, options=replace(operator.options, kernel=(1, 1), strides=(1, 1), pads=(0,) * 4))
    ends = []
    for end in (interval.low, interval.high):
        array = np.broadcast_to(end, source.shape).astype(source.dtype)
        made = [run_operator(operator, [source], [out], [array], arithmetic)[0] for arithmetic in LAYER_OUTPUTS]
        ends.append(np.stack(made).astype(np.int64).reshape(-1, _channels(out)))
    return Interval(ends[0].min(axis=0), ends[1].max(axis=0))


def _table(operator: ProgramOperator, source: ProgramTensor, out: ProgramTensor, interval: Interval) -> Interval:
    info = np.iinfo(source.dtype)
    numbers = np.arange(info.min, info.max + 1).astype(source.dtype)
    [made] = run_operator(
        operator, [replace(source, shape=numbers.shape)], [replace(out, shape=numbers.shape)], [numbers]
    )
    parts = [made[low - info.min : high - info.min + 1] for low, high in zip(interval.low, interval.high, strict=True)]
    return Interval(
        np.array([part.min() for part in parts], np.int64), np.array([part.max() for part in parts], np.int64)
    )


def _corners(
    operator: ProgramOperator, inputs: list[ProgramTensor], out: ProgramTensor, ranges: list[Interval]
) -> Interval:
    channels = _channels(out)
    small = [replace(tensor, shape=(channels,)) for tensor in inputs]
    ends = []
    for left in (ranges[0].low, ranges[0].high):
        for right in (ranges[1].low, ranges[1].high):
            arrays = [
                np.broadcast_to(end, (channels,)).astype(tensor.dtype)
                for end, tensor in zip((left, right), inputs, strict=True)
            ]
            [made] = run_operator(operator, small, [replace(out, shape=(channels,))], arrays)
            ends.append(made.astype(np.int64))
    return Interval(np.minimum.reduce(ends), np.maximum.reduce(ends))


def _joined(ranges: list[Interval], along_channels: bool) -> Interval:
    if along_channels:
        return Interval(np.concatenate([part.low for part in ranges]), np.concatenate([part.high for part in ranges]))
    return _hull(ranges)


def _padded(
    operator: ProgramOperator, source: ProgramTensor, out: ProgramTensor, options: PadOptions, interval: Interval
) -> Interval:
    if options.pads[-1] != (0, 0):
        interval = _spread(_whole(interval), _channels(out))
    if options.mode == "reflect":
        return interval
    one = replace(source, shape=(1,) * len(source.shape))
    around = replace(operator, options=replace(options, pads=((1, 0), *((0, 0),) * (len(source.shape) - 1))))
    [made] = run_operator(around, [one], [one], [np.zeros(one.shape, source.dtype)])
    value = np.full(_channels(out), int(made.reshape(-1)[0]), np.int64)
    return _hull([interval, Interval(value, value)])


def _reshaped(interval: Interval, channels: int) -> Interval:
    """Channels stay where they are the last part of the new last axis; else any can be anywhere."""
    before = len(interval.low)
    if channels % before:
        return _spread(_whole(interval), channels)
    return Interval(np.tile(interval.low, channels // before), np.tile(interval.high, channels // before))


def _keeps_channels(options: TransposeOptions | SplitOptions | StridedSliceOptions, source: ProgramTensor) -> bool:
    last = len(source.shape) - 1
    if isinstance(options, TransposeOptions):
        return options.permutation[last] == last
    if isinstance(options, SplitOptions):
        return options.axis != last
    return (options.begin[last], options.end[last], options.strides[last]) == (0, source.shape[last], 1)

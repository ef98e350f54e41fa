"""Kinds that only move numbers, the same for every type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.program.types import (
    ConcatenationOptions,
    GatherOptions,
    PadOptions,
    ResizeOptions,
    SplitOptions,
    StridedSliceOptions,
    TransposeOptions,
)

if TYPE_CHECKING:
    from leanedge.program.types import ProgramOperator, ProgramTensor

__all__ = ["MOVING_KINDS", "move", "nearest_places", "pad_value"]

Array = np.ndarray[Any, Any]

MOVING_KINDS = frozenset(
    {"pad", "reshape", "transpose", "concatenation", "split", "strided_slice", "resize_nearest", "gather"}
)


def move(
    operator: ProgramOperator, inputs: list[ProgramTensor], outputs: list[ProgramTensor], arrays: list[Array]
) -> list[Array]:
    """The outputs of an operator of `MOVING_KINDS`."""
    options, array = operator.options, arrays[0]
    if isinstance(options, PadOptions):
        if options.mode == "reflect":
            return [np.pad(array, options.pads, mode="reflect")]
        return [np.pad(array, options.pads, constant_values=pad_value(options, inputs[0]))]
    if isinstance(options, TransposeOptions):
        return [np.ascontiguousarray(array.transpose(options.permutation))]
    if isinstance(options, ConcatenationOptions):
        return [np.concatenate(arrays, axis=options.axis)]
    if isinstance(options, SplitOptions):
        return list(np.split(array, len(outputs), axis=options.axis))
    if isinstance(options, StridedSliceOptions):
        index = tuple(
            slice(begin, None if end < 0 else end, stride)
            for begin, end, stride in zip(options.begin, options.end, options.strides, strict=True)
        )
        return [np.ascontiguousarray(array[index])]
    if isinstance(options, ResizeOptions):
        rows = nearest_places(inputs[0].shape[1], outputs[0].shape[1], options)
        columns = nearest_places(inputs[0].shape[2], outputs[0].shape[2], options)
        return [array[:, rows][:, :, columns]]
    if isinstance(options, GatherOptions):
        return [np.take(array, arrays[1], axis=options.axis)]
    return [array.reshape(outputs[0].shape)]


def pad_value(options: PadOptions, tensor: ProgramTensor) -> float:
    """What a pad writes, in the tensor's own type."""
    if tensor.quant is not None:
        if options.value is None:
            return int(np.iinfo(tensor.dtype).min)
        return int(tensor.quant.quantize(np.asarray(options.value)))
    return float(np.finfo(np.float32).min) if options.value is None else options.value


def nearest_places(size: int, out: int, options: ResizeOptions) -> Array:
    """Rows that are copied; TensorFlow Lite reckons in float32."""
    if options.align_corners and out > 1:
        step = np.float32(size - 1) / np.float32(out - 1)
    else:
        step = np.float32(size) / np.float32(out)
    offset = np.float32(0.5 if options.half_pixel_centers else 0.0)
    places = (np.arange(out, dtype=np.float32) + offset) * step
    rounded = np.floor(places + np.float32(0.5)) if options.align_corners else np.floor(places)
    return np.asarray(np.clip(rounded.astype(np.int64), 0, size - 1))

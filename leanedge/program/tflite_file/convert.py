"""Each operator code of a .tflite file -> operators of the Program. A closed table: what is not in it is refused.

Sources: TensorFlow Lite's schema.fbs and 8-bit quantization specification; shapes as its kernels check them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.program.fixed_point import INT32_MAX
from leanedge.program.tflite_file.step import ACTIVATION_TYPES
from leanedge.program.types import (
    ConcatenationOptions,
    ConvOptions,
    ElementwiseOptions,
    FullyConnectedOptions,
    LeakyReluOptions,
    PadOptions,
    PoolOptions,
    ReduceOptions,
    ResizeOptions,
    SoftmaxOptions,
    SplitOptions,
    StridedSliceOptions,
    TransposeConvOptions,
    TransposeOptions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from leanedge.program.tflite_file.step import Step
    from leanedge.program.types import Kind, ProgramTensor

__all__ = ["CONVERSIONS"]

Array = np.ndarray[Any, Any]

_LAYER_FACTOR = 2.0**7
"""Largest factor between sums of products and outputs; 64-bit sums are scaled by no more."""
_UNARY_FACTOR = 2.0**14
"""Largest factor between a number of 16 bits and an output."""


def _conv_2d(step: Step) -> None:
    step.count((2, 3))
    source, weights = step.read(0), step.weights(1, 0, 4)
    batch, height, width, channels = step.image(source)
    outputs, rows, columns, depth = weights.shape
    if channels % depth or outputs % (channels // depth):
        raise step.damage(f"weights of {depth} channels on an image of {channels}")
    options, size = _window(step, (height, width), (rows, columns))
    bias = step.bias(2, source, weights, outputs)
    out = step.write((batch, *size, outputs), (source.dtype,))
    step.factor([source, weights], out, _LAYER_FACTOR)
    step.emit("conv_2d", [source, weights, bias], [out], options)


def _depthwise_conv_2d(step: Step) -> None:
    step.count((2, 3))
    source, weights = step.read(0), step.weights(1, 3, 4)
    batch, height, width, channels = step.image(source)
    one, rows, columns, outputs = weights.shape
    if one != 1 or outputs % channels:
        raise step.damage(f"weights of the shape {weights.shape} on an image of {channels} channels")
    options, size = _window(step, (height, width), (rows, columns))
    bias = step.bias(2, source, weights, outputs, wide=True)
    out = step.write((batch, *size, outputs), (source.dtype,))
    step.factor([source, weights], out, _LAYER_FACTOR)
    step.emit("depthwise_conv_2d", [source, weights, bias], [out], options)


def _window(step: Step, size: tuple[int, int], kernel: tuple[int, int]) -> tuple[ConvOptions, tuple[int, int]]:
    strides = step.pair("StrideH", "StrideW")
    dilations = step.pair("DilationHFactor", "DilationWFactor")
    made, pads = step.window(size, kernel, strides, dilations)
    return ConvOptions(strides, dilations, pads, step.activation()), made


def _transpose_conv(step: Step) -> None:
    step.count((3, 4))
    weights, source = step.weights(1, 0, 4), step.read(2)
    batch, height, width, channels = step.image(source)
    outputs, rows, columns, depth = weights.shape
    if channels != depth:
        raise step.damage(f"weights of {depth} channels on an image of {channels}")
    shape = step.integers(0)
    if len(shape) != 4 or shape[0] != batch or shape[3] != outputs or min(shape) < 1:
        raise step.damage(f"the shape asked for is {shape}")
    strides = step.pair("StrideH", "StrideW")
    # The window of the convolution that it is the transpose of, which goes from the output to the input.
    back = step.window((shape[1], shape[2]), (rows, columns), strides, (1, 1))
    if back[0] != (height, width):
        raise step.damage(f"makes {shape} from {source.shape}")
    whole = (height - 1) * strides[0] + rows, (width - 1) * strides[1] + columns
    pads = (back[1][0], whole[0] - shape[1] - back[1][0], back[1][2], whole[1] - shape[2] - back[1][2])
    if min(pads) < 0:
        raise step.refusal(f"makes {shape}, more than its windows of {whole} reach", "an output that they cover")
    bias = step.bias(3, source, weights, outputs, wide=True)
    out = step.write((batch, shape[1], shape[2], outputs), (source.dtype,))
    step.factor([source, weights], out, _LAYER_FACTOR)
    step.emit("transpose_conv", [source, weights, bias], [out], TransposeConvOptions(strides, pads, step.activation()))


def _fully_connected(step: Step) -> None:
    step.count((2, 3))
    source, weights = step.read(0), step.weights(1, 0, 2)
    outputs, depth = weights.shape
    if step.number("WeightsFormat"):
        raise step.refusal("weights in a shuffled order", "the default order")
    if source.elements % depth:
        raise step.damage(f"weights of {depth} inputs on {source.shape}")
    kept = source.shape[:-1] if step.number("KeepNumDims") else (source.elements // depth,)
    if step.number("KeepNumDims") and source.shape[-1] != depth:
        raise step.damage(f"weights of {depth} inputs on {source.shape}")
    rows = source
    bias = step.bias(2, source, weights, outputs)
    if len(source.shape) < 2 or source.shape[-1] != depth or len(kept) != len(source.shape) - 1:
        rows = step.made_up(source, (source.elements // depth, depth))
        step.emit("reshape", [source], [rows], suffix="_rows")
    out = step.write((*kept, outputs), (source.dtype,))
    step.factor([source, weights], out, _LAYER_FACTOR)
    step.emit("fully_connected", [rows, weights, bias], [out], FullyConnectedOptions(step.activation()))


def _elementwise(kind: Kind) -> Callable[[Step], None]:
    def convert(step: Step) -> None:
        step.count((2,))
        left, right = step.read(0), step.read(1)
        if left.dtype != right.dtype:
            raise step.refusal(f"{left.name} is {left.dtype}, {right.name} {right.dtype}", "equal types")
        try:
            shape = np.broadcast_shapes(left.shape, right.shape)
        except ValueError as error:
            raise step.damage(f"shapes {left.shape} and {right.shape}") from error
        out = step.write(tuple(shape), (left.dtype,))
        if kind == "mul":
            step.factor([left, right], out, 1.0 if left.dtype == "int16" else _UNARY_FACTOR)
        else:
            step.factor([left], out, _UNARY_FACTOR)
            step.factor([right], out, _UNARY_FACTOR)
        step.emit(kind, [left, right], [out], ElementwiseOptions(step.activation()))

    return convert


def _pool(kind: Kind) -> Callable[[Step], None]:
    def convert(step: Step) -> None:
        step.count((1,))
        source = step.read(0)
        batch, height, width, channels = step.image(source)
        kernel, strides = step.pair("FilterHeight", "FilterWidth"), step.pair("StrideH", "StrideW")
        size, pads = step.window((height, width), kernel, strides, (1, 1))
        out = step.write((batch, *size, channels), (source.dtype,))
        step.same_scale(source, out)
        step.emit(kind, [source], [out], PoolOptions(kernel, strides, pads, step.activation()))

    return convert


def _mean(step: Step) -> None:
    step.count((2,))
    source = step.read(0)
    rank = len(source.shape)
    axes = tuple(sorted({_axis(step, axis, rank) for axis in step.integers(1)}))
    keep = bool(step.number("KeepDims"))
    if not axes:
        raise step.damage("no axes")
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(source.shape) if keep or axis not in axes)
    out = step.write(shape, (source.dtype,))
    step.factor([source], out, _LAYER_FACTOR)
    if source.elements // out.elements << 8 * np.dtype(source.dtype).itemsize > INT32_MAX:
        raise step.refusal(f"sums {source.elements // out.elements} numbers", "sums that stay within 32 bits")
    step.emit("mean", [source], [out], ReduceOptions(axes, keep))


def _axis(step: Step, axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise step.damage(f"axis {axis} of {rank}")
    return axis % rank


def _softmax(step: Step) -> None:
    step.count((1,))
    source = step.read(0)
    beta = float(step.operator.options["Beta"])
    if not 1e-6 < beta < 1e6:
        raise step.damage(f"beta {beta}")
    out = step.write(source.shape, (source.dtype,))
    _fixed_output(step, out, 1 / 256, -128)
    # int8: scale x beta x 2^26 is above 1. int16: 65535 steps are 10, and differences stay within 32 bits.
    low, high = (2.0**-26, 2.0**5) if source.dtype == "int8" else (2.0**-40, 2.0)
    step.scale_within(source, low / beta, high / beta)
    step.emit("softmax", [source], [out], SoftmaxOptions(beta))


def _squash(kind: Kind, scale: float, zero: int) -> Callable[[Step], None]:
    def convert(step: Step) -> None:
        step.count((1,))
        source = step.read(0)
        out = step.write(source.shape, (source.dtype,))
        _fixed_output(step, out, scale, zero)
        low, high = (2.0**-27, 8.0) if source.dtype == "int8" else (2.0**-40, 2.0)
        step.scale_within(source, low, high)
        step.emit(kind, [source], [out])

    return convert


def _fixed_output(step: Step, out: ProgramTensor, scale: float, zero: int) -> None:
    assert out.quant is not None
    wanted = (1 / 32768, 0) if out.dtype == "int16" else (scale, zero)
    found = float(out.quant.scale), int(out.quant.zero_point)
    if abs(found[0] / wanted[0] - 1) > 1e-3 or found[1] != wanted[1]:
        raise step.refusal(
            f"its output has scale {found[0]:g} and zero point {found[1]}", f"{wanted[0]:g}, {wanted[1]}"
        )


def _unary(kind: Kind, tied: bool = False, types: tuple[str, ...] = ACTIVATION_TYPES) -> Callable[[Step], None]:
    def convert(step: Step) -> None:
        step.count((1,))
        source = step.read(0, types)
        out = step.write(source.shape, (source.dtype,))
        if tied:
            step.same_scale(source, out)
        step.factor([source], out, _LAYER_FACTOR if kind == "hard_swish" else _UNARY_FACTOR)
        if kind == "hard_swish":
            step.scale_within(source, 2.0**-27, 8.0)
        step.emit(kind, [source], [out])

    return convert


def _leaky_relu(step: Step) -> None:
    step.count((1,))
    source = step.read(0)
    alpha = float(step.operator.options["Alpha"])
    if not 0 <= alpha <= 1e3:
        raise step.refusal(f"a slope of {alpha}", "0 or above")
    out = step.write(source.shape, (source.dtype,))
    step.factor([source], out, _UNARY_FACTOR, max(alpha, 1.0))
    step.emit("leaky_relu", [source], [out], LeakyReluOptions(alpha))


def _pad(step: Step) -> None:
    step.count((2, 3))
    source = step.read(0)
    found, rank = step.constant(1, ("int32", "int64")), len(source.shape)
    if found.shape != (rank, 2) or found.min(initial=0) < 0 or found.max(initial=0) > 1 << 20:
        raise step.damage(f"pads {found.tolist() if found.size < 20 else found.shape}")
    pads = tuple((int(before), int(after)) for before, after in found)
    out = step.write(tuple(n + sum(pad) for n, pad in zip(source.shape, pads, strict=True)), (source.dtype,))
    step.same_scale(source, out)
    value = 0.0
    if step.present(2):
        fill = step.constant(2, (source.dtype,))
        if fill.size != 1:
            raise step.damage("more than one value to pad with")
        assert source.quant is not None
        # float64 holds scale x integer exactly, so that its quantization gives the integer back.
        value = float(source.quant.scale) * (int(fill.reshape(())) - int(source.quant.zero_point))
    step.emit("pad", [source], [out], PadOptions(pads, value))


def _reshape(step: Step) -> None:
    source = step.read(0)
    out = _written_as(step, source)
    if out.elements != source.elements:
        raise step.damage(f"makes {out.shape} from {source.shape}")
    step.same_scale(source, out)
    step.emit("reshape", [source], [out])


def _written_as(step: Step, source: ProgramTensor) -> ProgramTensor:
    """The only output, in the shape that the file gives it."""
    if len(step.operator.outputs) != 1 or step.operator.outputs[0] < 0:
        raise step.damage("has not one output")
    return step.write(step.loading.graph.tensors[step.operator.outputs[0]].shape, (source.dtype,))


def _concatenation(step: Step) -> None:
    step.count(range(1, 1025))
    sources = [step.read(place) for place in range(len(step.operator.inputs))]
    rank = len(sources[0].shape)
    axis = _axis(step, step.number("Axis"), rank)
    if step.activation() != "none":
        raise step.refusal("a fused activation", "none")
    rest = {(*tensor.shape[:axis], *tensor.shape[axis + 1 :]) for tensor in sources}
    if len(rest) != 1 or any(len(tensor.shape) != rank for tensor in sources):
        raise step.damage(f"shapes {[tensor.shape for tensor in sources]} along axis {axis}")
    total = sum(tensor.shape[axis] for tensor in sources)
    shape = (*sources[0].shape[:axis], total, *sources[0].shape[axis + 1 :])
    out = step.write(shape, (sources[0].dtype,))
    step.same_scale(out, *sources)
    step.emit("concatenation", sources, [out], ConcatenationOptions(axis))


def _split(step: Step) -> None:
    parts = step.number("NumSplits")
    step.count((2,), parts)
    source, axes = step.read(1), step.integers(0)
    if len(axes) != 1 or not parts:
        raise step.damage(f"axes {axes}, {parts} parts")
    axis = _axis(step, axes[0], len(source.shape))
    if source.shape[axis] % parts:
        raise step.damage(f"{parts} parts of {source.shape} along axis {axis}")
    shape = (*source.shape[:axis], source.shape[axis] // parts, *source.shape[axis + 1 :])
    outs = [step.write(shape, (source.dtype,), place) for place in range(parts)]
    step.same_scale(source, *outs)
    step.emit("split", [source], outs, SplitOptions(axis))


def _strided_slice(step: Step) -> None:
    step.count((4,))
    source = step.read(0)
    rank = len(source.shape)
    begin, end, strides = (step.integers(place) for place in (1, 2, 3))
    if not len(begin) == len(end) == len(strides) == rank:
        raise step.refusal("bounds of fewer axes than its input has", f"{rank} of each")
    if step.number("EllipsisMask") or step.number("NewAxisMask") or step.number("Offset"):
        raise step.refusal("an ellipsis, a new axis or an offset", "begin, end and stride of each axis")
    dropped = step.number("ShrinkAxisMask")
    slices = [
        _slice(
            step,
            size,
            None if step.number("BeginMask") >> axis & 1 else begin[axis],
            None if step.number("EndMask") >> axis & 1 else end[axis],
            strides[axis],
            bool(dropped >> axis & 1),
        )
        for axis, size in enumerate(source.shape)
    ]
    options = StridedSliceOptions(
        tuple(found.start for found in slices),
        tuple(found.stop for found in slices),
        tuple(found.step for found in slices),
    )
    _emit_slice(step, source, options, tuple(axis for axis in range(rank) if not dropped >> axis & 1))


def _slice(step: Step, size: int, begin: int | None, end: int | None, stride: int, dropped: bool) -> _Slice:
    """Bounds as the kernel clamps them (its StartForAxis and StopForAxis)."""
    if stride == 0 or (dropped and stride < 0):
        raise step.damage(f"a stride of {stride}")
    low, high = (0, size) if stride > 0 else (-1, size - 1)

    def clamped(bound: int) -> int:
        return min(max(bound + size if bound < 0 else bound, low), high)

    start = (low if stride > 0 else high) if begin is None else clamped(begin)
    if dropped:
        stop = start + 1
        stride = 1
    else:
        stop = (high if stride > 0 else low) if end is None else clamped(end)
    if not range(start, stop, stride) or not 0 <= start < size or stop > size:
        raise step.damage(f"takes nothing from {begin} to {end} by {stride} of {size}")
    return _Slice(start, stop, stride)


@dataclass(frozen=True)
class _Slice:
    start: int
    stop: int
    step: int


def _slice_by_size(step: Step) -> None:
    step.count((3,))
    source = step.read(0)
    begin, size = step.integers(1), step.integers(2)
    if not len(begin) == len(size) == len(source.shape):
        raise step.damage("bounds of another number of axes than its input has")
    end = tuple(
        whole if count == -1 else start + count for whole, start, count in zip(source.shape, begin, size, strict=True)
    )
    if any(not 0 <= start < stop <= whole for start, stop, whole in zip(begin, end, source.shape, strict=True)):
        raise step.damage(f"takes {begin} to {end} of {source.shape}")
    _emit_slice(step, source, StridedSliceOptions(begin, end, (1,) * len(begin)), tuple(range(len(begin))))


def _emit_slice(step: Step, source: ProgramTensor, options: StridedSliceOptions, kept: tuple[int, ...]) -> None:
    bounds = zip(options.begin, options.end, options.strides, strict=True)
    shape = tuple(len(range(*found)) for found in bounds)
    out = step.write(tuple(shape[axis] for axis in kept), (source.dtype,))
    step.same_scale(source, out)
    if len(kept) == len(shape):
        step.emit("strided_slice", [source], [out], options)
        return
    whole = step.made_up(source, shape)
    step.emit("strided_slice", [source], [whole], options)
    step.emit("reshape", [whole], [out], suffix="_reshape")


def _transpose(step: Step) -> None:
    step.count((2,))
    source = step.read(0)
    permutation = tuple(_axis(step, axis, len(source.shape)) for axis in step.integers(1))
    if sorted(permutation) != list(range(len(source.shape))):
        raise step.damage(f"permutation {permutation} of {len(source.shape)} axes")
    out = step.write(tuple(source.shape[axis] for axis in permutation), (source.dtype,))
    step.same_scale(source, out)
    step.emit("transpose", [source], [out], TransposeOptions(permutation))


def _resize(kind: Kind, types: tuple[str, ...] = ACTIVATION_TYPES) -> Callable[[Step], None]:
    def convert(step: Step) -> None:
        step.count((2,))
        source, size = step.read(0, types), step.integers(1)
        batch, _, _, channels = step.image(source)
        if len(size) != 2 or min(size) < 1:
            raise step.damage(f"a size of {size}")
        options = ResizeOptions(bool(step.number("AlignCorners")), bool(step.number("HalfPixelCenters")))
        if options.align_corners and options.half_pixel_centers:
            raise step.refusal("both aligned corners and half-pixel centres", "one of the two")
        out = step.write((batch, size[0], size[1], channels), (source.dtype,))
        step.same_scale(source, out)
        step.emit(kind, [source], [out], options)

    return convert


def _quantize(step: Step) -> None:
    step.count((1,))
    source = step.read(0, ("float32", "uint8", *ACTIVATION_TYPES))
    out = step.write(source.shape, ("uint8", *ACTIVATION_TYPES))
    if source.data is not None:
        raise step.refusal(f"{source.name} is constant", hint="fold it: convert with a current converter")
    if source.dtype != "float32":
        step.factor([source], out, _UNARY_FACTOR)
    step.emit("quantize", [source], [out])


def _dequantize(step: Step) -> None:
    step.count((1,))
    source = step.read(0, ("uint8", *ACTIVATION_TYPES))
    out = step.write(source.shape, ("float32",))
    step.emit("dequantize", [source], [out])


CONVERSIONS: Mapping[str, Callable[[Step], None]] = {
    "CONV_2D": _conv_2d,
    "DEPTHWISE_CONV_2D": _depthwise_conv_2d,
    "TRANSPOSE_CONV": _transpose_conv,
    "FULLY_CONNECTED": _fully_connected,
    "ADD": _elementwise("add"),
    "SUB": _elementwise("sub"),
    "MUL": _elementwise("mul"),
    "MAX_POOL_2D": _pool("max_pool"),
    "AVERAGE_POOL_2D": _pool("average_pool"),
    "MEAN": _mean,
    "SOFTMAX": _softmax,
    "LOGISTIC": _squash("logistic", 1 / 256, -128),
    "TANH": _squash("tanh", 1 / 128, 0),
    "RELU": _unary("relu"),
    "RELU6": _unary("relu6", tied=True),
    "RELU_N1_TO_1": _unary("relu_n1_to_1", tied=True, types=("int8",)),
    "HARD_SWISH": _unary("hard_swish", types=("int8",)),
    "LEAKY_RELU": _leaky_relu,
    "PAD": _pad,
    "PADV2": _pad,
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "EXPAND_DIMS": _reshape,
    "CONCATENATION": _concatenation,
    "SPLIT": _split,
    "STRIDED_SLICE": _strided_slice,
    "SLICE": _slice_by_size,
    "TRANSPOSE": _transpose,
    "RESIZE_NEAREST_NEIGHBOR": _resize("resize_nearest"),
    "RESIZE_BILINEAR": _resize("resize_bilinear", ("int8",)),
    "QUANTIZE": _quantize,
    "DEQUANTIZE": _dequantize,
}

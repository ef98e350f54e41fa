"""What each Program operator is in a .tflite file: builtin code, version, options, constant inputs.

Versions follow tensorflow/lite/tools/versioning/op_version.cc: the lowest that has the features used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tflite

from leanedge.program.lower_spatial import is_same_padding
from leanedge.program.types import (
    BatchMatmulOptions,
    ConcatenationOptions,
    ConvOptions,
    ElementwiseOptions,
    FullyConnectedOptions,
    GatherOptions,
    GeluOptions,
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

    from leanedge.export.tflite_file.encode import FileWriter
    from leanedge.program.types import Activation, Kind, Program, ProgramOperator, ProgramTensor

__all__ = ["write_operator"]

OP = tflite.BuiltinOperator
UNION = tflite.BuiltinOptions

_CODES: Mapping[Kind, int] = {
    "conv_2d": OP.CONV_2D,
    "depthwise_conv_2d": OP.DEPTHWISE_CONV_2D,
    "transpose_conv": OP.TRANSPOSE_CONV,
    "fully_connected": OP.FULLY_CONNECTED,
    "batch_matmul": OP.BATCH_MATMUL,
    "add": OP.ADD,
    "sub": OP.SUB,
    "mul": OP.MUL,
    "div": OP.DIV,
    "maximum": OP.MAXIMUM,
    "minimum": OP.MINIMUM,
    "squared_difference": OP.SQUARED_DIFFERENCE,
    "rsqrt": OP.RSQRT,
    "sqrt": OP.SQRT,
    "exp": OP.EXP,
    "log": OP.LOG,
    "neg": OP.NEG,
    "abs": OP.ABS,
    "pow": OP.POW,
    "sum": OP.SUM,
    "reduce_max": OP.REDUCE_MAX,
    "reduce_min": OP.REDUCE_MIN,
    "equal": OP.EQUAL,
    "greater": OP.GREATER,
    "greater_equal": OP.GREATER_EQUAL,
    "less": OP.LESS,
    "less_equal": OP.LESS_EQUAL,
    "logical_and": OP.LOGICAL_AND,
    "logical_or": OP.LOGICAL_OR,
    "logical_not": OP.LOGICAL_NOT,
    "select": OP.SELECT_V2,
    "cast": OP.CAST,
    "gelu": OP.GELU,
    "max_pool": OP.MAX_POOL_2D,
    "average_pool": OP.AVERAGE_POOL_2D,
    "mean": OP.MEAN,
    "softmax": OP.SOFTMAX,
    "logistic": OP.LOGISTIC,
    "tanh": OP.TANH,
    "relu": OP.RELU,
    "relu6": OP.RELU6,
    "relu_n1_to_1": OP.RELU_N1_TO_1,
    "hard_swish": OP.HARD_SWISH,
    "leaky_relu": OP.LEAKY_RELU,
    "prelu": OP.PRELU,
    "pad": OP.PAD,
    "reshape": OP.RESHAPE,
    "transpose": OP.TRANSPOSE,
    "concatenation": OP.CONCATENATION,
    "split": OP.SPLIT,
    "strided_slice": OP.STRIDED_SLICE,
    "resize_nearest": OP.RESIZE_NEAREST_NEIGHBOR,
    "resize_bilinear": OP.RESIZE_BILINEAR,
    "gather": OP.GATHER,
    "quantize": OP.QUANTIZE,
    "dequantize": OP.DEQUANTIZE,
}

_INT8_VERSION_1 = frozenset({"reshape", "hard_swish", "prelu", "relu_n1_to_1", "quantize"})
"""Kinds whose int8 form came with version 1; in all others int8 came with version 2, or as said below."""

_ACTIVATIONS: Mapping[Activation, int] = {
    "none": tflite.ActivationFunctionType.NONE,
    "relu": tflite.ActivationFunctionType.RELU,
    "relu6": tflite.ActivationFunctionType.RELU6,
    "relu_n1_to_1": tflite.ActivationFunctionType.RELU_N1_TO_1,
}

Written = "tuple[tuple[int, int] | None, list[int], list[int]]"


def write_operator(writer: FileWriter, program: Program, operator: ProgramOperator, index: Mapping[str, int]) -> None:
    """Adds one operator to the file; `index` says where each tensor of the Program is in it."""
    first, out = program.tensors[operator.inputs[0]], program.tensors[operator.output]
    inputs = [index[name] for name in operator.inputs]
    outputs = [index[name] for name in operator.outputs]
    code, version = _CODES[operator.kind], _version(program, operator)
    options = operator.options
    made: tuple[int, int] | None = None
    if isinstance(options, PadOptions) and options.mode == "reflect":
        code, version = OP.MIRROR_PAD, 2 if first.dtype == "int8" else 1
    elif isinstance(options, PadOptions) and options.value != 0.0:
        code = OP.PADV2
        inputs.append(writer.constant("pad_value", _pad_value(options, first), first.quant))
    if isinstance(options, PadOptions):
        inputs.insert(1, writer.constant("pads", np.array(options.pads, np.int32)))
    elif isinstance(options, TransposeOptions):
        inputs.append(writer.constant("permutation", np.array(options.permutation, np.int32)))
    elif isinstance(options, ReduceOptions):
        inputs.append(writer.constant("axes", np.array(options.axes, np.int32)))
    elif isinstance(options, SplitOptions):
        inputs.insert(0, writer.constant("axis", np.array(options.axis, np.int32)))
    elif isinstance(options, ResizeOptions):
        inputs.append(writer.constant("size", np.array(out.shape[1:3], np.int32)))
    elif isinstance(options, StridedSliceOptions):
        for numbers in (options.begin, options.end, options.strides):
            inputs.append(writer.constant("bounds", np.array(numbers, np.int32)))
    elif isinstance(options, TransposeConvOptions):
        inputs = [writer.constant("shape", np.array(out.shape, np.int32)), inputs[1], inputs[0], inputs[2]]
    elif operator.kind == "reshape":
        inputs.append(writer.constant("shape", np.array(out.shape, np.int32)))
    write = _OPTIONS.get(type(options))
    made = write(writer, program, operator) if write is not None else None
    if made is None and operator.kind == "reshape":
        shape = writer.vector(out.shape)
        fields = [(tflite.ReshapeOptionsAddNewShape, shape)]
        made = UNION.ReshapeOptions, writer.table(tflite.ReshapeOptionsStart, tflite.ReshapeOptionsEnd, *fields)
    if code == OP.MIRROR_PAD:
        mode = (tflite.MirrorPadOptionsAddMode, tflite.MirrorPadMode.REFLECT)
        made = UNION.MirrorPadOptions, writer.table(tflite.MirrorPadOptionsStart, tflite.MirrorPadOptionsEnd, mode)
    writer.operator(code, version, inputs, outputs, made)


def _pad_value(options: PadOptions, tensor: ProgramTensor) -> Any:
    if tensor.quant is not None:
        info = np.iinfo(tensor.quant.dtype)
        integer = info.min if options.value is None else int(tensor.quant.quantize(np.float64(options.value)))
        return np.array([integer], tensor.quant.dtype)
    return np.array([np.finfo(np.float32).min if options.value is None else options.value], tensor.dtype)


def _version(program: Program, operator: ProgramOperator) -> int:
    first, out = program.tensors[operator.inputs[0]], program.tensors[operator.output]
    integer = first.dtype == "int8"
    kind, options = operator.kind, operator.options
    weights = program.tensors[operator.inputs[1]] if len(operator.inputs) > 1 else None
    hybrid = weights is not None and weights.dtype == "int8" and first.dtype == "float32"
    if kind == "conv_2d" and weights is not None:
        if weights.shape[3] != first.shape[3]:
            return 6  # grouped
        return 3 if integer else 5 if hybrid else 1
    if kind == "depthwise_conv_2d":
        dilated = isinstance(options, ConvOptions) and options.dilations != (1, 1)
        return 3 if integer else 6 if hybrid else 2 if dilated else 1
    if kind == "transpose_conv":
        activation = isinstance(options, TransposeConvOptions) and options.activation != "none"
        return 4 if activation else 3  # fused activation; bias
    if kind == "fully_connected":
        if hybrid:
            return 9
        return 5 if len(out.shape) > 2 else 4 if integer else 1
    if kind in ("resize_nearest", "resize_bilinear") and isinstance(options, ResizeOptions):
        return 3 if options.half_pixel_centers or options.align_corners else 2 if integer else 1
    if kind == "leaky_relu":
        return 2 if integer else 1
    if kind == "dequantize":
        return 3 if first.dtype == "float16" else 2
    if kind == "quantize":
        return 2 if integer else 1
    if kind in ("pad", "transpose", "strided_slice") and len(first.shape) > 4:
        return {"pad": 3, "transpose": 3, "strided_slice": 4}[kind]
    return 2 if integer and kind not in _INT8_VERSION_1 else 1


def _padding(program: Program, operator: ProgramOperator, options: ConvOptions | PoolOptions) -> int:
    source, out = program.tensors[operator.inputs[0]].shape, program.tensors[operator.output].shape
    if not any(options.pads):
        return int(tflite.Padding.VALID)
    if isinstance(options, PoolOptions):
        kernel, dilations = options.kernel, (1, 1)
    else:
        weights = program.tensors[operator.inputs[1]].shape
        kernel, dilations = (weights[1], weights[2]), options.dilations
    if not is_same_padding((source[1], source[2]), (out[1], out[2]), kernel, options.strides, dilations, options.pads):
        raise ValueError(f"{operator.source} has pads {options.pads}: make its skeleton with separate_pads")
    return int(tflite.Padding.SAME)


def _conv(writer: FileWriter, program: Program, operator: ProgramOperator) -> tuple[int, int]:
    options = operator.options
    assert isinstance(options, ConvOptions)
    padding, activation = _padding(program, operator, options), _ACTIVATIONS[options.activation]
    if operator.kind == "conv_2d":
        return UNION.Conv2DOptions, writer.table(
            tflite.Conv2DOptionsStart,
            tflite.Conv2DOptionsEnd,
            (tflite.Conv2DOptionsAddPadding, padding),
            (tflite.Conv2DOptionsAddStrideH, options.strides[0]),
            (tflite.Conv2DOptionsAddStrideW, options.strides[1]),
            (tflite.Conv2DOptionsAddDilationHFactor, options.dilations[0]),
            (tflite.Conv2DOptionsAddDilationWFactor, options.dilations[1]),
            (tflite.Conv2DOptionsAddFusedActivationFunction, activation),
        )
    depth = program.tensors[operator.inputs[0]].shape[3]
    return UNION.DepthwiseConv2DOptions, writer.table(
        tflite.DepthwiseConv2DOptionsStart,
        tflite.DepthwiseConv2DOptionsEnd,
        (tflite.DepthwiseConv2DOptionsAddPadding, padding),
        (tflite.DepthwiseConv2DOptionsAddStrideH, options.strides[0]),
        (tflite.DepthwiseConv2DOptionsAddStrideW, options.strides[1]),
        (tflite.DepthwiseConv2DOptionsAddDepthMultiplier, program.tensors[operator.output].shape[3] // depth),
        (tflite.DepthwiseConv2DOptionsAddDilationHFactor, options.dilations[0]),
        (tflite.DepthwiseConv2DOptionsAddDilationWFactor, options.dilations[1]),
        (tflite.DepthwiseConv2DOptionsAddFusedActivationFunction, activation),
    )


def _transpose_conv(writer: FileWriter, program: Program, operator: ProgramOperator) -> tuple[int, int]:
    options = operator.options
    assert isinstance(options, TransposeConvOptions)
    return UNION.TransposeConvOptions, writer.table(
        tflite.TransposeConvOptionsStart,
        tflite.TransposeConvOptionsEnd,
        (tflite.TransposeConvOptionsAddPadding, tflite.Padding.SAME if any(options.pads) else tflite.Padding.VALID),
        (tflite.TransposeConvOptionsAddStrideH, options.strides[0]),
        (tflite.TransposeConvOptionsAddStrideW, options.strides[1]),
        (tflite.TransposeConvOptionsAddFusedActivationFunction, _ACTIVATIONS[options.activation]),
    )


def _pool(writer: FileWriter, program: Program, operator: ProgramOperator) -> tuple[int, int]:
    options = operator.options
    assert isinstance(options, PoolOptions)
    return UNION.Pool2DOptions, writer.table(
        tflite.Pool2DOptionsStart,
        tflite.Pool2DOptionsEnd,
        (tflite.Pool2DOptionsAddPadding, _padding(program, operator, options)),
        (tflite.Pool2DOptionsAddStrideH, options.strides[0]),
        (tflite.Pool2DOptionsAddStrideW, options.strides[1]),
        (tflite.Pool2DOptionsAddFilterHeight, options.kernel[0]),
        (tflite.Pool2DOptionsAddFilterWidth, options.kernel[1]),
        (tflite.Pool2DOptionsAddFusedActivationFunction, _ACTIVATIONS[options.activation]),
    )


def _fully_connected(writer: FileWriter, program: Program, operator: ProgramOperator) -> tuple[int, int]:
    options = operator.options
    assert isinstance(options, FullyConnectedOptions)
    source, weights = program.tensors[operator.inputs[0]], program.tensors[operator.inputs[1]]
    return UNION.FullyConnectedOptions, writer.table(
        tflite.FullyConnectedOptionsStart,
        tflite.FullyConnectedOptionsEnd,
        (tflite.FullyConnectedOptionsAddFusedActivationFunction, _ACTIVATIONS[options.activation]),
        (tflite.FullyConnectedOptionsAddKeepNumDims, len(program.tensors[operator.output].shape) > 2),
        (
            tflite.FullyConnectedOptionsAddAsymmetricQuantizeInputs,
            source.dtype == "float32" and weights.dtype == "int8",
        ),
    )


def _batch_matmul(writer: FileWriter, program: Program, operator: ProgramOperator) -> tuple[int, int]:
    options = operator.options
    assert isinstance(options, BatchMatmulOptions)
    return UNION.BatchMatMulOptions, writer.table(
        tflite.BatchMatMulOptionsStart,
        tflite.BatchMatMulOptionsEnd,
        (tflite.BatchMatMulOptionsAddAdjY, options.adjoint_right),
    )


def _elementwise(writer: FileWriter, program: Program, operator: ProgramOperator) -> tuple[int, int]:
    options = operator.options
    assert isinstance(options, ElementwiseOptions)
    activation = _ACTIVATIONS[options.activation]
    # The schema's default of pot_scale_int16 asks int16 for scales that are powers of two; to int8 it means nothing.
    wide = program.tensors[operator.output].dtype == "int16"
    if operator.kind == "add":
        any_scale = [(tflite.AddOptionsAddPotScaleInt16, False)] if wide else []
        fields = [(tflite.AddOptionsAddFusedActivationFunction, activation), *any_scale]
        return UNION.AddOptions, writer.table(tflite.AddOptionsStart, tflite.AddOptionsEnd, *fields)
    if operator.kind == "sub":
        any_scale = [(tflite.SubOptionsAddPotScaleInt16, False)] if wide else []
        fields = [(tflite.SubOptionsAddFusedActivationFunction, activation), *any_scale]
        return UNION.SubOptions, writer.table(tflite.SubOptionsStart, tflite.SubOptionsEnd, *fields)
    if operator.kind == "mul":
        table = writer.table(
            tflite.MulOptionsStart, tflite.MulOptionsEnd, (tflite.MulOptionsAddFusedActivationFunction, activation)
        )
        return UNION.MulOptions, table
    table = writer.table(
        tflite.DivOptionsStart, tflite.DivOptionsEnd, (tflite.DivOptionsAddFusedActivationFunction, activation)
    )
    return UNION.DivOptions, table


def _reduce(writer: FileWriter, program: Program, operator: ProgramOperator) -> tuple[int, int]:
    options = operator.options
    assert isinstance(options, ReduceOptions)
    keep = (tflite.ReducerOptionsAddKeepDims, options.keep_dims)
    return UNION.ReducerOptions, writer.table(tflite.ReducerOptionsStart, tflite.ReducerOptionsEnd, keep)


def _softmax(writer: FileWriter, program: Program, operator: ProgramOperator) -> tuple[int, int]:
    options = operator.options
    assert isinstance(options, SoftmaxOptions)
    beta = (tflite.SoftmaxOptionsAddBeta, options.beta)
    return UNION.SoftmaxOptions, writer.table(tflite.SoftmaxOptionsStart, tflite.SoftmaxOptionsEnd, beta)


def _leaky_relu(writer: FileWriter, program: Program, operator: ProgramOperator) -> tuple[int, int]:
    options = operator.options
    assert isinstance(options, LeakyReluOptions)
    alpha = (tflite.LeakyReluOptionsAddAlpha, options.alpha)
    return UNION.LeakyReluOptions, writer.table(tflite.LeakyReluOptionsStart, tflite.LeakyReluOptionsEnd, alpha)


def _gelu(writer: FileWriter, program: Program, operator: ProgramOperator) -> tuple[int, int]:
    options = operator.options
    assert isinstance(options, GeluOptions)
    approximate = (tflite.GeluOptionsAddApproximate, options.approximate)
    return UNION.GeluOptions, writer.table(tflite.GeluOptionsStart, tflite.GeluOptionsEnd, approximate)


def _concatenation(writer: FileWriter, program: Program, operator: ProgramOperator) -> tuple[int, int]:
    options = operator.options
    assert isinstance(options, ConcatenationOptions)
    axis = (tflite.ConcatenationOptionsAddAxis, options.axis)
    table = writer.table(tflite.ConcatenationOptionsStart, tflite.ConcatenationOptionsEnd, axis)
    return UNION.ConcatenationOptions, table


def _split(writer: FileWriter, program: Program, operator: ProgramOperator) -> tuple[int, int]:
    count = (tflite.SplitOptionsAddNumSplits, len(operator.outputs))
    return UNION.SplitOptions, writer.table(tflite.SplitOptionsStart, tflite.SplitOptionsEnd, count)


def _strided_slice(writer: FileWriter, program: Program, operator: ProgramOperator) -> tuple[int, int]:
    options = operator.options
    assert isinstance(options, StridedSliceOptions)
    # An end of -1 with a negative stride would count from the back: the mask says "to the very start".
    open_ends = sum(1 << axis for axis, end in enumerate(options.end) if end < 0)
    mask = (tflite.StridedSliceOptionsAddEndMask, open_ends)
    table = writer.table(tflite.StridedSliceOptionsStart, tflite.StridedSliceOptionsEnd, mask)
    return UNION.StridedSliceOptions, table


def _resize(writer: FileWriter, program: Program, operator: ProgramOperator) -> tuple[int, int]:
    options = operator.options
    assert isinstance(options, ResizeOptions)
    if operator.kind == "resize_nearest":
        return UNION.ResizeNearestNeighborOptions, writer.table(
            tflite.ResizeNearestNeighborOptionsStart,
            tflite.ResizeNearestNeighborOptionsEnd,
            (tflite.ResizeNearestNeighborOptionsAddAlignCorners, options.align_corners),
            (tflite.ResizeNearestNeighborOptionsAddHalfPixelCenters, options.half_pixel_centers),
        )
    return UNION.ResizeBilinearOptions, writer.table(
        tflite.ResizeBilinearOptionsStart,
        tflite.ResizeBilinearOptionsEnd,
        (tflite.ResizeBilinearOptionsAddAlignCorners, options.align_corners),
        (tflite.ResizeBilinearOptionsAddHalfPixelCenters, options.half_pixel_centers),
    )


def _gather(writer: FileWriter, program: Program, operator: ProgramOperator) -> tuple[int, int]:
    options = operator.options
    assert isinstance(options, GatherOptions)
    axis = (tflite.GatherOptionsAddAxis, options.axis)
    return UNION.GatherOptions, writer.table(tflite.GatherOptionsStart, tflite.GatherOptionsEnd, axis)


_OPTIONS: Mapping[type, Callable[[FileWriter, Program, ProgramOperator], tuple[int, int]]] = {
    ConvOptions: _conv,
    TransposeConvOptions: _transpose_conv,
    PoolOptions: _pool,
    FullyConnectedOptions: _fully_connected,
    BatchMatmulOptions: _batch_matmul,
    ElementwiseOptions: _elementwise,
    ReduceOptions: _reduce,
    SoftmaxOptions: _softmax,
    LeakyReluOptions: _leaky_relu,
    GeluOptions: _gelu,
    ConcatenationOptions: _concatenation,
    SplitOptions: _split,
    StridedSliceOptions: _strided_slice,
    ResizeOptions: _resize,
    GatherOptions: _gather,
}
"""Tables of options; kinds without options of their own have none in the file."""

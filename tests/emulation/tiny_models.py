"""Tiny models as files: the same convolution net for ONNX Runtime and TFLite, an int8 layer, a stateful one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import flatbuffers
import numpy as np
import onnx
import tflite
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from pathlib import Path

CHANNELS, CLASSES, SIDE = 4, 3, 8


def weights() -> dict[str, np.ndarray[Any, Any]]:
    """A 3x3 convolution (OIHW) of 2 channels, and a dense layer on its flattened output (in NCHW order)."""
    rng = np.random.default_rng(0)
    return {
        "w": rng.normal(size=(CHANNELS, 2, 3, 3)).astype(np.float32),
        "b": rng.normal(size=CHANNELS).astype(np.float32),
    }


def samples(count: int = 5) -> np.ndarray[Any, Any]:
    """Samples (count, 2, 8, 8)."""
    return np.random.default_rng(1).normal(size=(count, 2, SIDE, SIDE)).astype(np.float32)


def conv_onnx(path: Path) -> Path:
    """x (1, 2, 8, 8) -> y (1, 4, 8, 8): convolution, then ReLU."""
    made = weights()
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["y"]),
        ],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, SIDE, SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, CHANNELS, SIDE, SIDE])],
        [numpy_helper.from_array(array, name) for name, array in made.items()],
    )
    return _save(graph, path)


def step_onnx(path: Path) -> Path:
    """x (1, 3), h (1, 3) -> y (1, 3) = x + 2 h, h_next = x + h: one step of a stateful model."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("x", "h", "y", "h_next")]
    nodes = [helper.make_node("Add", ["x", "h"], ["h_next"]), helper.make_node("Add", ["h_next", "h"], ["y"])]
    return _save(helper.make_graph(nodes, "step", values[:2], values[2:]), path)


def _save(graph: onnx.GraphProto, path: Path) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def conv_tflite(path: Path) -> Path:
    """The same net as `conv_onnx` in NHWC: x (1, 8, 8, 2) -> y (1, 8, 8, 4)."""
    made = weights()
    builder = flatbuffers.Builder(1024)
    tensors = [
        _tensor(builder, "x", (1, SIDE, SIDE, 2), tflite.TensorType.FLOAT32),
        _tensor(builder, "w", (CHANNELS, 3, 3, 2), tflite.TensorType.FLOAT32, buffer=1),
        _tensor(builder, "b", (CHANNELS,), tflite.TensorType.FLOAT32, buffer=2),
        _tensor(builder, "y", (1, SIDE, SIDE, CHANNELS), tflite.TensorType.FLOAT32),
    ]
    tflite.Conv2DOptionsStart(builder)
    tflite.Conv2DOptionsAddPadding(builder, tflite.Padding.SAME)
    tflite.Conv2DOptionsAddStrideH(builder, 1)
    tflite.Conv2DOptionsAddStrideW(builder, 1)
    tflite.Conv2DOptionsAddFusedActivationFunction(builder, tflite.ActivationFunctionType.RELU)
    options = tflite.BuiltinOptions.Conv2DOptions, tflite.Conv2DOptionsEnd(builder)
    constants = [made["w"].transpose(0, 2, 3, 1), made["b"]]
    return _save_tflite(path, builder, tensors, constants, tflite.BuiltinOperator.CONV_2D, 1, options)


def dense_int8_tflite(path: Path) -> Path:
    """x (1, 6) int8 scale 0.05 zero point 3 -> y (1, 3) int8 scale 0.0973 zero point -5, a dense layer."""
    rng = np.random.default_rng(2)
    constants = [
        rng.integers(-127, 128, (CLASSES, 6)).astype(np.int8),
        rng.integers(-500, 500, CLASSES).astype(np.int32),
    ]
    builder = flatbuffers.Builder(1024)
    tensors = [
        _tensor(builder, "x", (1, 6), tflite.TensorType.INT8, scale=0.05, zero_point=3),
        _tensor(builder, "w", (CLASSES, 6), tflite.TensorType.INT8, buffer=1, scale=0.01),
        _tensor(builder, "b", (CLASSES,), tflite.TensorType.INT32, buffer=2, scale=0.0005),
        _tensor(builder, "y", (1, CLASSES), tflite.TensorType.INT8, scale=0.0973, zero_point=-5),
    ]
    tflite.FullyConnectedOptionsStart(builder)
    options = tflite.BuiltinOptions.FullyConnectedOptions, tflite.FullyConnectedOptionsEnd(builder)
    return _save_tflite(path, builder, tensors, constants, tflite.BuiltinOperator.FULLY_CONNECTED, 4, options)


def _tensor(
    builder: Any,
    name: str,
    shape: tuple[int, ...],
    kind: int,
    *,
    buffer: int = 0,
    scale: float = 0.0,
    zero_point: int = 0,
) -> int:
    text, sizes = builder.CreateString(name), builder.CreateNumpyVector(np.array(shape, np.int32))
    scales = builder.CreateNumpyVector(np.array([scale], np.float32))
    zeros = builder.CreateNumpyVector(np.array([zero_point], np.int64))
    tflite.QuantizationParametersStart(builder)
    if scale:
        tflite.QuantizationParametersAddScale(builder, scales)
        tflite.QuantizationParametersAddZeroPoint(builder, zeros)
    quantization = tflite.QuantizationParametersEnd(builder)
    tflite.TensorStart(builder)
    tflite.TensorAddName(builder, text)
    tflite.TensorAddShape(builder, sizes)
    tflite.TensorAddType(builder, kind)
    tflite.TensorAddBuffer(builder, buffer)
    tflite.TensorAddQuantization(builder, quantization)
    return int(tflite.TensorEnd(builder))


def _save_tflite(
    path: Path,
    builder: Any,
    tensors: list[int],
    constants: list[np.ndarray[Any, Any]],
    code: int,
    version: int,
    options: tuple[int, int],
) -> Path:
    """One operator that reads tensors 0, 1, 2 and writes 3; constants are the buffers 1 and 2."""

    def numbers(*values: int) -> int:
        return int(builder.CreateNumpyVector(np.array(values, np.int32)))

    def offsets(*values: int) -> int:
        builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            builder.PrependUOffsetTRelative(value)
        return int(builder.EndVector())

    reads, writes = numbers(0, 1, 2), numbers(3)
    tflite.OperatorStart(builder)
    tflite.OperatorAddInputs(builder, reads)
    tflite.OperatorAddOutputs(builder, writes)
    tflite.OperatorAddBuiltinOptionsType(builder, options[0])
    tflite.OperatorAddBuiltinOptions(builder, options[1])
    operators = offsets(tflite.OperatorEnd(builder))
    all_tensors, ins, outs = offsets(*tensors), numbers(0), numbers(3)
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, all_tensors)
    tflite.SubGraphAddInputs(builder, ins)
    tflite.SubGraphAddOutputs(builder, outs)
    tflite.SubGraphAddOperators(builder, operators)
    graphs = offsets(tflite.SubGraphEnd(builder))
    tflite.OperatorCodeStart(builder)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, code)
    tflite.OperatorCodeAddBuiltinCode(builder, code)
    tflite.OperatorCodeAddVersion(builder, version)
    codes = offsets(tflite.OperatorCodeEnd(builder))
    buffers = []
    for constant in (np.zeros(0, np.uint8), *constants):
        data = builder.CreateNumpyVector(np.frombuffer(constant.tobytes(), np.uint8))
        tflite.BufferStart(builder)
        if constant.size:
            tflite.BufferAddData(builder, data)
        buffers.append(tflite.BufferEnd(builder))
    all_buffers = offsets(*buffers)
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddOperatorCodes(builder, codes)
    tflite.ModelAddSubgraphs(builder, graphs)
    tflite.ModelAddBuffers(builder, all_buffers)
    builder.Finish(tflite.ModelEnd(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path

"""The tables of a .tflite file as plain data, every index, length and offset checked. Knows nothing of arithmetic."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tflite

from leanedge.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["LARGEST_TENSOR", "FileOperator", "FileSubgraph", "FileTensor", "TfliteFile", "read_tflite"]

Array = np.ndarray[Any, Any]
Option = int | float | bool | str

LARGEST_FILE = 1 << 28
"""Bytes."""
LARGEST_TENSOR = 1 << 26
"""Elements."""
LARGEST_TOTAL = 1 << 28
"""Elements of all tensors together: shared buffers would let a small file ask for any amount."""
LARGEST_CONSTANTS = 1 << 28
"""Bytes of all constants together, a buffer that two tensors share counted twice."""
MOST_TABLES = 20_000
"""Tensors, operators, buffers, codes or subgraphs."""
MOST_AXES = 8
LONGEST_NAME = 512

_TYPES: Mapping[int, str] = {number: name.lower() for name, number in vars(tflite.TensorType).items() if name.isupper()}
_CODES: Mapping[int, str] = {number: name for name, number in vars(tflite.BuiltinOperator).items() if name.isupper()}

_ACTIVATION = ("FusedActivationFunction",)
_CONV = ("Padding", "StrideH", "StrideW", "DilationHFactor", "DilationWFactor", *_ACTIVATION)
_POOL = ("Padding", "StrideH", "StrideW", "FilterHeight", "FilterWidth", *_ACTIVATION)
_RESIZE = ("AlignCorners", "HalfPixelCenters")

_OPTIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "CONV_2D": ("Conv2DOptions", _CONV),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", (*_CONV, "DepthMultiplier")),
    "TRANSPOSE_CONV": ("TransposeConvOptions", ("Padding", "StrideH", "StrideW", *_ACTIVATION)),
    "FULLY_CONNECTED": ("FullyConnectedOptions", ("WeightsFormat", "KeepNumDims", *_ACTIVATION)),
    "ADD": ("AddOptions", ("PotScaleInt16", *_ACTIVATION)),
    "SUB": ("SubOptions", ("PotScaleInt16", *_ACTIVATION)),
    "MUL": ("MulOptions", _ACTIVATION),
    "MAX_POOL_2D": ("Pool2DOptions", _POOL),
    "AVERAGE_POOL_2D": ("Pool2DOptions", _POOL),
    "MEAN": ("ReducerOptions", ("KeepDims",)),
    "SOFTMAX": ("SoftmaxOptions", ("Beta",)),
    "LEAKY_RELU": ("LeakyReluOptions", ("Alpha",)),
    "CONCATENATION": ("ConcatenationOptions", ("Axis", *_ACTIVATION)),
    "SPLIT": ("SplitOptions", ("NumSplits",)),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        ("BeginMask", "EndMask", "EllipsisMask", "NewAxisMask", "ShrinkAxisMask", "Offset"),
    ),
    "RESIZE_BILINEAR": ("ResizeBilinearOptions", _RESIZE),
    "RESIZE_NEAREST_NEIGHBOR": ("ResizeNearestNeighborOptions", _RESIZE),
    "VAR_HANDLE": ("VarHandleOptions", ("Container", "SharedName")),
    "CALL_ONCE": ("CallOnceOptions", ("InitSubgraphIndex",)),
}
"""Code -> its table of options and the fields read from it."""


@dataclass(frozen=True, eq=False)
class FileTensor:
    """One tensor as the file has it.

    Attributes:
        name: Not necessarily unique; printable.
        shape: Every size 1 or more, except of a constant.
        dtype: TensorType in lower case.
        data: Values of a constant, in `shape`; None for any other tensor or a type that NumPy has not.
        scales: float32, empty without quantization.
        zero_points: int64, as many.
        axis: Of the scales.
        variable: True where the tensor keeps its values between runs.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: Array | None
    scales: Array
    zero_points: Array
    axis: int
    variable: bool


@dataclass(frozen=True)
class FileOperator:
    """One operator: tensors by index into its subgraph (-1: left out), options by the schema's field names."""

    index: int
    code: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Option]


@dataclass(frozen=True)
class FileSubgraph:
    """Operators in execution order."""

    tensors: tuple[FileTensor, ...]
    operators: tuple[FileOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class TfliteFile:
    """The whole file; the first subgraph is what runs.

    Attributes:
        subgraphs: At least one.
        input_names: Tensor of the first subgraph -> the name that a signature gives it.
        output_names: The same of outputs.
    """

    subgraphs: tuple[FileSubgraph, ...]
    input_names: Mapping[int, str]
    output_names: Mapping[int, str]


def read_tflite(data: bytes, where: str) -> TfliteFile:
    """Reads all tables.

    Raises:
        ModelError: No .tflite file, damaged, or beyond the limits above.
    """
    if len(data) > LARGEST_FILE:
        raise ModelError(f"has {len(data)} bytes", where=where, allowed=f"up to {LARGEST_FILE}")
    if len(data) < 8 or data[4:8] != b"TFL3":
        raise ModelError(
            "is no .tflite file: it does not begin as one", where=where, allowed="TensorFlow Lite's format (TFL3)"
        )
    try:
        return _Reader(data, where).file()
    except (struct.error, ValueError, TypeError, IndexError, OverflowError) as error:
        # What flatbuffers, struct and NumPy raise when an offset or a length leads out of the file.
        raise _damaged(where, f"a table reaches outside of the file ({error})") from error


def _damaged(where: str, what: str) -> ModelError:
    return ModelError(
        f"is damaged: {what}", where=where, hint="copy or download the file again, or convert the model again"
    )


class _Reader:
    """Lives only inside `read_tflite`; counts what was taken out of the file."""

    def __init__(self, data: bytes, where: str) -> None:
        self.where = where
        self.size = len(data)
        self.model = tflite.Model.GetRootAs(data, 0)
        self.tables = 0
        self.elements = 0
        self.constant_bytes = 0
        self.text_bytes = 0
        self.buffers: list[Array | None] = []

    def file(self) -> TfliteFile:
        model = self.model
        self.buffers = [self._buffer(index) for index in range(self._count(model.BuffersLength()))]
        codes = [self._code(index) for index in range(self._count(model.OperatorCodesLength()))]
        count = self._count(model.SubgraphsLength())
        if count == 0:
            raise _damaged(self.where, "it holds no subgraph")
        subgraphs = tuple(self._subgraph(model.Subgraphs(index), codes) for index in range(count))
        inputs: dict[int, str] = {}
        outputs: dict[int, str] = {}
        for index in range(self._count(model.SignatureDefsLength())):
            signature = model.SignatureDefs(index)
            if signature.SubgraphIndex() == 0 and not inputs:
                inputs = self._ports(signature.InputsLength(), signature.Inputs)
                outputs = self._ports(signature.OutputsLength(), signature.Outputs)
        return TfliteFile(subgraphs, inputs, outputs)

    def _count(self, number: int) -> int:
        """A number of tables, which together must be within bounds; each takes four bytes of the file at least."""
        self.tables += number
        if self.tables > MOST_TABLES or number * 4 > self.size:
            raise _damaged(self.where, f"it asks for {number} tables")
        return number

    def _text(self, raw: bytes | None) -> str:
        if raw is None:
            return ""
        self.text_bytes += len(raw)
        if len(raw) > LONGEST_NAME or self.text_bytes > self.size:
            raise _damaged(self.where, "a name is too long")
        text = raw.decode("utf-8", errors="replace")
        return "".join(letter if letter.isprintable() else "?" for letter in text)

    def _buffer(self, index: int) -> Array | None:
        buffer = self.model.Buffers(index)
        if buffer.Offset() > 1:
            raise ModelError(
                "keeps its weights behind the flatbuffer, as files above 2 GB do",
                where=self.where,
                allowed="weights inside of the flatbuffer",
            )
        return buffer.DataAsNumpy() if buffer.DataLength() else None

    def _code(self, index: int) -> str:
        code = self.model.OperatorCodes(index)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = _CODES.get(number, f"builtin {number}")
        return f"CUSTOM {self._text(code.CustomCode())}" if name == "CUSTOM" else name

    def _ports(self, count: int, port: Callable[[int], Any]) -> dict[int, str]:
        found = [port(index) for index in range(self._count(count))]
        names = {int(entry.TensorIndex()): self._text(entry.Name()) for entry in found}
        return names if len(set(names.values())) == count and all(names.values()) else {}

    def _subgraph(self, graph: Any, codes: list[str]) -> FileSubgraph:
        count = self._count(graph.TensorsLength())
        tensors = tuple(self._tensor(graph.Tensors(index), index) for index in range(count))
        operators = tuple(
            self._operator(graph.Operators(index), index, codes, count)
            for index in range(self._count(graph.OperatorsLength()))
        )
        inputs = self._indices(graph.InputsLength(), graph.InputsAsNumpy, count, "an input of the model")
        outputs = self._indices(graph.OutputsLength(), graph.OutputsAsNumpy, count, "an output of the model")
        if -1 in (*inputs, *outputs):
            raise _damaged(self.where, "an input or output of the model is no tensor")
        return FileSubgraph(tensors, operators, inputs, outputs)

    def _indices(self, count: int, read: Callable[[], Any], tensors: int, what: str) -> tuple[int, ...]:
        if self._count(count) == 0:
            return ()
        found = tuple(int(number) for number in read())
        wrong = [number for number in found if not -1 <= number < tensors]
        if wrong:
            raise _damaged(self.where, f"{what} is tensor {wrong[0]}, of {tensors}")
        return found

    def _operator(self, operator: Any, index: int, codes: list[str], tensors: int) -> FileOperator:
        number = operator.OpcodeIndex()
        if not 0 <= number < len(codes):
            raise _damaged(self.where, f"operator {index} has code {number}, of {len(codes)}")
        code = codes[number]
        what = f"operator {index} ({code})"
        return FileOperator(
            index,
            code,
            self._indices(operator.InputsLength(), operator.InputsAsNumpy, tensors, f"an input of {what}"),
            self._indices(operator.OutputsLength(), operator.OutputsAsNumpy, tensors, f"an output of {what}"),
            self._options(operator, code, what),
        )

    def _options(self, operator: Any, code: str, what: str) -> dict[str, Option]:
        if code not in _OPTIONS:
            return {}
        name, fields = _OPTIONS[code]
        union, kind = operator.BuiltinOptions(), operator.BuiltinOptionsType()
        if union is None or kind == tflite.BuiltinOptions.NONE:
            return dict.fromkeys(fields, 0)
        if kind != getattr(tflite.BuiltinOptions, name):
            raise _damaged(self.where, f"{what} has options of another operator")
        table = getattr(tflite, name)()
        table.Init(union.Bytes, union.Pos)
        values = {field: getattr(table, field)() for field in fields}
        return {
            field: self._text(value) if value is None or isinstance(value, bytes) else value
            for field, value in values.items()
        }

    def _tensor(self, tensor: Any, index: int) -> FileTensor:
        what = f"tensor {index}"
        if tensor.ShapeLength() > MOST_AXES:
            raise _damaged(self.where, f"{what} has {tensor.ShapeLength()} axes")
        shape = tuple(int(size) for size in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
        if tensor.Sparsity() is not None:
            raise ModelError(
                f"{what} is stored sparsely", where=self.where, allowed="dense weights", hint="convert without sparsity"
            )
        raw = self._raw(tensor.Buffer(), what)
        elements = 1
        for size in shape:  # a product of Python integers can't overflow
            elements *= size
        if min(shape, default=1) < (0 if raw is not None else 1) and shape != (0,):
            raise _damaged(self.where, f"{what} has the shape {shape}")
        self.elements += elements
        if elements > LARGEST_TENSOR or self.elements > LARGEST_TOTAL:
            raise ModelError(
                f"{what} has the shape {shape}: too much",
                where=self.where,
                allowed=f"{LARGEST_TENSOR} elements a tensor, {LARGEST_TOTAL} in all",
            )
        dtype = _TYPES.get(tensor.Type(), f"type {tensor.Type()}")
        scales, zero_points, axis = self._quantization(tensor.Quantization(), what)
        return FileTensor(
            self._text(tensor.Name()),
            shape,
            dtype,
            self._values(raw, shape, elements, dtype, what),
            scales,
            zero_points,
            axis,
            bool(tensor.IsVariable()),
        )

    def _raw(self, buffer: int, what: str) -> Array | None:
        if not 0 <= buffer < len(self.buffers):
            raise _damaged(self.where, f"{what} has its data in buffer {buffer}, of {len(self.buffers)}")
        return self.buffers[buffer]

    def _values(self, raw: Array | None, shape: tuple[int, ...], elements: int, dtype: str, what: str) -> Array | None:
        if raw is None or dtype not in ("int8", "uint8", "int16", "int32", "int64", "float32"):
            return None
        if raw.size != elements * np.dtype(dtype).itemsize:
            raise _damaged(self.where, f"{what} of {elements} {dtype} has {raw.size} bytes of data")
        self.constant_bytes += raw.size
        if self.constant_bytes > LARGEST_CONSTANTS:
            raise _damaged(self.where, f"its constants take more than {LARGEST_CONSTANTS} bytes")
        # A copy, for the file's bytes need not be aligned.
        values: Array = np.array(raw.view(np.dtype(dtype).newbyteorder("<")), dtype).reshape(shape)
        return values

    def _quantization(self, quantization: Any, what: str) -> tuple[Array, Array, int]:
        count = quantization.ScaleLength() if quantization is not None else 0
        if count == 0:
            return np.zeros(0, np.float32), np.zeros(0, np.int64), 0
        if count * 4 > self.size:
            raise _damaged(self.where, f"{what} has {count} scales")
        scales = np.array(quantization.ScaleAsNumpy(), np.float32)
        zero_points = np.zeros(count, np.int64)
        if quantization.ZeroPointLength():
            if quantization.ZeroPointLength() != count:
                raise _damaged(self.where, f"{what} has {count} scales, {quantization.ZeroPointLength()} zero points")
            zero_points = np.array(quantization.ZeroPointAsNumpy(), np.int64)
        return scales, zero_points, int(quantization.QuantizedDimension())

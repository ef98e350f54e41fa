"""TensorFlow Lite's flatbuffer tables, written bottom up as flatbuffers asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import flatbuffers
import numpy as np
import tflite

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from leanedge.compress.types import TensorQuant
    from leanedge.program.types import DType

__all__ = ["TENSOR_TYPES", "FileWriter"]

Array = np.ndarray[Any, Any]
Field = "tuple[Callable[[Any, Any], None], Any]"

TENSOR_TYPES: dict[DType | Literal["resource"], int] = {
    "float32": tflite.TensorType.FLOAT32,
    "float16": tflite.TensorType.FLOAT16,
    "int8": tflite.TensorType.INT8,
    "uint8": tflite.TensorType.UINT8,
    "int16": tflite.TensorType.INT16,
    "int32": tflite.TensorType.INT32,
    "int64": tflite.TensorType.INT64,
    "bool": tflite.TensorType.BOOL,
    "resource": tflite.TensorType.RESOURCE,
}
"""Types of the Program, and that of a variable's handle."""

BUFFER_ALIGNMENT = 16
"""Bytes; schema.fbs: Buffer.data has force_align 16."""


class FileWriter:
    """Collects tensors, buffers and operators, subgraph by subgraph, then gives the file's bytes."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1 << 16)
        self._buffers: list[int] = [self._buffer(None)]
        self._buffer_of: dict[bytes, int] = {}
        self._vectors: dict[tuple[str, bytes], int] = {}
        self._codes: dict[tuple[int, int], int] = {}
        self._tensors: list[int] = []
        self._operators: list[int] = []
        self._constants: dict[tuple[str, bytes], int] = {}
        self._subgraphs: list[int] = []

    def table(self, start: Callable[[Any], None], end: Callable[[Any], int], *fields: Any) -> int:
        """Writes a table; `fields` are (function that adds it, value)."""
        start(self.builder)
        for add, value in fields:
            add(self.builder, value)
        return end(self.builder)

    def vector(self, numbers: Any, dtype: str = "int32") -> int:
        """Writes a vector of numbers; equal ones are written once (the zero points of weights are many)."""
        array = np.asarray(numbers, dtype)
        key = (dtype, array.tobytes())
        if key not in self._vectors:
            self._vectors[key] = self.builder.CreateNumpyVector(array)
        return self._vectors[key]

    def _offsets(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        end: int = self.builder.EndVector()
        return end

    def _buffer(self, data: bytes | None) -> int:
        if data is None:
            return self.table(tflite.BufferStart, tflite.BufferEnd)
        self.builder.StartVector(1, len(data), BUFFER_ALIGNMENT)
        head = self.builder.head - len(data)
        self.builder.head = head
        self.builder.Bytes[head : head + len(data)] = data
        offset = self.builder.EndVector()
        return self.table(tflite.BufferStart, tflite.BufferEnd, (tflite.BufferAddData, offset))

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: DType | Literal["resource"],
        quant: TensorQuant | None = None,
        data: Array | None = None,
    ) -> int:
        """Adds a tensor and gives its index; equal constant data is stored once."""
        index = 0
        if data is not None:
            raw = np.ascontiguousarray(data).tobytes()
            if raw not in self._buffer_of:
                self._buffer_of[raw] = len(self._buffers)
                self._buffers.append(self._buffer(raw))
            index = self._buffer_of[raw]
        fields: list[Any] = [
            (tflite.TensorAddShape, self.vector(shape)),
            (tflite.TensorAddType, TENSOR_TYPES[dtype]),
            (tflite.TensorAddBuffer, index),
            (tflite.TensorAddName, self.builder.CreateString(name)),
            (tflite.TensorAddHasRank, True),
        ]
        if quant is not None:
            fields.append((tflite.TensorAddQuantization, self._quantization(quant)))
        self._tensors.append(self.table(tflite.TensorStart, tflite.TensorEnd, *fields))
        return len(self._tensors) - 1

    def _quantization(self, quant: TensorQuant) -> int:
        scale = self.vector(np.atleast_1d(quant.scale), "float32")
        zero_point = self.vector(np.atleast_1d(quant.zero_point), "int64")
        return self.table(
            tflite.QuantizationParametersStart,
            tflite.QuantizationParametersEnd,
            (tflite.QuantizationParametersAddScale, scale),
            (tflite.QuantizationParametersAddZeroPoint, zero_point),
            (tflite.QuantizationParametersAddQuantizedDimension, quant.axis or 0),
        )

    def constant(self, name: str, array: Array, quant: TensorQuant | None = None) -> int:
        """A constant that only the file format needs (shape, axes, pads); equal ones are one tensor."""
        if quant is not None:
            return self.tensor(name, array.shape, str(array.dtype), quant, array)  # type: ignore[arg-type]
        key = (f"{array.dtype}{array.shape}", array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.tensor(name, array.shape, str(array.dtype), None, array)  # type: ignore[arg-type]
        return self._constants[key]

    def operator(
        self,
        code: int,
        version: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: tuple[int, int] | None = None,
    ) -> None:
        """Adds an operator; `options` is (type of the union, offset of the table)."""
        index = self._codes.setdefault((code, version), len(self._codes))
        fields: list[Any] = [
            (tflite.OperatorAddOpcodeIndex, index),
            (tflite.OperatorAddInputs, self.vector(inputs)),
            (tflite.OperatorAddOutputs, self.vector(outputs)),
        ]
        if options is not None:
            fields.append((tflite.OperatorAddBuiltinOptionsType, options[0]))
            fields.append((tflite.OperatorAddBuiltinOptions, options[1]))
        self._operators.append(self.table(tflite.OperatorStart, tflite.OperatorEnd, *fields))

    def subgraph(self, name: str, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Ends a subgraph, of the tensors and operators since the last one; the first is what runs."""
        # A vector of its own: `tflite_prefix` shortens it in place.
        ends = self.builder.CreateNumpyVector(np.array(outputs, np.int32))
        fields = [
            (tflite.SubGraphAddTensors, self._offsets(self._tensors)),
            (tflite.SubGraphAddInputs, self.vector(inputs)),
            (tflite.SubGraphAddOutputs, ends),
            (tflite.SubGraphAddOperators, self._offsets(self._operators)),
            (tflite.SubGraphAddName, self.builder.CreateString(name)),
        ]
        self._subgraphs.append(self.table(tflite.SubGraphStart, tflite.SubGraphEnd, *fields))
        self._tensors, self._operators, self._constants = [], [], {}

    def finish(self, inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]], description: str) -> bytes:
        """The file: its subgraphs, one signature ``serving_default`` with the ports' names."""
        model_fields = [
            (tflite.ModelAddVersion, 3),
            (tflite.ModelAddOperatorCodes, self._offsets([self._code(*code) for code in self._codes])),
            (tflite.ModelAddSubgraphs, self._offsets(self._subgraphs)),
            (tflite.ModelAddDescription, self.builder.CreateString(description)),
            (tflite.ModelAddBuffers, self._offsets(self._buffers)),
            (tflite.ModelAddSignatureDefs, self._offsets([self._signature(inputs, outputs)])),
        ]
        self.builder.Finish(self.table(tflite.ModelStart, tflite.ModelEnd, *model_fields), file_identifier=b"TFL3")
        return bytes(self.builder.Output())

    def _code(self, code: int, version: int) -> int:
        return self.table(
            tflite.OperatorCodeStart,
            tflite.OperatorCodeEnd,
            # Readers older than schema 3a look at the one-byte field.
            (tflite.OperatorCodeAddDeprecatedBuiltinCode, min(code, 127)),
            (tflite.OperatorCodeAddVersion, version),
            (tflite.OperatorCodeAddBuiltinCode, code),
        )

    def _signature(self, inputs: Sequence[tuple[str, int]], outputs: Sequence[tuple[str, int]]) -> int:
        maps = [
            self._offsets(
                [
                    self.table(
                        tflite.TensorMapStart,
                        tflite.TensorMapEnd,
                        (tflite.TensorMapAddName, self.builder.CreateString(name)),
                        (tflite.TensorMapAddTensorIndex, index),
                    )
                    for name, index in ports
                ]
            )
            for ports in (inputs, outputs)
        ]
        key = self.builder.CreateString("serving_default")
        return self.table(
            tflite.SignatureDefStart,
            tflite.SignatureDefEnd,
            (tflite.SignatureDefAddInputs, maps[0]),
            (tflite.SignatureDefAddOutputs, maps[1]),
            (tflite.SignatureDefAddSignatureKey, key),
            (tflite.SignatureDefAddSubgraphIndex, 0),
        )

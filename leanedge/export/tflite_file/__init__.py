"""Writes a Program as a .tflite file, straight as a flatbuffer. Equal Programs give equal bytes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from leanedge.errors import OutputError
from leanedge.export.tflite_file.encode import FileWriter
from leanedge.export.tflite_file.operators import write_operator
from leanedge.export.tflite_file.pads import with_separate_pads
from leanedge.export.tflite_file.states import assign_states, initialize_states, read_states

if TYPE_CHECKING:
    from pathlib import Path

    from leanedge.program.types import Kind, Program, ProgramTensor

__all__ = ["export_tflite", "tflite_bytes"]

DESCRIPTION = "made by LeanEdge"

_HALVED: frozenset[Kind] = frozenset(
    {"conv_2d", "depthwise_conv_2d", "transpose_conv", "fully_connected", "batch_matmul", "gather"}
)
"""Kinds whose constant operands are worth storing as float16; a bias stays float32."""


def export_tflite(program: Program, path: Path, fp16: bool = False) -> None:
    """Writes the Program to `path`, whole or not at all.

    Args:
        program: Float, int8 or mixed.
        path: The .tflite file.
        fp16: Store float weights as float16, each behind a DEQUANTIZE that the runtime does once.

    Raises:
        OutputError: The file can't be written.
    """
    data = tflite_bytes(program, fp16)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        raise OutputError(
            f"can't be written: {error.strerror}", where=str(path), hint="give a folder with room and rights"
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def tflite_bytes(program: Program, fp16: bool = False) -> bytes:
    """The file's bytes; arguments as `export_tflite`."""
    program = with_separate_pads(program)
    writer = FileWriter()
    halved = _halved(program) if fp16 else frozenset()
    index: dict[str, int] = {}
    for name, tensor in program.tensors.items():
        if name not in halved:
            data = tensor.data.decode() if tensor.data is not None else None
            index[name] = writer.tensor(name, tensor.shape, tensor.dtype, tensor.quant, data)
    for name in sorted(halved):
        index[name] = _half(writer, program.tensors[name])
    handles = read_states(writer, program, index)
    for operator in program.operators:
        write_operator(writer, program, operator, index)
    assign_states(writer, program, index, handles)
    inputs = [(port.name, index[port.tensor]) for port in program.inputs]
    outputs = [(port.name, index[port.tensor]) for port in program.outputs]
    writer.subgraph("main", [place for _, place in inputs], [place for _, place in outputs])
    if program.states:
        initialize_states(writer, program)
    return writer.finish(inputs, outputs, DESCRIPTION)


def _halved(program: Program) -> frozenset[str]:
    """Float constants that float16 can hold without becoming infinite."""
    names = {
        name
        for operator in program.operators
        if operator.kind in _HALVED
        for name in (operator.inputs[:1] if operator.kind == "gather" else operator.inputs[:2])
    }
    limit = float(np.finfo(np.float16).max)
    return frozenset(
        name
        for name in names
        if (tensor := program.tensors[name]).data is not None
        and tensor.dtype == "float32"
        and tensor.elements
        and float(np.abs(tensor.data.decode()).max()) <= limit
    )


def _half(writer: FileWriter, tensor: ProgramTensor) -> int:
    """The tensor as float16 and a DEQUANTIZE; gives the index of the float32 one."""
    import tflite

    assert tensor.data is not None
    half = tensor.data.decode().astype(np.float16)
    stored = writer.tensor(f"{tensor.name}.float16", tensor.shape, "float16", None, half)
    full = writer.tensor(tensor.name, tensor.shape, "float32")
    writer.operator(tflite.BuiltinOperator.DEQUANTIZE, 3, [stored], [full])
    return full

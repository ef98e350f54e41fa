"""States of a streaming Program as variables of the file: read first, assigned last, initialized once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tflite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.export.tflite_file.encode import FileWriter
    from leanedge.program.types import Program, State

__all__ = ["assign_states", "initialize_states", "read_states"]

OP = tflite.BuiltinOperator
UNION = tflite.BuiltinOptions

_INITIALIZATION = 1
"""The subgraph that `initialize_states` ends."""


def read_states(writer: FileWriter, program: Program, index: Mapping[str, int]) -> dict[str, int]:
    """Writes what comes before the Program's operators; gives state's name -> tensor of its handle."""
    if not program.states:
        return {}
    once = (tflite.CallOnceOptionsAddInitSubgraphIndex, _INITIALIZATION)
    table = writer.table(tflite.CallOnceOptionsStart, tflite.CallOnceOptionsEnd, once)
    writer.operator(OP.CALL_ONCE, 1, [], [], (UNION.CallOnceOptions, table))
    handles = {state.name: _handle(writer, state) for state in program.states}
    for state in program.states:
        writer.operator(OP.READ_VARIABLE, 1, [handles[state.name]], [index[state.read]])
    return handles


def assign_states(writer: FileWriter, program: Program, index: Mapping[str, int], handles: Mapping[str, int]) -> None:
    """Writes what comes after the Program's operators."""
    for state in program.states:
        _assign(writer, handles[state.name], index[state.written])


def initialize_states(writer: FileWriter, program: Program) -> None:
    """Writes the subgraph that runs once, before everything else."""
    for state in program.states:
        read = program.tensors[state.read]
        initial = writer.tensor(f"{state.name}.initial", read.shape, read.dtype, read.quant, state.initial)
        _assign(writer, _handle(writer, state), initial)
    writer.subgraph("initialize", [], [])


def _handle(writer: FileWriter, state: State) -> int:
    handle = writer.tensor(f"{state.name}.handle", (), "resource")
    shared = (tflite.VarHandleOptionsAddSharedName, writer.builder.CreateString(state.name))
    table = writer.table(tflite.VarHandleOptionsStart, tflite.VarHandleOptionsEnd, shared)
    writer.operator(OP.VAR_HANDLE, 1, [], [handle], (UNION.VarHandleOptions, table))
    return handle


def _assign(writer: FileWriter, handle: int, value: int) -> None:
    writer.operator(OP.ASSIGN_VARIABLE, 1, [handle, value], [])

"""Ends an exported .tflite file at an inner tensor, to find the operator at which two runs of it part."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import tflite

from leanedge.errors import UsageError, nearest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["boundaries", "write_prefix"]

_OUTPUTS_SLOT, _SIGNATURES_SLOT = 8, 18
"""Byte offsets in the vtables of SubGraph.outputs (field 2) and Model.signature_defs (field 7): 4 + 2 x field."""


def boundaries(path: Path) -> tuple[str, ...]:
    """Tensors that lead to the outputs, in execution order, the outputs last; expanded weights left out."""
    model = tflite.Model.GetRootAs(path.read_bytes(), 0)
    subgraph = model.Subgraphs(0)
    outputs = [subgraph.Outputs(place) for place in range(subgraph.OutputsLength())]
    operators = [subgraph.Operators(index) for index in range(subgraph.OperatorsLength())]
    needed = set(outputs)
    for operator in reversed(operators):
        if needed & {operator.Outputs(place) for place in range(operator.OutputsLength())}:
            needed |= {operator.Inputs(place) for place in range(operator.InputsLength())}
    found = [
        operator.Outputs(place)
        for operator in operators
        for place in range(operator.OutputsLength())
        if operator.InputsLength() > 1
        or (operator.InputsLength() and not model.Buffers(subgraph.Tensors(operator.Inputs(0)).Buffer()).DataLength())
    ]
    inner = (tensor for tensor in found if tensor in needed and tensor not in outputs)
    return tuple(_name(subgraph, tensor) for tensor in (*inner, *outputs))


def write_prefix(path: Path, tensor: str, target: Path) -> None:
    """Writes the same model with `tensor` as its only output, known by that name. Inputs stay as they are.

    The file is patched in place: the list of outputs is shortened to one, and the signature, whose names would be
    those of the old outputs, is taken out. Operators after the tensor stay; runtimes still run them.

    Raises:
        UsageError: The file has no such tensor.
    """
    data = bytearray(path.read_bytes())
    model = tflite.Model.GetRootAs(bytes(data), 0)
    subgraph = model.Subgraphs(0)
    names = [_name(subgraph, index) for index in range(subgraph.TensorsLength())]
    if tensor not in names:
        raise UsageError(f"there is no tensor {tensor!r}", where=str(path), hint=nearest(tensor, names))
    table = subgraph._tab
    vector = table.Vector(table.Offset(_OUTPUTS_SLOT))
    struct.pack_into("<Ii", data, vector - 4, 1, names.index(tensor))
    vtable = model._tab.Pos - struct.unpack_from("<i", data, model._tab.Pos)[0]
    struct.pack_into("<H", data, vtable + _SIGNATURES_SLOT, 0)
    target.write_bytes(data)


def _name(subgraph: Any, index: int) -> str:
    name: bytes = subgraph.Tensors(index).Name()
    return name.decode()

"""Reads an int8 (or int16 with int8 weights) .tflite file straight into a Program: nothing is quantized again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from leanedge.errors import ModelError
from leanedge.program.tflite_file.convert import CONVERSIONS
from leanedge.program.tflite_file.read import read_tflite
from leanedge.program.tflite_file.states import StateLoader
from leanedge.program.tflite_file.step import Loading, Step
from leanedge.program.types import Port, Program

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.program.tflite_file.read import FileSubgraph

__all__ = ["load_tflite"]


def load_tflite(source: Path | str | bytes) -> Program:
    """A Program that computes, integer for integer, what TensorFlow Lite Micro computes from the file.

    Ports keep the file's types and quantization, under the names of the file's signature (those of the tensors where
    it has none). `SAME` padding becomes explicit pads, a missing bias zeros, variables `Program.states`. Ids of
    operators are ``op<index>_<code>``; a few operators of the file become two.

    Args:
        source: Path of the file, or its bytes.

    Raises:
        ModelError: Not readable, damaged, or beyond the limits of `read`.
        UnsupportedOperator: An operator, or a type of its tensors, that no integer kernel here has.
    """
    where = ".tflite bytes" if isinstance(source, bytes) else str(source)
    if isinstance(source, bytes):
        data = source
    else:
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise ModelError(f"can't be read: {error.strerror}", where=where, hint="check the path") from error
    file = read_tflite(data, where)
    graph = file.subgraphs[0]
    loading = Loading(where, graph)
    states = StateLoader(loading, file.subgraphs)
    inputs = _inputs(loading, file.input_names)
    for operator in graph.operators:
        step = Step(loading, operator)
        if states.takes(step):
            continue
        convert = CONVERSIONS.get(operator.code)
        if convert is None:
            raise step.refusal(
                "is not supported",
                ", ".join(CONVERSIONS),
                "replace it in the model, or give the float model as ONNX, which LeanEdge quantizes itself",
            )
        convert(step)
    states.finish()
    outputs = _outputs(loading, graph, file.output_names)
    return Program(loading.tensors, tuple(loading.operators), inputs, outputs, tuple(loading.states))


def _inputs(loading: Loading, names: Mapping[int, str]) -> tuple[Port, ...]:
    ports = []
    for index in loading.graph.inputs:
        if index in loading.names or loading.graph.tensors[index].data is not None:
            raise ModelError(f"tensor {index} is an input twice, or constant", where=loading.where)
        tensor = loading.add(index)
        if tensor.dtype not in ("int8", "int16", "uint8", "float32"):
            raise ModelError(
                f"the input {tensor.name} is {tensor.dtype}",
                where=loading.where,
                allowed="int8 or int16; uint8 and float32 where a QUANTIZE reads them",
            )
        ports.append(Port(names.get(index, tensor.name), tensor.name))
    return tuple(ports)


def _outputs(loading: Loading, graph: FileSubgraph, names: Mapping[int, str]) -> tuple[Port, ...]:
    ports = []
    for index in graph.outputs:
        name = loading.names.get(index)
        if name is None or loading.tensors[name].data is not None:
            raise ModelError(f"no operator makes the output tensor {index}", where=loading.where)
        ports.append(Port(names.get(index, name), name))
    if not ports or len({port.tensor for port in ports}) != len(ports):
        raise ModelError("has no outputs, or one of them twice", where=loading.where)
    return tuple(ports)

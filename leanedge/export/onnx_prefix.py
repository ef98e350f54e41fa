"""Ends an exported ONNX file earlier, to find the operator at which two runs of it part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from leanedge.errors import UsageError, nearest

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["boundaries", "write_prefix"]


def boundaries(path: Path) -> tuple[str, ...]:
    """Tensors at which the file can end, in execution order, its outputs last.

    Left out is what a runtime fuses away: dequantized tensors, and floats that are quantized at once.
    """
    graph = onnx.load(str(path)).graph
    constant = {tensor.name for tensor in graph.initializer}
    outputs = [output.name for output in graph.output]
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.op_type)
    found = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" or (node.op_type == "Cast" and node.input[0] in constant):
            continue
        for name in node.output:
            if name and name not in outputs and set(readers.get(name, ())) != {"QuantizeLinear"}:
                found.append(name)
    return (*found, *outputs)


def write_prefix(path: Path, tensor: str, target: Path) -> None:
    """Writes the same model, its only output `tensor` and nothing that comes after it. Inputs stay as they are.

    Raises:
        UsageError: The file has no such tensor.
    """
    model = onnx.load(str(path))
    made_by = {name: node for node in model.graph.node for name in node.output if name}
    if tensor not in made_by:
        raise UsageError(f"there is no tensor {tensor!r}", where=str(path), hint=nearest(tensor, made_by))
    needed, todo = set(), [tensor]
    while todo:
        node = made_by.get(todo.pop())
        if node is not None and id(node) not in needed:
            needed.add(id(node))
            todo += reads(node)
    nodes = [node for node in model.graph.node if id(node) in needed]
    read = {name for node in nodes for name in reads(node)}
    constants = [initializer for initializer in model.graph.initializer if initializer.name in read]
    known = {value.name: value for value in (*model.graph.output, *model.graph.value_info)}
    prefix = onnx.ModelProto()
    prefix.CopyFrom(model)
    del prefix.graph.node[:], prefix.graph.initializer[:], prefix.graph.output[:]
    prefix.graph.node.extend(nodes)
    prefix.graph.initializer.extend(constants)
    prefix.graph.output.append(known.get(tensor) or onnx.ValueInfoProto(name=tensor))
    target.write_bytes(prefix.SerializeToString(deterministic=True))


def reads(node: onnx.NodeProto) -> list[str]:
    """Every tensor name that a node reads, those of nested graphs included."""
    names = [name for name in node.input if name]
    for attr in node.attribute:
        for inner in (attr.g, *attr.graphs):
            for nested in inner.node:
                names += reads(nested)
            names += [output.name for output in inner.output]
    return names

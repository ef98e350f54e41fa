"""Small ONNX models as text, and the comparison every rewrite has to pass."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from leanedge.graph.groups import ChannelGroup, cut, find_groups
from leanedge.graph.layers import macs
from leanedge.graph.model import Graph

Array = np.ndarray[Any, Any]


def net(
    text: str, opset: int = 17, domain: str = "", **constants: Array | tuple[int, ...] | list[int]
) -> onnx.ModelProto:
    """A model of `text` (ONNX textual syntax); a constant given as a shape is filled with small random values."""
    extra = f', "{domain}" : 1' if domain else ""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}{extra}]> net {text}')
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(weights(name, value), name))
    return model


def weights(name: str, value: Array | tuple[int, ...] | list[int]) -> Array:
    if isinstance(value, list):
        return np.array(value, np.int64)
    if isinstance(value, tuple):
        random = np.random.default_rng(zlib.crc32(name.encode()))
        size = max(1, int(np.prod(value[1:])))
        return (random.standard_normal(value) / np.sqrt(size)).astype(np.float32)
    return value


def feeds(model: onnx.ModelProto, seed: int = 0) -> dict[str, Array]:
    """Random inputs; a dynamic axis is 1."""
    random = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name in constants:
            continue
        shape = [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if dtype == np.bool_:
            found[value.name] = random.integers(0, 2, shape).astype(np.bool_)
        elif dtype.kind in "iu":
            found[value.name] = random.integers(0, 4, shape).astype(dtype)
        else:
            found[value.name] = random.standard_normal(shape).astype(dtype)
    return found


def run(model: onnx.ModelProto | bytes, inputs: dict[str, Array]) -> list[Array]:
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    data = model if isinstance(model, bytes) else model.SerializeToString()
    found: list[Array] = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, inputs)
    return found


def assert_same_outputs(model: onnx.ModelProto, rewritten: bytes, tolerance: float = 1e-5, seeds: int = 2) -> None:
    """Outputs of both under ONNX Runtime differ by at most `tolerance` x max(1, largest |y|)."""
    for seed in range(seeds):
        inputs = feeds(model, seed)
        for before, after in zip(run(model, inputs), run(rewritten, inputs), strict=True):
            assert before.shape == after.shape
            assert before.dtype == after.dtype
            if before.dtype.kind == "f":
                finite = np.isfinite(before)
                assert np.array_equal(before[~finite], after[~finite], equal_nan=True)
                difference = np.abs(after[finite] - before[finite])
                assert np.all(difference <= tolerance * max(1.0, float(np.abs(before[finite]).max(initial=0))))
            else:
                assert np.array_equal(before, after)


def silence(graph: Graph, groups: tuple[ChannelGroup, ...], kept: dict[str, Array]) -> Graph:
    """The graph with zero weights wherever a consumer reads a unit that is not kept."""
    arrays: dict[str, Array] = {}
    for group in groups:
        gone = np.setdiff1d(np.arange(group.size), kept.get(group.id, np.arange(group.size)))
        for member in group.members:
            if member.role == "consumer" and len(gone):
                array = arrays.get(member.constant, graph.constants[member.constant].copy())
                np.moveaxis(array, member.axis, 0)[member.indices[gone].ravel()] = 0
                arrays[member.constant] = array
    return graph.with_constants(arrays)


def assert_cut_is_exact(graph: Graph, seed: int = 0) -> Graph:
    """Cuts some channels of every group; where nobody listened to them no output changes. Gives the smaller graph."""
    random = np.random.default_rng(seed)
    groups = find_groups(graph)
    kept = {g.id: random.permutation(g.size)[: random.integers(1, g.size + 1)] for g in groups}
    small = cut(graph, kept)
    inputs = feeds(graph.proto, seed)
    for before, after in zip(run(silence(graph, groups, kept).bytes, inputs), run(small.bytes, inputs), strict=True):
        assert before.shape == after.shape
        assert np.allclose(before, after, rtol=1e-4, atol=1e-5 * max(1.0, float(np.abs(before).max())))
    for group in groups:
        for member in group.members:
            assert (
                small.constants[member.constant].shape[member.axis]
                <= graph.constants[member.constant].shape[member.axis]
            )
    if any(len(indices) < group.size for group, indices in zip(groups, kept.values(), strict=True)):
        assert macs(small) < macs(graph)
    return small

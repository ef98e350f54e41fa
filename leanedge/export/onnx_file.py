"""Writes a Compressed as one ONNX file. Every integer was fixed before: nothing is rounded here but fp16 storage."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from leanedge.errors import OutputError, UsageError
from leanedge.export.onnx_dynamic import dynamic_model
from leanedge.export.onnx_qdq import qdq_model

if TYPE_CHECKING:
    from leanedge.compress.types import Compressed
    from leanedge.graph.model import Graph

__all__ = ["export_onnx", "onnx_model"]

_SMALLEST_FP16 = 64
"""Constants below this many values keep float32: a Cast would cost more bytes than it saves."""

_FP16_LOSS = 2e-3
"""Largest relative error of a constant (L2) at which it is stored as fp16; rounding alone leaves 2^-11 = 5e-4."""


def export_onnx(compressed: Compressed, path: Path) -> None:
    """Writes the model; equal inputs give equal bytes. The file appears whole or not at all.

    Args:
        compressed: ``fp32``: the graph as it is. ``fp16``: constants stored as fp16 and cast, computed in float.
            ``w8a8``, ``w8a8_pt``, ``mixed``: QDQ, uint8 activations and int8 weights. ``w8a8_dynamic``: int8
            weights, DynamicQuantizeLinear and MatMulInteger.
        path: The file; its folder exists.

    Raises:
        UnsupportedOperator: The model's operator set can't hold the scheme.
        OutputError: The file can't be written.
    """
    data = onnx_model(compressed).SerializeToString(deterministic=True)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise OutputError(f"can't be written: {error.strerror}", where=str(path)) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def onnx_model(compressed: Compressed) -> onnx.ModelProto:
    """The model that `export_onnx` writes."""
    if compressed.scheme == "fp32":
        model = onnx.ModelProto()
        model.CopyFrom(compressed.graph.proto)
        return model
    if compressed.scheme == "fp16":
        return _fp16_model(compressed.graph)
    if compressed.quant is None:
        raise UsageError(f"a {compressed.scheme} model needs its integers", hint="quantize it first")
    if compressed.scheme == "w8a8_dynamic":
        return dynamic_model(compressed.graph, compressed.quant)
    return qdq_model(compressed.graph, compressed.quant)


def _fp16_model(graph: Graph) -> onnx.ModelProto:
    """Float32 constants as fp16 with a Cast behind each, where fp16 holds their values."""
    model = onnx.ModelProto()
    model.CopyFrom(graph.proto)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        real = numpy_helper.to_array(tensor)
        if real.size < _SMALLEST_FP16 or not fp16_holds(real):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(real.astype(np.float16), f"{name}:fp16"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}:float", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def fp16_holds(real: np.ndarray[Any, Any]) -> bool:
    """Whether fp16 stores the values without overflow and with no more than rounding error."""
    with np.errstate(over="ignore"):
        back = real.astype(np.float16).astype(np.float32)
    size = float(np.linalg.norm(real.astype(np.float64)))
    return (
        bool(np.isfinite(back).all()) and float(np.linalg.norm((back - real).astype(np.float64))) <= _FP16_LOSS * size
    )

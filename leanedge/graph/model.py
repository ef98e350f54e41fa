"""Graph: a float model with static shapes and batch 1, batch norm and constants folded, every value typed.

The `onnx_ir` model inside is never changed once a Graph holds it: take `editable()`, change that, and make a new one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir

from leanedge.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Graph", "TensorInfo", "attribute", "shape_of"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class TensorInfo:
    """Name, numpy dtype and static shape of a model input or output (batch axis of 1 included)."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Graph:
    """An ONNX graph in LeanEdge's canonical form; see `graph.canonicalise.canonicalise`, which makes one."""

    model: ir.Model

    @cached_property
    def nodes(self) -> tuple[ir.Node, ...]:
        """Nodes in execution order; every one has a unique name."""
        return tuple(self.model.graph)

    @cached_property
    def node_by_name(self) -> Mapping[str, ir.Node]:
        """Node name -> node."""
        return {str(node.name): node for node in self.nodes}

    @cached_property
    def values(self) -> Mapping[str, ir.Value]:
        """Every value of the main graph by name: inputs, initializers, node outputs."""
        found: dict[str, ir.Value] = {str(value.name): value for value in self.model.graph.inputs}
        found.update(self.model.graph.initializers)
        for node in self.nodes:
            found.update({str(value.name): value for value in node.outputs if value.name})
        return found

    @cached_property
    def producer(self) -> Mapping[str, ir.Node]:
        """Value name -> the node that makes it; inputs and initializers are absent."""
        return {str(value.name): node for node in self.nodes for value in node.outputs if value.name}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[ir.Node, ...]]:
        """Value name -> nodes that read it (once each), nodes of nested graphs counted as their outer node."""
        found: dict[str, list[ir.Node]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(_reads(node)):
                found.setdefault(name, []).append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """Model inputs in order."""
        return tuple(_info(value) for value in self.model.graph.inputs)

    @cached_property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """Model outputs in order."""
        return tuple(_info(value) for value in self.model.graph.outputs)

    @cached_property
    def output_names(self) -> frozenset[str]:
        """Names of the model outputs."""
        return frozenset(info.name for info in self.outputs)

    @cached_property
    def constants(self) -> Mapping[str, Array]:
        """Initializer name -> its values (read-only)."""
        found = {}
        for name, value in self.model.graph.initializers.items():
            if value.const_value is not None:
                array = np.array(value.const_value.numpy())
                array.setflags(write=False)
                found[name] = array
        return found

    @property
    def opset(self) -> int:
        """Version of the default operator set."""
        return self.model.opset_imports.get("", 0)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Static shape of a value, or None where inference could not find one."""
        value = self.values.get(name)
        return shape_of(value) if value is not None else None

    @cached_property
    def proto(self) -> onnx.ModelProto:
        """The ONNX model. Don't change it."""
        return ir.to_proto(self.model)

    @cached_property
    def bytes(self) -> bytes:
        """The serialized ONNX model; equal graphs give equal bytes."""
        data: bytes = self.proto.SerializeToString(deterministic=True)
        return data

    @cached_property
    def sha256(self) -> str:
        """Hash of `bytes`: the graph's identity in every cache key."""
        return hashlib.sha256(self.bytes).hexdigest()

    def editable(self) -> ir.Model:
        """A deep copy of the model that may be changed."""
        copy: ir.Model = ir.from_proto(onnx.ModelProto.FromString(self.bytes))
        return copy

    def with_constants(self, arrays: Mapping[str, Array], removed_channels: bool = False) -> Graph:
        """A graph with some initializers replaced.

        Args:
            arrays: Initializer name -> new values.
            removed_channels: The shapes changed: every inferred shape is found anew.

        Raises:
            ModelError: The new shapes do not fit together.
        """
        from leanedge.graph.shapes import infer_shapes

        model = self.editable()
        for name, array in arrays.items():
            value = model.graph.initializers[name]
            value.const_value = ir.tensor(np.ascontiguousarray(array), name=name)
            value.shape = ir.Shape(array.shape)
        return Graph(infer_shapes(model, forget=True) if removed_channels else model)


def shape_of(value: ir.Value) -> tuple[int, ...] | None:
    """The static shape of an `onnx_ir` value, or None when a dimension is unknown."""
    if value.shape is None:
        return None
    dims = tuple(value.shape)
    return tuple(int(dim) for dim in dims if isinstance(dim, int)) if all(isinstance(d, int) for d in dims) else None


def attribute(node: ir.Node, name: str, default: Any) -> Any:
    """The value of a node's attribute (ints and sequences as Python values), or the operator's default."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def _info(value: ir.Value) -> TensorInfo:
    shape = shape_of(value)
    if value.dtype is None:
        raise ModelError("its type is not known", where=f"tensor {value.name}")
    # Outputs whose length depends on the data keep what is known: -1 where it is not.
    known = shape if shape is not None else tuple(d if isinstance(d, int) else -1 for d in value.shape or ())
    return TensorInfo(str(value.name), np.dtype(value.dtype.numpy()), known)


def _reads(node: ir.Node) -> Sequence[str]:
    names = [str(value.name) for value in node.inputs if value is not None]
    for attr in node.attributes.values():
        if attr.type == ir.AttributeType.GRAPH:
            names += [name for inner in attr.value for name in _reads(inner)]
    return names

"""How the lowering says that an operator can't be expressed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leanedge.errors import UnsupportedOperator

if TYPE_CHECKING:
    from leanedge.graph.model import Graph

__all__ = ["unsupported"]


def unsupported(graph: Graph, node_name: str, why: str, allowed: str = "") -> UnsupportedOperator:
    """The error that names operator, node, reason, what is allowed and what to do."""
    node = graph.node_by_name.get(node_name)
    operator = f"{node.domain + '.' if node is not None and node.domain else ''}{node.op_type if node else 'operator'}"
    return UnsupportedOperator(
        f"{operator} can't be expressed in TensorFlow Lite: {why}",
        where=f"node {node_name}",
        allowed=allowed,
        hint="build for a runtime that takes ONNX (onnxruntime), or replace the operator in the model",
    )

"""Runs a graph operator by operator over all samples at once, so that each can be corrected before the next runs.

What lies between two operators is kept in memory only until its last reader has run, as int8 where it is quantized.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from leanedge.compress.quantize.placement import float_is_at_hand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from leanedge.compress.quantize.placement import Placement
    from leanedge.compress.quantize.rules import QuantRules
    from leanedge.compress.types import TensorQuant
    from leanedge.graph.model import Graph
    from leanedge.graph.operators import Operator

__all__ = ["OperatorRunner", "Store"]

Array = np.ndarray[Any, Any]


class OperatorRunner:
    """Runs one operator of the graph alone, in float, with some of its constants replaced."""

    def __init__(self, graph: Graph, operator: Operator, constants: Mapping[str, Array], until: str = "") -> None:
        """Opens it.

        Args:
            graph: Where the operator is.
            operator: Which.
            constants: Initializer -> values to use in place of the graph's.
            until: Stop at this value (before the activation, say) instead of the operator's outputs.
        """
        import onnxruntime as ort

        proto = graph.proto
        wanted = set(operator.nodes)
        nodes = [node for node in proto.graph.node if node.name in wanted]
        self.outputs = tuple(operator.outputs)
        if until:
            self.outputs = (until,)
            last = next(i for i, node in enumerate(nodes) if until in node.output)
            nodes = nodes[: last + 1]
        read = {name for node in nodes for name in _reads(node)}
        known = {value.name: value for value in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output)}
        self.inputs = tuple(dict.fromkeys(name for name in operator.inputs if name in read))
        initializers = []
        for tensor in proto.graph.initializer:
            if tensor.name in read:
                new = constants.get(tensor.name)
                initializers.append(tensor if new is None else onnx.numpy_helper.from_array(new, tensor.name))
        body = onnx.GraphProto(
            name="operator",
            node=nodes,
            input=[known[name] for name in self.inputs],
            output=[known.get(name) or onnx.ValueInfoProto(name=name) for name in self.outputs],
            initializer=initializers,
        )
        model = onnx.ModelProto(ir_version=proto.ir_version, graph=body, opset_import=proto.opset_import)
        model.functions.extend(proto.functions)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def __call__(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name."""
        feed = {name: inputs[name] for name in self.inputs}
        return dict(zip(self.outputs, self._session.run(list(self.outputs), feed), strict=True))


class Store:
    """What was computed so far, for every sample: values as their readers see them."""

    def __init__(
        self,
        graph: Graph,
        rules: QuantRules,
        placement: Placement,
        quants: Mapping[str, TensorQuant],
        samples: Sequence[Mapping[str, Array]],
    ) -> None:
        self._graph, self._rules, self._placement, self._quants = graph, rules, placement, quants
        self._integers: dict[str, list[Array]] = {}
        self._floats: dict[str, list[Array]] = {}
        self._left = {value: len(readers) for value, readers in placement.readers.items()}
        self.count = len(samples)
        for sample in samples:
            for info in graph.inputs:
                self._put(info.name, sample[info.name])

    def _put(self, value: str, array: Array) -> None:
        """Appends one sample's array, as integers at once where readers take those: a quarter of the memory."""
        if not self._left.get(value):
            return
        quantized = value in self._quants
        if quantized:
            self._integers.setdefault(value, []).append(self._quants[value].quantize(array))
        if not quantized or float_is_at_hand(self._graph, self._rules, self._placement, value):
            self._floats.setdefault(value, []).append(array)

    def read(self, operator: Operator, index: int) -> dict[str, Array]:
        """The operator's inputs for one sample, rounded where the operator reads integers or only those exist."""
        found = {}
        for value in operator.inputs:
            rounded = value in self._integers and (operator.id in self._placement.integer or value not in self._floats)
            found[value] = (
                self._quants[value].dequantize(self._integers[value][index]) if rounded else self._floats[value][index]
            )
        return found

    def advance(self, operator: Operator, run: Callable[[Mapping[str, Array]], Mapping[str, Array]]) -> None:
        """Runs the operator on all samples, keeps its outputs and lets go of inputs that nobody reads any more."""
        for index in range(self.count):
            for value, array in run(self.read(operator, index)).items():
                self._put(value, array)
        for value in dict.fromkeys(operator.inputs):
            self._left[value] -= 1
            if not self._left[value]:
                self._integers.pop(value, None)
                self._floats.pop(value, None)


def _reads(node: onnx.NodeProto) -> Iterable[str]:
    yield from node.input
    for attr in node.attribute:
        for inner in (attr.g, *attr.graphs):
            for nested in inner.node:
                yield from _reads(nested)

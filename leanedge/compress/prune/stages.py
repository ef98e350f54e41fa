"""Runs a graph over many samples in stages, so that the weights of one layer can be settled before the next runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.data.samples import Samples
    from leanedge.graph.model import Graph

__all__ = ["Stages"]

Array = np.ndarray[Any, Any]


class Stages:
    """Computes values in the order given; keeps of each only what a later stage reads.

    Use: ``for values in targets: arrays = stages.advance(constants)``, where `constants` holds every weight that was
    changed so far.
    """

    def __init__(self, graph: Graph, samples: Samples, targets: Sequence[str]) -> None:
        """Plans the stages.

        Args:
            graph: What to run.
            samples: All its inputs.
            targets: Values to compute, in execution order; each once.
        """
        self._graph, self._targets, self._next, self._count = graph, tuple(targets), 0, len(samples)
        reads: dict[str, list[str]] = {}
        for name, nodes in graph.consumers.items():
            for node in nodes:
                if name not in graph.constants:
                    reads.setdefault(str(node.name), []).append(name)
        self._kept: dict[str, list[Array]] = {
            info.name: [sample[info.name] for sample in samples] for info in graph.inputs
        }
        stored, self._plan = set(self._kept), []
        for target in self._targets:
            names, needed = _upstream(graph, reads, target, stored)
            inside = set(names)
            # A value that this stage makes and a node outside it reads would else be computed again.
            shared = [
                str(value.name)
                for name in names
                for value in graph.node_by_name[name].outputs
                if value.name != target
                and any(str(reader.name) not in inside for reader in graph.consumers.get(str(value.name), ()))
            ]
            stored.update([target, *shared])
            self._plan.append((names, sorted(needed), shared))
        self._last = {name: stage for stage, (_, needed, _) in enumerate(self._plan) for name in needed}

    def advance(self, constants: Mapping[str, Array]) -> list[Array]:
        """The next target of every sample, with those constants in place of the graph's."""
        stage, self._next = self._next, self._next + 1
        target, (nodes, needed, shared) = self._targets[stage], self._plan[stage]
        if target not in self._kept:
            wanted = [target, *(name for name in shared if self._last.get(name, -1) > stage)]
            run = _session(self._graph, nodes, needed, wanted, constants)
            results: list[list[Array]] = [[] for _ in wanted]
            for sample in range(self._count):
                made = run.run(wanted, {name: self._kept[name][sample] for name in needed})
                for column, array in zip(results, made, strict=True):
                    column.append(array)
            self._kept.update(zip(wanted, results, strict=True))
        found = self._kept[target]
        gone = [name for name in self._kept if self._last.get(name, -1) <= stage and name != target]
        for name in gone:
            del self._kept[name]
        return found


def _upstream(
    graph: Graph, reads: Mapping[str, Sequence[str]], target: str, stored: set[str]
) -> tuple[list[str], set[str]]:
    """(nodes between the stored values and the target, in order; the stored values they read)."""
    wanted, needed, todo = set[str](), set[str](), [target]
    if target in stored:
        return [], {target}
    while todo:
        name = todo.pop()
        if name in stored:
            needed.add(name)
        elif name in graph.producer and str(graph.producer[name].name) not in wanted:
            node = str(graph.producer[name].name)
            wanted.add(node)
            todo.extend(reads.get(node, ()))
    return [str(node.name) for node in graph.nodes if str(node.name) in wanted], needed


def _session(
    graph: Graph, nodes: Sequence[str], inputs: Sequence[str], outputs: Sequence[str], constants: Mapping[str, Array]
) -> Any:
    import onnxruntime as ort

    proto, inside = graph.proto, set(nodes)
    read = {name for name, readers in graph.consumers.items() if any(str(node.name) in inside for node in readers)}
    known = {value.name: value for value in (*proto.graph.input, *proto.graph.value_info, *proto.graph.output)}
    body = onnx.GraphProto(
        name="stage",
        node=[node for node in proto.graph.node if node.name in inside],
        input=[known[name] for name in inputs],
        output=[known.get(name) or onnx.ValueInfoProto(name=name) for name in outputs],
        initializer=[
            onnx.numpy_helper.from_array(constants[tensor.name], tensor.name) if tensor.name in constants else tensor
            for tensor in proto.graph.initializer
            if tensor.name in read
        ],
    )
    model = onnx.ModelProto(ir_version=proto.ir_version, graph=body, opset_import=proto.opset_import)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

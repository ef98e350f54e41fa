"""Runs a Graph on samples with ONNX Runtime: the float reference of everything that follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from leanedge.graph.model import Graph

__all__ = ["float_runner", "run_all"]

Array = np.ndarray[Any, Any]
Sample = "Mapping[str, Array]"


def float_runner(
    graph: Graph, extra: Sequence[str] = (), threads: int = 1, exact: bool = False
) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """Opens the graph once; the returned function takes one sample and gives outputs by name.

    Args:
        graph: What to run.
        extra: Inner values to return as well, after the model's outputs.
        threads: Threads within an operator.
        exact: Only the graph as it stands: no fusion that changes rounding.
    """
    import onnxruntime as ort

    names = [info.name for info in graph.outputs] + [name for name in extra if name not in graph.output_names]
    data = graph.bytes
    if extra:
        proto = onnx.ModelProto.FromString(data)
        known = {value.name: value for value in proto.graph.value_info}
        for name in names[len(graph.outputs) :]:
            proto.graph.output.append(known.get(name) or onnx.ValueInfoProto(name=name))
        data = proto.SerializeToString()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if exact:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def run(sample: Mapping[str, Array]) -> dict[str, Array]:
        return dict(zip(names, session.run(names, dict(sample)), strict=True))

    return run


def run_all(
    run: Callable[[Mapping[str, Array]], dict[str, Array]], samples: Iterable[Mapping[str, Array]]
) -> dict[str, Array]:
    """Outputs of every sample, stacked on a new first axis: name -> (samples, *shape of one run's output)."""
    rows = [run(sample) for sample in samples]
    return {name: np.stack([row[name] for row in rows]) for name in (rows[0] if rows else ())}

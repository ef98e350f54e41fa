"""Export a torch module to ONNX the one way that every workload uses."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from benchmarks.workloads.workload import UnavailableWorkload

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def export(module: Any, example: tuple[Any, ...], inputs: Sequence[str], outputs: Sequence[str], path: Path) -> Path:
    """Write `module` as ONNX opset 18 with a free batch axis; `example` has a batch of 2. Whole or not at all."""
    try:
        import torch
    except ImportError as error:
        raise UnavailableWorkload("torch is needed to export this model: pip install 'leanedge[torch]'") from error
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        module.eval(),
        example,
        dynamo=True,
        opset_version=18,
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_shapes=tuple({0: batch} for _ in example),
        external_data=False,
        verbose=False,
    )
    graph = program.model.graph  # without the exporter's notes: stack traces with this machine's paths
    for holder in (graph, *graph, *graph.inputs, *(value for node in graph for value in node.outputs)):
        holder.metadata_props.clear()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    program.save(part)
    part.replace(path)
    return path

"""Linux devices that run LiteRT or tflite-runtime: one .tflite file, fp32, fp16 storage, int8, dynamic int8."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from leanedge.targets._linux import open_artifact, run_trial

from leanedge.export.tflite_check import check_tflite, integer_outputs
from leanedge.export.tflite_file import export_tflite
from leanedge.export.tflite_prefix import boundaries, write_prefix
from leanedge.program.fill import fill
from leanedge.program.structure import structure
from leanedge.target import Artifact, Pair, Target

if TYPE_CHECKING:
    from pathlib import Path

    from leanedge.compress.types import Compressed

__all__ = ["TARGET"]

_FILE = "model.tflite"
Array = np.ndarray[Any, Any]


def _export(compressed: Compressed, folder: Path) -> Artifact:
    program = fill(structure(compressed.graph, split_hard_swish=compressed.quant is not None), compressed.quant)
    path = folder / _FILE
    export_tflite(program, path, fp16=compressed.scheme == "fp16")
    artifact = Artifact(
        kind="linux_tflite",
        runtime="ai_edge_litert",
        folder=folder,
        files=(_FILE,),
        input_layouts={port.name: port.permutation for port in program.inputs},
        output_layouts={port.name: port.inverse for port in program.outputs},
        integer_outputs=integer_outputs(program),
    )
    try:
        check_tflite(compressed, program, path, open_artifact(artifact, 1), open_artifact(artifact, 1, "reference"))
    except BaseException:
        path.unlink(missing_ok=True)  # a file that fails its check is not emitted
        raise
    return artifact


def _prefix(artifact: Artifact, tensor: str, folder: Path) -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    write_prefix(artifact.model_path, tensor, folder / _FILE)
    return replace(artifact, folder=folder, files=(_FILE,), output_layouts={tensor: None}, integer_outputs=())


TARGET = Target(
    kind="linux_tflite",
    runtimes=("ai_edge_litert", "tflite_runtime"),
    rules="tflite",
    schemes=("fp32", "fp16", "w8a8", "w8a8_pt", "w8a8_dynamic", "mixed"),
    patterns=("dense", "channel"),
    needs=("ai_edge_litert",),
    export=_export,
    open=open_artifact,
    run=run_trial,
    # LiteRT's XNNPACK kernels are the same arithmetic on x86 and arm64. tflite-runtime's own int8 kernels are not: of
    # 400 logits of a keyword model 23 were one step apart between the two. Its reference kernels are, at 7 to 18 times
    # the instructions, so they are what is compared.
    pairs=(
        Pair("ai_edge_litert", "", "ai_edge_litert", ""),
        Pair("tflite_runtime", "reference", "tflite_runtime", "reference"),
    ),
    prefix=_prefix,
    boundaries=lambda artifact: boundaries(artifact.model_path),
)

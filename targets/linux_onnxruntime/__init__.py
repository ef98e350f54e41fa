"""Linux devices that run ONNX Runtime: fp32, fp16 storage, QDQ uint8 x int8, and dynamically quantized files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from leanedge.targets._linux import open_artifact, run_trial

from leanedge.export.onnx_check import check_onnx, integer_outputs
from leanedge.export.onnx_file import export_onnx
from leanedge.export.onnx_prefix import boundaries, write_prefix
from leanedge.target import Artifact, Pair, Target

if TYPE_CHECKING:
    from pathlib import Path

    from leanedge.compress.types import Compressed

__all__ = ["TARGET"]

_FILE = "model.onnx"


def _export(compressed: Compressed, folder: Path) -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _FILE
    export_onnx(compressed, path)
    artifact = Artifact(
        kind="linux_onnxruntime",
        runtime="onnxruntime",
        folder=folder,
        files=(_FILE,),
        input_layouts={info.name: None for info in compressed.graph.inputs},
        output_layouts={info.name: None for info in compressed.graph.outputs},
        integer_outputs=integer_outputs(compressed),
    )
    try:
        check_onnx(compressed, path, open_artifact(artifact, 1))
    except BaseException:
        path.unlink(missing_ok=True)  # a file that fails its check is not emitted
        raise
    return artifact


def _prefix(artifact: Artifact, tensor: str, folder: Path) -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    write_prefix(artifact.model_path, tensor, folder / _FILE)
    return replace(artifact, folder=folder, files=(_FILE,), output_layouts={tensor: None}, integer_outputs=())


TARGET = Target(
    kind="linux_onnxruntime",
    runtimes=("onnxruntime",),
    rules="onnxruntime",
    schemes=("fp32", "fp16", "w8a8", "w8a8_pt", "w8a8_dynamic", "mixed"),
    patterns=("dense", "channel"),
    needs=("onnxruntime",),
    export=_export,
    open=open_artifact,
    run=run_trial,
    pairs=(Pair("onnxruntime", "", "onnxruntime", ""),),
    prefix=_prefix,
    boundaries=lambda artifact: boundaries(artifact.model_path),
)

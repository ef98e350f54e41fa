"""vad_plain: the file of the same detector that its authors made without control flow, on the samples of `vad`."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.workloads import vad
from benchmarks.workloads.fetch import wheel

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.workloads.workload import Workload

MODEL_FILE = "silero_vad/data/silero_vad_openvino_16k.onnx"


def load(cache: Path) -> Workload:
    """As `vad`, static shapes, LSTM but no If."""
    model = cache / "vad_plain" / "model.onnx"
    if not model.exists():
        model.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(wheel(cache, vad.PACKAGE) / MODEL_FILE, model)
    return replace(vad.load(cache), name="vad_plain", model=model, inputs={}, notes="vad without If; static shapes")

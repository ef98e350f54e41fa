"""What an int8 .tflite file is for each of a device's runtimes: the same integers, in a file that it can run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from leanedge.export.tflite_check import integer_outputs
from leanedge.export.tflite_file import export_tflite
from leanedge.target import Artifact, load_target, missing_modules

if TYPE_CHECKING:
    from leanedge.profile import RuntimeEntry
    from leanedge.program.types import Program

__all__ = ["IN_C", "integer_artifact", "is_tflite", "why_not_here", "write_integers"]

IN_C = ("cortex_m", "c_host")
"""Target kinds that compute it in generated C."""

_KINDS = (*IN_C, "linux_tflite")
_FILE = "model.tflite"


def is_tflite(model: Any) -> bool:
    """Whether the model is given as the path of a .tflite file."""
    return isinstance(model, (str, Path)) and Path(model).suffix.lower() == ".tflite"


def why_not_here(entry: RuntimeEntry) -> str:
    """Why a runtime of a device takes no .tflite file, or why that can't be tried here; empty where it can."""
    if entry.target not in _KINDS:
        return f"{entry.runtime} does not read .tflite files"
    absent = missing_modules(load_target(entry.target).needs)
    return f"not installed on this machine: {', '.join(absent)}" if absent else ""


def write_integers(program: Program, folder: Path) -> None:
    """Writes the file that `integer_artifact` speaks of."""
    export_tflite(program, folder / _FILE)


def integer_artifact(program: Program, entry: RuntimeEntry, folder: Path) -> Artifact:
    """The file in `folder` as that runtime takes it."""
    whole = tuple(port.name for port in program.outputs)
    return Artifact(
        kind=entry.target,
        runtime=entry.runtime,
        folder=folder,
        files=(_FILE,),
        input_layouts={port.name: port.permutation for port in program.inputs},
        output_layouts={port.name: port.inverse for port in program.outputs},
        integer_outputs=whole if entry.target in IN_C else integer_outputs(program),
    )

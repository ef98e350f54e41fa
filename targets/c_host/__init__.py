"""This machine in a microcontroller's place: generated C with portable kernels, as a shared library; the reference."""

from __future__ import annotations

import platform
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from leanedge.targets._programs.host_compiler import compiler_command

from leanedge.errors import MissingProgram, UnsupportedOperator, ValidationFailed
from leanedge.export.onnx_check import probe_inputs
from leanedge.export.tflite_file import export_tflite
from leanedge.export.tflite_prefix import boundaries, write_prefix
from leanedge.graph.run import run_all
from leanedge.program.fill import fill
from leanedge.program.integer_ports import integer_ports
from leanedge.program.simulate import simulate
from leanedge.program.structure import structure
from leanedge.state import stream
from leanedge.target import Artifact, Observation, Pair, Target, Trace
from leanedge.version import __version__

from .session import emit_file, open_artifact

if TYPE_CHECKING:
    from pathlib import Path

    from leanedge.compress.types import Compressed
    from leanedge.profile import DeviceProfile
    from leanedge.target import Trial

__all__ = ["TARGET", "export_integers"]

_FILE = "model.tflite"


def _export(compressed: Compressed, folder: Path) -> Artifact:
    """The Program as a .tflite file, and its C in the folder ``c``."""
    artifact = export_integers(compressed, folder)
    source = emit_file(folder / _FILE)
    (folder / "c").mkdir()
    for name, text in source.files.items():
        (folder / "c" / name).write_text(text, encoding="utf-8")
    return replace(artifact, files=(_FILE, *(f"c/{name}" for name in source.files)))


def export_integers(compressed: Compressed, folder: Path) -> Artifact:
    """The Program as a .tflite file, its generated C compared with the reference on one input.

    Raises:
        UnsupportedOperator: An operator computes in float, or has no C kernel.
        ValidationFailed: The C differs from the reference.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = fill(structure(compressed.graph, separate_pads=False), compressed.quant)
    if loose := [
        operator for operator in integer_ports(program).operators if not program.computes_in_integers(operator)
    ]:
        raise UnsupportedOperator(
            f"{loose[0].kind} computes in float",
            where=loose[0].source,
            allowed="operators with an int8 kernel",
            hint="the scheme w8a8 on a model without this operator",
        )
    export_tflite(program, folder / _FILE)
    artifact = Artifact(
        kind="c_host",
        runtime="c_host",
        folder=folder,
        files=(_FILE,),
        input_layouts={port.name: port.permutation for port in program.inputs},
        output_layouts={port.name: port.inverse for port in program.outputs},
        integer_outputs=tuple(port.name for port in program.outputs),
    )
    run, probe = open_artifact(artifact, 1), probe_inputs(compressed)[0]
    made = run(probe)
    for name, wanted in simulate(program, probe).items():
        if not np.array_equal(made[name], wanted):
            raise ValidationFailed(
                f"output {name} differs from the reference arithmetic",
                where=str(folder),
                allowed="equality bit for bit",
            )
    return artifact


def _run(trial: Trial, profile: DeviceProfile) -> Trace:
    if trial.where == "emulator":
        raise MissingProgram(
            "generated C for this machine needs no emulator",
            where=profile.name,
            hint="validate with --on host",
        )
    observations = {}
    for name, artifact in trial.artifacts.items():
        run = open_artifact(artifact, trial.threads)
        if artifact.state:
            outputs = stream(run, trial.samples, artifact.state, trial.initial)
        else:
            outputs = run_all(run, trial.samples)
        observations[name] = Observation(outputs)
    versions = {
        "runtime": f"c_host {__version__}",
        "kernels": "portable",
        "emulator": "",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "compiler": " ".join(compiler_command()),
    }
    return Trace(observations, versions, "native code is not counted" if trial.count else "")


def _prefix(artifact: Artifact, tensor: str, folder: Path) -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    write_prefix(artifact.model_path, tensor, folder / _FILE)
    return replace(artifact, folder=folder, files=(_FILE,), output_layouts={tensor: None}, integer_outputs=())


TARGET = Target(
    kind="c_host",
    runtimes=("c_host",),
    rules="tflite",
    schemes=("w8a8", "w8a8_pt"),
    patterns=("dense", "channel"),
    needs=("highspy",),
    export=_export,
    open=open_artifact,
    run=_run,
    pairs=(Pair("c_host", "", "c_host", ""),),
    prefix=_prefix,
    boundaries=lambda artifact: boundaries(artifact.model_path),
)

"""Microcontrollers with an Arm Cortex-M core: generated C, compiled, linked to a device's memory and emulated."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from leanedge.export.tflite_prefix import boundaries, write_prefix
from leanedge.target import Artifact, BuildOptions, Built, Pair, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy as np

    from leanedge.compress.types import Compressed
    from leanedge.profile import DeviceProfile
    from leanedge.target import Trace, Trial

__all__ = ["TARGET"]

_KIND, _RUNTIME = "cortex_m", "generated_c"
_FILE = "model.tflite"


def _export(compressed: Compressed, folder: Path) -> Artifact:
    from leanedge.targets.c_host import export_integers

    artifact: Artifact = export_integers(compressed, folder)
    return replace(artifact, kind=_KIND, runtime=_RUNTIME)


def _open(
    artifact: Artifact, threads: int
) -> Callable[[Mapping[str, np.ndarray[Any, Any]]], dict[str, np.ndarray[Any, Any]]]:
    """The same arithmetic as C on this machine."""
    from leanedge.targets.c_host.session import open_artifact

    run: Callable[[Mapping[str, np.ndarray[Any, Any]]], dict[str, np.ndarray[Any, Any]]]
    run = open_artifact(artifact, threads)
    return run


def _build(artifact: Artifact, profile: DeviceProfile, options: BuildOptions, folder: Path) -> Built:
    from .delivery import build_artifact

    return build_artifact(artifact, profile, options, folder)


def _room(profile: DeviceProfile) -> dict[str, int]:
    from .image import memory_map

    memory = memory_map(profile)
    return {"flash_bytes": memory.flash_bytes, "ram_bytes": memory.ram_bytes}


def _run(trial: Trial, profile: DeviceProfile) -> Trace:
    from .delivery import run_trial

    return run_trial(trial, profile)


def _prefix(artifact: Artifact, tensor: str, folder: Path) -> Artifact:
    folder.mkdir(parents=True, exist_ok=True)
    write_prefix(artifact.model_path, tensor, folder / _FILE)
    return replace(artifact, folder=folder, files=(_FILE,), output_layouts={tensor: None}, integer_outputs=())


TARGET = Target(
    kind=_KIND,
    runtimes=(_RUNTIME,),
    rules="tflite",
    schemes=("w8a8",),
    patterns=("dense", "channel"),
    needs=("ziglang", "unicorn", "capstone", "elftools", "highspy"),
    export=_export,
    open=_open,
    run=_run,
    pairs=(Pair(_RUNTIME, "", _RUNTIME, ""),),
    prefix=_prefix,
    boundaries=lambda artifact: boundaries(artifact.model_path),
    build=_build,
    room=_room,
)

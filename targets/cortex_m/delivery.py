"""What a build delivers for a microcontroller (C, image, figures) and how it is run again to be checked."""

from __future__ import annotations

import json
import platform
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from leanedge.targets.c_host.session import moved, open_artifact, to_integers, to_reals

from leanedge.errors import InputError, ValidationFailed
from leanedge.export.c_source.choose import ram_at
from leanedge.export.c_source.interface import ModelNotes
from leanedge.export.c_source.layers import operator_macs
from leanedge.figures import Figure, unavailable
from leanedge.graph.run import run_all
from leanedge.program.integer_ports import integer_ports
from leanedge.program.schedule import reordered, schedule
from leanedge.program.simplify import simplify
from leanedge.program.tflite_file import load_tflite
from leanedge.state import stream
from leanedge.target import Built, BuiltLayer, Evidence, Observation, Trace

from .elf import read_elf
from .emulator import EmulationFault
from .firmware import make_firmware
from .flash import flash_model
from .image import Image, memory_map, run_image
from .timing import TYPICAL_ERROR

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from leanedge.names import How
    from leanedge.profile import DeviceProfile
    from leanedge.program.types import Program
    from leanedge.target import Artifact, BuildOptions, Trial

    from .firmware import Firmware
    from .image import ImageRun

__all__ = ["build_artifact", "run_trial"]

Array = np.ndarray[Any, Any]

_RUNTIME = "generated_c"
_ELF, _BINARY, _IMAGE = "firmware.elf", "firmware.bin", "image.json"
_NOTE = (
    "not proved on hardware: clock set-up, flash wait states and, where the chip wants them, boot blocks are the "
    "board support package's"
)


def build_artifact(artifact: Artifact, profile: DeviceProfile, options: BuildOptions, folder: Path) -> Built:
    """Makes the firmware of an integer .tflite file, and writes it to the folder.

    Raises:
        UnsupportedOperator: An operator has no kernel.
        ValidationFailed: A kernel, or the whole image, differs from the reference.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = load_program(artifact.model_path)
    notes = ModelNotes(options.made_from, options.model_sha256, options.labels, options.pixels)
    made = make_firmware(program, options.name, profile, options, notes)
    files = [artifact.files[0]]
    shutil.copyfile(artifact.model_path, folder / files[0])
    (folder / "c").mkdir(exist_ok=True)
    for name, text in made.source.files.items():
        (folder / "c" / name).write_text(text, encoding="utf-8")
        files.append(f"c/{name}")
    run = None
    if made.image is not None:
        files += _write_image(made.image, folder)
        run = run_image(made.image, [_noise(program)], flash_model(profile))
    figures = _figures(made, run, profile)
    return Built(
        replace(artifact, folder=folder, files=tuple(files)),
        figures,
        tuple(_layers(program, made)),
        (_NOTE,) if made.image else (),
        _evidence(made, run, profile),
        made.shortages,
    )


def _evidence(made: Firmware, run: ImageRun | None, profile: DeviceProfile) -> tuple[Evidence, ...]:
    """Kernels that differ stop the build, so those that are here are equal."""
    detail = f"{made.tried} kernels for {len(made.chosen)} operators, {profile.cpu.core} emulated: all equal"
    rule = "bit for bit: the reference arithmetic, on full-range noise and extremes, no write outside their memory"
    found = [Evidence("kernels.outputs", True, detail, rule)]
    if made.image is not None and run is not None:
        used, proved = run.stack_bytes, made.image.stack_bytes
        detail = f"{used} of {proved} bytes used in emulation (painted stack)"
        found.append(Evidence("stack", used <= proved, detail, "at most what the linked image's call graph proves"))
    return tuple(found)


def load_program(path: Path) -> Program:
    """A .tflite file as what the firmware computes: integer ports, simplified, in the order of the least memory."""
    program = simplify(integer_ports(load_tflite(path))).program
    return reordered(program, schedule(program))


def _noise(program: Program) -> list[bytes]:
    rng = np.random.default_rng(0)
    found = []
    for port in program.inputs:
        tensor = program.tensors[port.tensor]
        info = np.iinfo(tensor.dtype)
        found.append(rng.integers(info.min, info.max, tensor.shape, tensor.dtype, endpoint=True).tobytes())
    return found


def _write_image(image: Image, folder: Path) -> list[str]:
    (folder / _ELF).write_bytes(image.data)
    flash = bytearray(b"\xff" * image.flash_bytes)
    for segment in image.elf.segments:
        at = segment.address - image.memory.flash_address
        flash[at : at + len(segment.data)] = segment.data
    (folder / _BINARY).write_bytes(bytes(flash))
    record = {
        "core": image.core,
        "compiler": image.compiler,
        "flash_address": image.memory.flash_address,
        "flash_bytes": image.flash_bytes,
        "ram_bytes": image.ram_bytes,
        "stack_bytes": image.stack_bytes,
        "inputs": list(image.inputs),
        "outputs": list(image.outputs),
    }
    (folder / _IMAGE).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
    return [_ELF, _BINARY, _IMAGE]


def _read_image(artifact: Artifact, profile: DeviceProfile) -> Image:
    folder = artifact.folder
    if _ELF not in artifact.files:
        raise ValidationFailed("there is no image: it does not fit the device", where=str(folder))
    try:
        record = json.loads((folder / _IMAGE).read_text(encoding="utf-8"))
        data = (folder / _ELF).read_bytes()
        return Image(
            data=data,
            elf=read_elf(data),
            core=record["core"],
            compiler=record["compiler"],
            memory=memory_map(profile),
            flash_bytes=record["flash_bytes"],
            ram_bytes=record["ram_bytes"],
            stack_bytes=record["stack_bytes"],
            inputs=tuple(record["inputs"]),
            outputs=tuple(record["outputs"]),
            layers=(),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"the image is damaged: {error}", where=str(folder), hint="build it again") from error


def _figures(made: Firmware, run: ImageRun | None, profile: DeviceProfile) -> dict[str, Figure]:
    exact: How = "proved" if made.image else "predicted"
    by = "the linked image" if made.image else "linked without regard to the device's memory"
    arena = made.source.plan
    found = {
        "flash_bytes": Figure(made.flash_bytes, "bytes", exact, {"by": by, "constants": made.source.constant_bytes}),
        "ram_bytes": Figure(
            made.ram_bytes, "bytes", exact, {"by": f"{by}: arena, scratch, other data, worst-case stack"}
        ),
        "arena_bytes": Figure(arena.arena_bytes, "bytes", "proved", {"by": "the arena planner", "plan": arena.proof}),
    }
    if made.image is None or run is None:
        reason = "the image does not fit the device, so it was not run"
        for name, unit in (("latency_ms", "ms"), ("energy_uj", "uJ"), ("instructions", "count"), ("cycles", "count")):
            found[name] = unavailable(unit, reason)
        found["stack_bytes"] = unavailable("bytes", reason)
        return found
    found["stack_bytes"] = Figure(
        made.image.stack_bytes,
        "bytes",
        "proved",
        {"by": "the call graph of the linked image", "painted": run.stack_bytes},
    )
    found["instructions"] = Figure(
        run.counts.instructions,
        "count",
        "measured",
        {"by": f"counted in emulation, {made.image.compiler}", "by_class": dict(run.counts.by_class)},
    )
    cycles, clock = run.counts.device_cycles, profile.cpu.clock_hz or 1
    by = f"{profile.cpu.core} instruction timings and a model of its flash and caches"
    if flash_model(profile) is None:
        by = f"{profile.cpu.core} instruction timings; no source for its flash, so none is waited for"
    detail = {"by": by, "without_waiting": run.counts.cycles, "cells": [f"{profile.name} {_RUNTIME}"]}
    found["cycles"] = Figure(cycles, "count", "predicted", detail)
    known = {"error": TYPICAL_ERROR[core], "models": 4} if (core := profile.cpu.core or "") in TYPICAL_ERROR else {}
    detail = {**detail, **known, "clock_hz": clock, "threads": 1}
    found["latency_ms"] = Figure(1e3 * cycles / clock, "ms", "predicted", detail)
    energy = profile.cycle_energy
    if energy is None:
        found["energy_uj"] = unavailable("uJ", f"the profile of {profile.name} has no sourced energy of a cycle")
    else:
        why = {"by": "energy of a cycle x cycles", "conditions": energy.conditions, "source": energy.source}
        bounds = {"low_uj": cycles * energy.low * 1e-6, "high_uj": cycles * energy.high * 1e-6}
        found["energy_uj"] = Figure(cycles * energy.pj * 1e-6, "uJ", "predicted", {**why, **bounds})
    return found


def _layers(program: Program, made: Firmware) -> list[BuiltLayer]:
    rows = []
    for index, (operator, option) in enumerate(zip(program.operators, made.chosen, strict=True)):
        out = program.tensors[operator.output]
        weights = [program.tensors[name] for name in operator.inputs if program.tensors[name].data is not None]
        rows.append(
            BuiltLayer(
                id=operator.source,
                kind=operator.kind,
                macs=operator_macs(program, operator),
                weight_bytes=option.kernel.constant_bytes,
                weight_bits=8 * np.dtype(weights[0].dtype).itemsize if weights else None,
                activation_bits=8 * np.dtype(out.dtype).itemsize,
                kernel=option.kernel.name,
                instructions=option.instructions,
                cycles=int(option.cycles),
                live_bytes=ram_at(program, index, option.kernel),
            )
        )
    return rows


def run_trial(trial: Trial, profile: DeviceProfile) -> Trace:
    """Runs artifacts as C on this machine, or their images in the emulator.

    Raises:
        ValidationFailed: There is no image, or it crashed.
        MissingProgram: The emulator or a compiler is absent.
    """
    seen = {}
    for name, artifact in trial.artifacts.items():
        if trial.where == "host":
            run = open_artifact(artifact, trial.threads)
            if artifact.state:
                outputs = stream(run, trial.samples, artifact.state, trial.initial)
            else:
                outputs = run_all(run, trial.samples)
            seen[name] = Observation(outputs)
            continue
        seen[name] = _emulate(artifact, trial, profile)
    versions = {
        "runtime": "generated C",
        "kernels": "portable" if trial.where == "host" else str(profile.cpu.core),
        "emulator": "" if trial.where == "host" else "unicorn",
        "machine": platform.machine(),
        "python": platform.python_version(),
    }
    return Trace(seen, versions)


def _emulate(artifact: Artifact, trial: Trial, profile: DeviceProfile) -> Observation:
    image, program = _read_image(artifact, profile), load_program(artifact.model_path)
    instructions = 0

    def run_all_of(samples: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        nonlocal instructions
        try:
            run = run_image(image, [_to_bytes(program, artifact, sample) for sample in samples])
        except EmulationFault as fault:
            raise ValidationFailed(f"the image crashed in emulation: {fault.message}") from fault
        instructions = max(instructions, run.counts.instructions)
        return [_from_bytes(program, artifact, made) for made in run.outputs]

    if artifact.state:
        outputs = stream(lambda sample: run_all_of([sample])[0], trial.samples, artifact.state, trial.initial)
    else:
        rows = run_all_of(list(trial.samples))
        outputs = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    return Observation(outputs, instructions if trial.count else None)


def _to_bytes(program: Program, artifact: Artifact, sample: Mapping[str, Array]) -> list[bytes]:
    found = []
    for port in program.inputs:
        turned = moved(np.asarray(sample[port.name])[None], artifact.input_layouts[port.name])
        found.append(np.ascontiguousarray(to_integers(program.tensors[port.tensor], turned)).tobytes())
    return found


def _from_bytes(program: Program, artifact: Artifact, made: Sequence[bytes]) -> dict[str, Array]:
    found = {}
    for port, data in zip(program.outputs, made, strict=True):
        tensor = program.tensors[port.tensor]
        array = np.frombuffer(data, tensor.dtype).reshape(1, *tensor.shape)
        found[port.name] = moved(to_reals(tensor, array), artifact.output_layouts[port.name])[0]
    return found

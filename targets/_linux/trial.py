"""Runs trials of the Linux kinds: artifacts and samples in, outputs, counts and memory out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from leanedge.targets._linux.board import Emulator
from leanedge.targets._linux.job import Job, JobModel, run_job, run_job_on_host

from leanedge.cost.ram import measured_ram
from leanedge.errors import MissingProgram, ProfileError
from leanedge.target import Observation, Trace

if TYPE_CHECKING:
    from leanedge.profile import DeviceProfile
    from leanedge.target import Trial

__all__ = ["run_trial"]

COUNTED_INFERENCES = 2
"""The least of them counts: what is above it is waiting and first-use allocation."""


def run_trial(trial: Trial, profile: DeviceProfile) -> Trace:
    """Runs the artifacts, one after the other in one process.

    Raises:
        MissingProgram: The emulator, its root file system or the runtime is absent, or the device is not emulated.
        ValidationFailed: The runtime refused a model, crashed or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="leanedge-trial-") as work:
        folder = Path(work)
        inputs = folder / "inputs.npz"
        fed: dict[str, Any] = dict(trial.samples.inputs)
        np.savez(inputs, **fed)
        initial = folder / "initial.npz"
        first: dict[str, Any] = dict(trial.initial)
        np.savez(initial, **first)
        models = tuple(
            JobModel(
                id=name,
                file=artifact.model_path.resolve(),
                inputs=inputs,
                outputs=folder / f"{number}.npz",
                count=COUNTED_INFERENCES if trial.count else 0,
                state=artifact.state,
                initial=initial if trial.initial else None,
                input_layouts=artifact.input_layouts,
                output_layouts=artifact.output_layouts,
            )
            for number, (name, artifact) in enumerate(trial.artifacts.items())
        )
        job = Job(trial.runtime, models, kernels=trial.kernels, threads=trial.threads, memory=trial.memory)
        evidence = run_job_on_host(job) if trial.where == "host" else run_job(job, emulator_of(profile))
        observations = {}
        for model in models:
            seen = evidence.models[model.id]
            with np.load(str(model.outputs)) as arrays:
                outputs = {name: arrays[name] for name in arrays.files}
            observations[model.id] = Observation(
                outputs,
                seen.instructions,
                measured_ram(seen.memory, trial.where) if seen.memory else None,
            )
    versions = {
        "runtime": f"{evidence.runtime} {evidence.runtime_version}",
        "kernels": evidence.kernels,
        "emulator": evidence.emulator,
        "machine": evidence.machine,
        "python": evidence.python,
        "numpy": evidence.numpy,
    }
    missing = next((seen.no_counts for seen in evidence.models.values()), "")
    return Trace(observations, versions, missing if trial.count else "")


def emulator_of(profile: DeviceProfile) -> Emulator:
    """The profile's emulated view of its CPU.

    Raises:
        MissingProgram: The device has none.
        ProfileError: It lacks the size of a cache.
    """
    view = profile.emulator
    if view is None:
        raise MissingProgram(
            f"{profile.name} has no emulator",
            where=profile.name,
            hint="its profile has no `emulator:` section; validate on the device itself",
        )
    sizes = {(cache.level, cache.kind): cache.bytes for cache in profile.caches}
    wanted = ((1, "data"), (1, "instruction"), (2, "unified"))
    if missing := [f"level {level} {kind}" for level, kind in wanted if (level, kind) not in sizes]:
        raise ProfileError(
            f"its emulated view needs the size of the {', '.join(missing)} cache",
            where=f"{profile.name}: caches",
            hint="add it, with its source: runtimes read it to choose kernels",
        )
    return Emulator(
        cpu=view.cpu,
        cores=view.cores,
        implementer=hex(view.implementer),
        architecture=str(view.architecture),
        variant=hex(view.variant),
        part=hex(view.part),
        revision=str(view.revision),
        features=view.features,
        l1d_bytes=sizes[1, "data"],
        l1i_bytes=sizes[1, "instruction"],
        l2_bytes=sizes[2, "unified"],
        l3_bytes=sizes.get((3, "unified")),
        max_hz=view.max_hz,
        hardware=view.hardware or "",
        model=view.model or "",
    )

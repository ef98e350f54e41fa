"""What each candidate costs on the device: the code that ships is asked, and every figure says how it is known."""

from __future__ import annotations

import json
import os
import platform
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from leanedge.budget import Estimate
from leanedge.cache import cached_folder, cached_json, code_version, digest, find_json, keep_json, today
from leanedge.candidates import Refusal
from leanedge.cost.energy import predict_energy
from leanedge.cost.flash import artifact_bytes
from leanedge.cost.host_timing import measure
from leanedge.cost.latency import predict_latency
from leanedge.errors import InputError, MissingProgram, OutputError, ValidationFailed
from leanedge.evaluate import runtime_versions
from leanedge.figures import Figure, unavailable
from leanedge.target import Artifact, Built, BuiltLayer, Evidence, Shortage, Trial, load_target

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from leanedge.budget import Budget
    from leanedge.data.samples import Samples
    from leanedge.evaluate import Evaluation
    from leanedge.profile import DeviceProfile
    from leanedge.target import BuildOptions

Array = np.ndarray[Any, Any]

__all__ = ["Pricing", "build_artifact", "estimate_of", "excess_of", "price", "price_built"]


@dataclass(frozen=True)
class Pricing:
    """What candidates cost.

    Attributes:
        estimates: Candidate id -> estimate.
        notes: What the report must say of how they were found.
        built: Candidate id -> what was built of it, for target kinds that build.
        refused: Those that could not be built, and why.
    """

    estimates: Mapping[str, Estimate]
    notes: tuple[str, ...]
    built: Mapping[str, Built] = field(default_factory=dict)
    refused: tuple[Refusal, ...] = ()


def price_built(evaluations: Sequence[Evaluation], profile: DeviceProfile, options: BuildOptions) -> Pricing:
    """Builds candidates for a device and takes their figures from what was built.

    Args:
        evaluations: What was made, all of target kinds that build.
        profile: The device.
        options: For which kernels are chosen.

    Raises:
        UnsupportedOperator: No candidate has a kernel for each operator.
        ValidationFailed: Kernels of every candidate differ from the reference.
    """
    built, refused = {}, []
    first: InputError | ValidationFailed | None = None
    for item in evaluations:
        candidate = item.candidate
        words = f"{candidate.scheme}, {candidate.pattern}" + (f" {candidate.level:.2f}" if candidate.level else "")
        own = replace(options, made_from=(*options.made_from, f"{words}."))
        try:
            built[candidate.id] = build_artifact(item.artifact, profile, own)
        except OutputError:
            raise  # the disk is full: no candidate's fault
        except (InputError, ValidationFailed) as error:
            status: Literal["failed", "refused"] = "failed" if isinstance(error, ValidationFailed) else "refused"
            refused.append(Refusal(candidate, str(error), status))
            first = first or error
    if first is not None and not built:
        raise first
    notes = tuple(dict.fromkeys(note for each in built.values() for note in each.notes))
    return Pricing({name: estimate_of(each) for name, each in built.items()}, notes, built, tuple(refused))


def build_artifact(artifact: Artifact, profile: DeviceProfile, options: BuildOptions) -> Built:
    """What the artifact's target kind builds of it, from the cache where the same was built before."""
    build = load_target(artifact.kind).build
    if build is None:
        raise ValueError(f"{artifact.kind} builds nothing")
    key = digest(
        "built",
        {name: (artifact.folder / name).read_bytes() for name in artifact.files},
        profile.model_dump(mode="json"),
        asdict(options),
        code_version(),
    )

    def produce(folder: Path) -> None:
        made = build(artifact, profile, options, folder)
        record = {
            "artifact": made.artifact.to_json(),
            "figures": {name: figure.to_dict() for name, figure in made.figures.items()},
            "layers": [asdict(layer) for layer in made.layers],
            "notes": list(made.notes),
            "evidence": [asdict(item) for item in made.evidence],
            "shortages": [asdict(shortage) for shortage in made.shortages],
        }
        (folder / _RECORD).write_text(json.dumps(record))

    folder, _ = cached_folder("built", key, produce)
    record = json.loads((folder / _RECORD).read_text())
    return Built(
        Artifact.from_json(record["artifact"], folder),
        {name: Figure(**figure) for name, figure in record["figures"].items()},
        tuple(BuiltLayer(**layer) for layer in record["layers"]),
        tuple(record["notes"]),
        tuple(Evidence(**item) for item in record["evidence"]),
        tuple(Shortage(**shortage) for shortage in record["shortages"]),
    )


_RECORD = "built.json"
_ESTIMATED = ("latency_ms", "ram_bytes", "flash_bytes", "energy_uj")


def excess_of(budget: Budget, estimate: Estimate, built: Built | None) -> dict[str, float]:
    """By how much each figure is over the budget, or over the device's own memory where that is less.

    Raises:
        UsageError: A limit on a figure that is not known; of what the device can't hold, memory alone is looked at.
    """
    shortages = built.shortages if built else ()
    over = (replace(budget, latency_ms=None, energy_uj=None) if shortages else budget).excess(estimate)
    for short in shortages:
        over[short.figure] = max(over.get(short.figure, 0.0), float(short.excess_bytes))
    return over


def estimate_of(built: Built) -> Estimate:
    """Its figures as an estimate."""
    known = {name: built.figures[name] for name in _ESTIMATED}
    return Estimate(**known, more={name: each for name, each in built.figures.items() if name not in known})


def price(
    evaluations: Sequence[Evaluation],
    one: Samples,
    initial: Mapping[str, Array],
    profile: DeviceProfile,
    threads: int,
    count: bool = True,
) -> Pricing:
    """Prices candidates that were made.

    On this machine latency is measured, all candidates in turn. For an emulated device it is predicted from counted
    instructions. Else it is not known.

    Args:
        evaluations: What was made, the float baseline among them.
        one: A sample to run for counts, memory and time.
        initial: State input -> its value before the first step.
        profile: The device.
        threads: Threads on the device.
        count: False leaves out what takes long: after Ctrl-C.
    """
    notes: list[str] = []
    if profile.name == "host":
        latency = _measured(evaluations, one, initial, threads)
    elif profile.emulator is not None and count:
        latency = _predicted(evaluations, one, initial, profile, threads, notes)
    else:
        reason = f"{profile.name} is neither this machine nor emulated" if count else "the build was interrupted"
        latency = {item.candidate.id: unavailable("ms", reason) for item in evaluations}
    # Each is a process that mostly waits for its imports, so all cores take part.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        ram = dict(
            zip(
                [item.candidate.id for item in evaluations],
                pool.map(lambda item: _ram(item, one, initial, profile), evaluations),
                strict=True,
            )
        )
    estimates = {}
    for item in evaluations:
        name = item.candidate.id
        estimates[name] = Estimate(
            latency_ms=latency[name],
            ram_bytes=ram[name],
            flash_bytes=artifact_bytes(item.artifact),
            energy_uj=predict_energy(profile, latency[name]),
        )
    return Pricing(estimates, tuple(notes))


def _measured(
    evaluations: Sequence[Evaluation], one: Samples, initial: Mapping[str, Array], threads: int
) -> dict[str, Figure]:
    """Measured in turns with each other, or in an earlier run of the same files on this machine."""

    def produce() -> Mapping[str, Any]:
        sample = {**next(iter(one)), **initial}
        if one.streaming:
            sample = {**{name: array[0] for name, array in next(iter(one)).items()}, **initial}
        runs = {
            item.candidate.id: load_target(item.candidate.kind).open(item.artifact, threads) for item in evaluations
        }
        timings = measure(runs, sample, threads)
        return {"figures": {name: timing.to_figure().to_dict() for name, timing in timings.items()}, "date": today()}

    files = {item.candidate.id: item.artifact.model_path.read_bytes() for item in evaluations}
    key = digest("latency", files, dict(one.inputs), threads, platform.node(), runtime_versions(), code_version())
    found, from_cache = cached_json("latency", key, produce)
    figures = {}
    for name, figure in found["figures"].items():
        cached = {"cached": found["date"]} if from_cache else {}
        figures[name] = Figure(figure["value"], figure["unit"], figure["how"], {**figure["detail"], **cached})
    return figures


def _predicted(
    evaluations: Sequence[Evaluation],
    one: Samples,
    initial: Mapping[str, Array],
    profile: DeviceProfile,
    threads: int,
    notes: list[str],
) -> dict[str, Figure]:
    found: dict[str, Figure] = {}
    for kind, runtime in dict.fromkeys((item.candidate.kind, item.candidate.runtime) for item in evaluations):
        group = [item for item in evaluations if (item.candidate.kind, item.candidate.runtime) == (kind, runtime)]
        try:
            counts = _instructions(group, one, initial, profile)
        except MissingProgram as error:
            reason = f"not counted: {error.message}"
            notes.append(f"{runtime}: {reason}; to do: {error.hint}")
            found.update({item.candidate.id: unavailable("ms", reason) for item in group})
            continue
        for item in group:
            count = counts[item.candidate.id]
            found[item.candidate.id] = (
                predict_latency(profile, runtime, item.candidate.scheme, count, threads)
                if isinstance(count, int)
                else unavailable("ms", str(count))
            )
    return found


def _instructions(
    group: Sequence[Evaluation], one: Samples, initial: Mapping[str, Array], profile: DeviceProfile
) -> dict[str, int | str]:
    """Instructions of one inference for each artifact, or the reason why not; all missing ones in one emulator run."""
    candidate = group[0].candidate

    def key(item: Evaluation) -> str:
        return digest(
            "instructions",
            item.artifact.model_path.read_bytes(),
            dict(one.inputs),
            profile.model_dump(mode="json")["emulator"],
            candidate.runtime,
            code_version(),
        )

    keys = {item.candidate.id: key(item) for item in group}
    known = {name: _cached_count(value) for name, value in keys.items()}
    missing = {item.candidate.id: item.artifact for item in group if known[item.candidate.id] is None}
    trace_reason = "not counted"
    if missing:
        trial = Trial(missing, candidate.runtime, one, "emulator", initial=initial, count=True)
        trace = load_target(candidate.kind).run(trial, profile)
        for name, seen in trace.observations.items():
            if seen.instructions is not None:
                keep_json("instructions", keys[name], {"count": seen.instructions})
            known[name] = seen.instructions
        trace_reason = trace.no_counts
    return {name: trace_reason if count is None else count for name, count in known.items()}


def _cached_count(key: str) -> int | None:
    found = find_json("instructions", key)
    return found["count"] if found else None


def _ram(item: Evaluation, one: Samples, initial: Mapping[str, Array], profile: DeviceProfile) -> Figure:
    """Peak memory of the runtime with this model, in a process of its own on this machine."""
    candidate = item.candidate

    def seen() -> Mapping[str, Any]:
        trial = Trial({"model": item.artifact}, candidate.runtime, one, "host", initial=initial, memory=True)
        trace = load_target(candidate.kind).run(trial, profile)
        figure = trace.observations["model"].ram
        assert figure is not None
        versions = {"runtime": trace.versions["runtime"], "machine": trace.versions["machine"]}
        return {**figure.to_dict(), **versions, "date": today()}

    key = digest("ram", item.artifact.model_path.read_bytes(), candidate.runtime, dict(one.inputs), code_version())
    found, from_cache = cached_json("ram", key, seen)
    detail = {**found["detail"], "runtime": found["runtime"], "machine": found["machine"]}
    if from_cache:
        detail["cached"] = found["date"]
    if profile.name == "host":
        return Figure(found["value"], "bytes", "measured", detail)
    detail["by"] = "the same runtime and model"
    return Figure(found["value"], "bytes", "predicted", detail)

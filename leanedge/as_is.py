"""A model that is int8 already (`.tflite`): simplified exactly, fitted to the device, proved equal; never changed.

It is not quantized again and nothing is pruned, so there is one candidate a target kind and no data is needed: it is
proved on made inputs, against the file as it was given.
"""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.assemble import FIGURES, command_of, copy_artifact, layer_rows, memory_of, model_first, write_reports
from leanedge.cache import cached_folder, code_version, digest
from leanedge.candidates import Candidate, Refusal
from leanedge.cost.flash import runtime_bytes
from leanedge.data.samples import Samples
from leanedge.errors import UnsupportedOperator
from leanedge.evaluate import Evaluation, runtime_versions
from leanedge.export.c_source.layers import operator_macs
from leanedge.export.folder import list_files, write_folder, write_manifest
from leanedge.figures import Figure, unavailable
from leanedge.graph.run import run_all
from leanedge.integer_file import IN_C, integer_artifact, why_not_here, write_integers
from leanedge.metric import Score
from leanedge.plan import Choice, Priced, choose
from leanedge.pricing import excess_of, price, price_built
from leanedge.program.integer_ports import integer_ports
from leanedge.program.simplify import simplify, without_final_softmax
from leanedge.program.simulate import initial_state, simulate_step
from leanedge.program.tflite_file import load_tflite
from leanedge.proof import checks_of, verdict_of
from leanedge.report import content
from leanedge.revalidate import keep_for_revalidation
from leanedge.target import Trial, load_target
from leanedge.validate import Proving, Tolerance, compare, emulate, samples_to_emulate
from leanedge.version import __version__
from leanedge.way_out import with_way_out, words_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.program.simplify import Note
    from leanedge.program.simulate.integer import Arithmetic
    from leanedge.program.types import Program
    from leanedge.report.terminal import Steps
    from leanedge.request import Request
    from leanedge.target import Artifact

__all__ = ["build_as_is", "made_inputs"]

Array = np.ndarray[Any, Any]

_MOST_SAMPLES = 64
_REASON = "a model that is int8 already is never quantized again nor pruned"


@dataclass(frozen=True)
class _Given:
    """The file, and what is made of it."""

    name: str
    where: str
    data: bytes
    original: Program
    program: Program
    notes: tuple[Note, ...]


def build_as_is(request: Request, steps: Steps) -> content.Report:
    """Builds an int8 .tflite file for a device and writes the output folder.

    Raises:
        ModelError: The file is damaged.
        UnsupportedOperator: An operator can't be had on the device, or is not int8.
    """
    with steps.step("Reading the model") as step:
        given = _read(Path(request.model), request.logits)
        macs = sum(operator_macs(given.program, operator) for operator in given.program.operators)
        step.done(f"{given.name}: {len(given.program.operators)} operators, {macs:,} MACs")
    for note in given.notes:
        steps.say(str(note))
    samples = made_inputs(given.program, _MOST_SAMPLES)
    with steps.step("Proving the simplified model equal") as step:
        checks = [_equal_to_original(given, samples)]
        step.done(checks[0].detail)
    artifacts, refused = _artifacts(request, given)
    evaluations = [_evaluation(artifact) for artifact in artifacts]
    with steps.step("Pricing it for the device") as step:
        priced, notes = _priced(request, given, evaluations, samples)
        step.done(request.profile.title)
    choice = with_way_out(choose(priced, request.budget, 0.0, request.objective), request.profile)
    if choice.chosen is not None:
        with steps.step("Proving the choice") as step:
            checks += [*checks_of(choice.chosen.evidence), *_prove(choice.chosen, request, given, samples)]
            step.done("failed" if any(check.passed is False for check in checks) else "passed")
    with steps.step("Writing the output") as step:
        report = _write(request, given, choice, refused, tuple(checks), samples, notes)
        step.done(str(request.output))
    return report


def _read(path: Path, logits: bool) -> _Given:
    original = load_tflite(path)
    if logits:
        original = without_final_softmax(integer_ports(original))
    done = simplify(original)
    return _Given(path.stem, str(path), path.read_bytes(), original, done.program, done.notes)


def made_inputs(program: Program, number: int) -> Samples:
    """Inputs that nobody recorded: both extremes, smooth waves, then noise over the full range.

    Args:
        program: Its inputs are integers, or floats that a quantize reads.
        number: How many.

    Returns:
        Input -> (number, *shape) in the ports' own types and the model's own layout.
    """
    rng = np.random.default_rng(0)
    made: dict[str, Array] = {}
    inside = {port.name: program.tensors[port.tensor] for port in integer_ports(program).inputs}
    for port in program.inputs:
        tensor = inside[port.name]
        info = np.iinfo(tensor.dtype)
        rows = [np.full(tensor.shape, info.min), np.full(tensor.shape, info.max)]
        phase = np.arange(tensor.elements).reshape(tensor.shape)
        middle, half = (info.min + info.max) / 2, (info.max - info.min) / 2
        rows += [middle + half * np.sin(phase / width + width) for width in (3.0, 17.0, 101.0)]
        noise = max(0, number - len(rows))
        rows += list(rng.integers(info.min, info.max, (noise, *tensor.shape), np.int64, endpoint=True))
        rows = [np.clip(np.rint(row), info.min, info.max).astype(tensor.dtype) for row in rows[:number]]
        if port.tensor != tensor.name:  # the file itself takes floats
            assert tensor.quant is not None
            rows = [tensor.quant.dequantize(row) for row in rows]
        turned = [row if port.inverse is None else row.transpose(port.inverse) for row in rows]
        made[port.name] = np.ascontiguousarray(np.stack(turned))
    return Samples(made)


def _equal_to_original(given: _Given, samples: Samples) -> content.Check:
    """The simplified Program against the file as it was given, in the reference arithmetic."""
    some = samples.take(np.arange(min(len(samples), 16)))
    expected, found = _simulated(given.original, some), _simulated(given.program, some)
    rule = "bit for bit: exact simplifications"
    passed, words = compare(expected, found, dict.fromkeys(expected, Tolerance(0.0, rule)))
    taken = f"; {len(given.notes)} simplifications" if given.notes else "; nothing to simplify"
    return content.Check("simplified.outputs", passed, f"{len(some)} made inputs: {words}{taken}", rule)


def _simulated(program: Program, samples: Samples, arithmetic: Arithmetic = "tflm") -> dict[str, Array]:
    """Outputs of samples one after another, states kept between them."""
    state = initial_state(program)
    rows = []
    for sample in samples:
        made, state = simulate_step(program, sample, state, arithmetic)
        rows.append(made)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _artifacts(request: Request, given: _Given) -> tuple[list[Artifact], list[Refusal]]:
    """One for each of the device's target kinds that takes it, written to the cache; the rest refused."""
    made: list[Artifact] = []
    refused: list[Refusal] = []
    seen = set()
    key = digest("as is", given.data, request.logits, code_version())
    folder, _ = cached_folder("as_is", key, lambda folder: write_integers(given.program, folder))
    for entry in request.profile.runtimes:
        if entry.target in seen:
            continue
        seen.add(entry.target)
        candidate = Candidate("w8a8", "dense", 0.0, entry.target, entry.runtime)
        if reason := why_not_here(entry):
            refused.append(Refusal(candidate, reason))
            continue
        made.append(integer_artifact(given.program, entry, folder))
        refused.append(Refusal(replace(candidate, pattern="channel", level=0.25), _REASON))
    if not made:
        raise UnsupportedOperator(
            f"no runtime of {request.profile.name} takes a .tflite file",
            where=given.where,
            allowed="; ".join(f"{item.candidate.runtime}: {item.reason}" for item in refused),
            hint="choose another device, or give the float model as ONNX",
        )
    return made, refused


def _evaluation(artifact: Artifact) -> Evaluation:
    candidate = Candidate("w8a8", "dense", 0.0, artifact.kind, artifact.runtime)
    return Evaluation(candidate, artifact, Score(1.0, 0, None, None), 0.0, 0.0, {}, {}, {}, False)


def _priced(
    request: Request, given: _Given, evaluations: list[Evaluation], samples: Samples
) -> tuple[list[Priced], tuple[str, ...]]:
    building = [item for item in evaluations if load_target(item.candidate.kind).build is not None]
    others = [item for item in evaluations if item not in building]
    priced: list[Priced] = []
    notes: list[str] = []
    if building:
        options = request.options_for(given.name, given.where, hashlib.sha256(given.data).hexdigest())
        pricing = price_built(building, request.profile, options)
        for item in building:
            built = pricing.built[item.candidate.id]
            estimate = pricing.estimates[item.candidate.id]
            made = replace(item, artifact=built.artifact)
            over = excess_of(request.budget, estimate, built)
            priced.append(Priced(made, estimate, over, built.layers, built.evidence, built.shortages))
        notes += pricing.notes
    if others:
        pricing = price(others, samples.take(np.arange(1)), {}, request.profile, request.threads)
        for item in others:
            estimate = pricing.estimates[item.candidate.id]
            priced.append(Priced(item, estimate, request.budget.excess(estimate)))
        notes += pricing.notes
    return priced, tuple(notes)


def _prove(chosen: Priced, request: Request, given: _Given, samples: Samples) -> list[content.Check]:
    artifact = chosen.evaluation.artifact
    target = load_target(artifact.kind)
    checks = [_c_check(artifact, given, samples) if artifact.kind in IN_C else _lite_check(chosen, request, samples)]
    if request.profile.emulator is not None or target.build is not None:
        checks += emulate(artifact, _proving(chosen, samples), request.profile).checks
    elif request.profile.name != "host":
        reason = f"not checked: {request.profile.name} has no emulator; validate on the device itself"
        checks.append(content.Check("emulator.outputs", None, reason))
    return checks


def _c_check(artifact: Artifact, given: _Given, samples: Samples) -> content.Check:
    """The generated C on this machine, against the file as it was given."""
    reference = _reals(given.original, _simulated(given.original, samples))
    found = run_all(load_target(artifact.kind).open(artifact, 1), samples)
    rule = "bit for bit: the reference arithmetic, in integers"
    passed, words = compare(reference, found, dict.fromkeys(reference, Tolerance(0.0, rule)))
    return content.Check("host.outputs", passed, f"{len(samples)} made inputs, generated C: {words}", rule)


def _lite_check(chosen: Priced, request: Request, samples: Samples) -> content.Check:
    """The file as it was written, by its runtime's reference kernels on this machine, against their arithmetic."""
    artifact = chosen.evaluation.artifact
    some = samples.take(np.arange(min(len(samples), 16)))
    trial = Trial({"model": artifact}, artifact.runtime, some, "host", kernels="reference")
    trace = load_target(artifact.kind).run(trial, request.profile)
    program = load_tflite(artifact.model_path)
    reference = _reals(program, _simulated(program, some, "litert"))
    rule = "bit for bit: the arithmetic of the runtime's reference kernels"
    exact = Tolerance(0.0, rule)
    passed, words = compare(reference, trace.observations["model"].outputs, dict.fromkeys(reference, exact))
    ran = f"{trace.versions['runtime']} ({trace.versions['kernels']} kernels)"
    return content.Check("host.outputs", passed, f"{len(some)} made inputs, {ran}: {words}", rule)


def _reals(program: Program, outputs: Mapping[str, Array]) -> dict[str, Array]:
    """What integer outputs mean; floats as they are."""
    quants = {port.name: program.tensors[port.tensor].quant for port in program.outputs}
    return {
        name: array if (quant := quants[name]) is None or array.dtype.kind == "f" else quant.dequantize(array)
        for name, array in outputs.items()
    }


def _proving(chosen: Priced, samples: Samples) -> Proving:
    artifact = chosen.evaluation.artifact
    counted = chosen.estimate.more.get("instructions")
    number = samples_to_emulate(len(samples), int(counted.value) if counted and counted.value else None)
    exact = Tolerance(0.0, "bit for bit: integer kernels up to here")
    near = Tolerance(2 / 255, "within 2 steps of 255: softmax in float on the way")
    rules = {name: exact if name in artifact.integer_outputs else near for name in artifact.output_layouts}
    return Proving(samples.take(np.arange(number)), {}, rules)


def _write(
    request: Request,
    given: _Given,
    choice: Choice,
    refused: list[Refusal],
    checks: tuple[content.Check, ...],
    samples: Samples,
    notes: tuple[str, ...],
) -> content.Report:
    made: list[content.Report] = []
    chosen = choice.chosen

    def fill(folder: Path) -> None:
        if chosen is not None:
            artifact = chosen.evaluation.artifact
            copy_artifact(artifact, folder)
            proving = _proving(chosen, samples)
            run = load_target(artifact.kind).open(artifact, 1)
            keep_for_revalidation(
                folder, artifact, proving, lambda some: _reals(given.original, run_all(run, some)), request.profile
            )
        report = _report(request, given, choice, refused, checks, list_files(folder), notes)
        made.append(report)
        write_reports(report, folder)
        write_manifest(
            folder,
            versions={"leanedge": __version__, **runtime_versions()},
            seeds={},
            hashes={
                "model": hashlib.sha256(given.data).hexdigest(),
                "profile": digest(request.profile.model_dump(mode="json")),
            },
        )

    write_folder(request.output, fill)
    return made[0]


def _report(
    request: Request,
    given: _Given,
    choice: Choice,
    refused: list[Refusal],
    checks: tuple[content.Check, ...],
    files: tuple[content.FileEntry, ...],
    notes: tuple[str, ...],
) -> content.Report:
    chosen = choice.chosen
    limits = {name: limit for name, limit in request.budget.to_dict().items() if limit is not None}
    failed = content.Verdict(False, (*checks, content.Check("fits", False, choice.why, "budget and the device")))
    return content.Report(
        tool=content.ToolInfo(__version__, runtime_versions()),
        target=content.TargetInfo(
            request.profile.name, request.profile.title, chosen.evaluation.candidate.kind if chosen else ""
        ),
        model=content.ModelInfo(
            name=given.name,
            sha256=hashlib.sha256(given.data).hexdigest(),
            inputs=_infos(given.original, inputs=True),
            outputs=_infos(given.original, inputs=False),
            parameters=sum(t.elements for t in given.original.tensors.values() if t.data is not None),
            macs=sum(operator_macs(given.original, operator) for operator in given.original.operators),
        ),
        data=content.DataInfo({"made": _MOST_SAMPLES}, 0, "equality", "fraction"),
        budget=content.BudgetInfo(limits, None, None),
        chosen=_chosen(choice),
        artifact=content.ArtifactInfo(model_first(files, chosen)),
        figures=_figures(request, chosen),
        candidates=(*(_row(priced, choice) for priced in choice.ranked), *map(_refused, refused)),
        layers=layer_rows(chosen.layers) if chosen else (),
        memory=memory_of(chosen.layers) if chosen and chosen.layers else content.MemoryInfo(),
        verdict=verdict_of(checks, request.require_validation) if chosen else failed,
        notes=(*map(str, given.notes), *notes),
        commands=(command_of(request, given.where),),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def _infos(program: Program, *, inputs: bool) -> tuple[content.TensorInfo, ...]:
    ports = program.inputs if inputs else program.outputs
    tensors = [(port.name, program.tensors[port.tensor]) for port in ports]
    return tuple(content.TensorInfo(name, tensor.dtype, tensor.shape) for name, tensor in tensors)


def _chosen(choice: Choice) -> content.Chosen | None:
    if choice.chosen is None:
        return None
    candidate = choice.chosen.evaluation.candidate
    why = f"{_REASON}; simplified exactly and fitted to the device"
    return content.Chosen(candidate.id, candidate.pattern, candidate.level, candidate.scheme, candidate.runtime, why)


def _figures(request: Request, chosen: Priced | None) -> dict[str, Figure]:
    reason = "no labelled data: the outputs are proved equal to the given file's"
    figures = {"accuracy": unavailable("fraction", reason)}
    if chosen is None:
        return {**figures, **{name: unavailable("", "it does not fit the device") for name in FIGURES}}
    figures |= {name: getattr(chosen.estimate, name) for name in FIGURES} | dict(chosen.estimate.more)
    if not chosen.layers:
        figures["runtime_bytes"] = runtime_bytes(request.profile, chosen.evaluation.candidate.runtime)
    return figures


def _row(priced: Priced, choice: Choice) -> content.CandidateRow:
    candidate = priced.evaluation.candidate
    figures = {name: getattr(priced.estimate, name) for name in FIGURES} | dict(priced.estimate.more)
    status: content.Status = "chosen" if priced is choice.chosen else "too_big" if priced.excess else "fits"
    reason = "; ".join(map(words_of, priced.shortages))
    reason = reason or ", ".join(f"{name} is {amount:.9g} over the budget" for name, amount in priced.excess.items())
    return content.CandidateRow(
        candidate.id,
        candidate.pattern,
        candidate.level,
        candidate.scheme,
        candidate.runtime,
        status,
        reason or ("" if status == "chosen" else "slower"),
        figures,
        dict(priced.excess),
    )


def _refused(refusal: Refusal) -> content.CandidateRow:
    candidate = refusal.candidate
    return content.CandidateRow(
        candidate.id,
        candidate.pattern,
        candidate.level,
        candidate.scheme,
        candidate.runtime,
        refusal.status,
        refusal.reason,
    )

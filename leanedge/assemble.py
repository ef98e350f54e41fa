"""From what a build found to its report and its output folder."""

from __future__ import annotations

import datetime
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from leanedge.cache import digest
from leanedge.cost.flash import runtime_bytes
from leanedge.evaluate import pruned, runtime_versions
from leanedge.export.folder import list_files, write_folder, write_manifest
from leanedge.figures import Figure, unavailable
from leanedge.graph.layers import activation_bytes, describe_layers
from leanedge.graph.operators import find_operators
from leanedge.plan import Plan, plan_of
from leanedge.proof import proving_of, verdict_of
from leanedge.report import content
from leanedge.report.html import write_html
from leanedge.report.json_file import write_json
from leanedge.report.junit import write_junit
from leanedge.report.markdown import write_markdown
from leanedge.revalidate import keep_for_revalidation
from leanedge.target import load_target
from leanedge.version import __version__
from leanedge.way_out import words_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.budget import Estimate
    from leanedge.candidates import Refusal
    from leanedge.evaluate import Evaluation, Workbench
    from leanedge.load import LoadedModel
    from leanedge.metric import Metric
    from leanedge.plan import Choice, Priced
    from leanedge.proof import Proof
    from leanedge.request import Request
    from leanedge.target import Artifact, BuiltLayer

__all__ = [
    "FIGURES",
    "Findings",
    "command_of",
    "copy_artifact",
    "layer_rows",
    "make_report",
    "memory_of",
    "model_first",
    "write_output",
    "write_reports",
]

FIGURES = ("latency_ms", "ram_bytes", "flash_bytes", "energy_uj")


@dataclass(frozen=True)
class Findings:
    """All that a build found.

    Attributes:
        request: What was asked.
        loaded: The model that was given.
        bench: The float model and the sets.
        data_sha256: Hash of the samples.
        choice: What the rule decided.
        baseline: The float model as the device's fastest runtime runs it, priced.
        proof: What the test set and validation showed; None when nothing fits.
        refused: What was not made, or failed, and why.
        notes: What the reader must know.
        interrupted: Stopped by Ctrl-C.
    """

    request: Request
    loaded: LoadedModel
    bench: Workbench
    data_sha256: str
    choice: Choice
    baseline: Priced | None
    proof: Proof | None
    refused: tuple[Refusal, ...]
    notes: tuple[str, ...]
    interrupted: bool


def write_output(found: Findings) -> content.Report:
    """Writes the output folder, whole or not at all: artifact, plan, reports, manifest.

    Raises:
        OutputError: The folder can't be written.
    """
    made: list[content.Report] = []

    def fill(folder: Path) -> None:
        chosen = found.choice.chosen
        if chosen is not None:
            copy_artifact(chosen.evaluation.artifact, folder)
            (folder / "plan.json").write_text(_plan(found, chosen.evaluation).to_json())
            artifact, bench = chosen.evaluation.artifact, found.bench
            run = load_target(artifact.kind).open(artifact, 1)
            proving = proving_of(chosen.evaluation, bench)
            keep_for_revalidation(
                folder, artifact, proving, lambda samples: bench.run(run, samples), found.request.profile
            )
        report = make_report(found, list_files(folder))
        made.append(report)
        write_reports(report, folder)
        write_manifest(
            folder,
            versions={"leanedge": __version__, **runtime_versions()},
            seeds={"split": found.request.seed},
            hashes={
                "model": found.loaded.source_sha256,
                "data": found.data_sha256,
                "profile": digest(found.request.profile.model_dump(mode="json")),
            },
        )

    write_folder(found.request.output, fill)
    return made[0]


def write_reports(report: content.Report, folder: Path) -> None:
    """The report in each of its forms."""
    write_json(report, folder / "report.json")
    write_html(report, folder / "report.html")
    write_markdown(report, folder / "report.md")
    write_junit(report, folder / "report.xml")


def copy_artifact(artifact: Artifact, folder: Path) -> None:
    """Copies an artifact's files to the output folder."""
    for name in artifact.files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(artifact.folder / name, folder / name)


def _plan(found: Findings, chosen: Evaluation) -> Plan:
    ids = [operator.id for operator in find_operators(found.bench.graph)]
    return plan_of(
        chosen,
        ids,
        target=found.request.profile.name,
        model_sha256=found.loaded.source_sha256,
        data_sha256=found.data_sha256,
        seed=found.request.seed,
    )


def make_report(found: Findings, files: tuple[content.FileEntry, ...]) -> content.Report:
    """Everything that the report says."""
    request, bench, chosen = found.request, found.bench, found.choice.chosen
    checks = found.proof.checks if found.proof else ()
    return content.Report(
        tool=content.ToolInfo(__version__, runtime_versions()),
        target=content.TargetInfo(
            request.profile.name,
            request.profile.title,
            chosen.evaluation.candidate.kind if chosen else "",
        ),
        model=_model(found),
        data=_data(bench, request.seed),
        budget=_budget(found),
        chosen=_chosen(found.choice),
        artifact=content.ArtifactInfo(model_first(files, chosen)),
        figures=_figures(found),
        candidates=_rows(found),
        layers=_layers(bench, chosen) if chosen else (),
        memory=_memory(bench, chosen) if chosen else content.MemoryInfo(),
        verdict=verdict_of(checks, request.require_validation)
        if chosen
        else content.Verdict(False, (content.Check("fits", False, found.choice.why, "budget and --max-drop"),)),
        notes=(*bench.sets.notes, *found.notes),
        interrupted=found.interrupted,
        commands=(command_of(request, found.loaded.where),),
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def command_of(request: Request, model: str) -> str:
    """The command line that asks for the same again."""
    words = ["leanedge", "build", model, "--target", request.profile.name]
    if isinstance(request.data, (str, Path)):
        words += ["--data", str(request.data)]
    limits = {name: limit for name, limit in request.budget.to_dict().items() if limit is not None}
    if limits:
        words += [
            "--budget",
            ",".join(f"{_WORDS[name][0]}={limit:g}{_WORDS[name][1]}" for name, limit in limits.items()),
        ]
    words += ["--max-drop", f"{request.max_drop:g}", "--objective", request.objective]
    if request.profile.is_microcontroller:
        words += ["--optimize", request.optimize]
    words += ["--threads", str(request.threads), "--seed", str(request.seed)]
    return shlex.join(words)


_WORDS = {
    "latency_ms": ("latency", "ms"),
    "ram_bytes": ("ram", "B"),
    "flash_bytes": ("flash", "B"),
    "energy_uj": ("energy", "uJ"),
}


def model_first(files: tuple[content.FileEntry, ...], chosen: Priced | None) -> tuple[content.FileEntry, ...]:
    """The artifact's own files, the model before the others."""
    names = chosen.evaluation.artifact.files if chosen else ()
    return tuple(sorted((f for f in files if f.path in names), key=lambda file: names.index(file.path)))


def _model(found: Findings) -> content.ModelInfo:
    graph = found.bench.graph
    layers = describe_layers(graph)

    def tensors(infos: object) -> tuple[content.TensorInfo, ...]:
        return tuple(content.TensorInfo(info.name, str(info.dtype), info.shape) for info in infos)  # type: ignore[attr-defined]

    return content.ModelInfo(
        name=found.loaded.name,
        sha256=found.loaded.source_sha256,
        inputs=tensors(graph.inputs),
        outputs=tensors(graph.outputs),
        parameters=sum(array.size for array in graph.constants.values() if array.dtype.kind == "f"),
        macs=sum(layer.macs or 0 for layer in layers),
    )


def _data(bench: Workbench, seed: int) -> content.DataInfo:
    sets, metric = bench.sets, bench.metric
    sizes = {"calibration": len(sets.calibration), "selection": len(sets.selection), "test": len(sets.test)}
    return content.DataInfo(
        sizes, seed, metric.name, metric.unit, metric.higher_is_better, sets.same_data, tuple(sets.notes)
    )


def _budget(found: Findings) -> content.BudgetInfo:
    limits = {name: limit for name, limit in found.request.budget.to_dict().items() if limit is not None}
    worst = found.bench.metric.worst_allowed(found.bench.reference_score, found.request.max_drop)
    return content.BudgetInfo(limits, found.request.max_drop, worst)


def _chosen(choice: Choice) -> content.Chosen | None:
    if choice.chosen is None:
        return None
    candidate = choice.chosen.evaluation.candidate
    return content.Chosen(
        candidate.id, candidate.pattern, candidate.level, candidate.scheme, candidate.runtime, choice.why
    )


def _figures(found: Findings) -> dict[str, Figure]:
    chosen, proof, baseline = found.choice.chosen, found.proof, found.baseline
    figures: dict[str, Figure] = {}
    if chosen is None or proof is None:
        return {name: unavailable(unit, "nothing fits the budget") for name, unit in _UNITS.items()}
    figures["accuracy"], figures["accuracy_fp32"] = proof.accuracy, proof.accuracy_fp32
    for name in FIGURES:
        figures[name] = getattr(chosen.estimate, name)
        if baseline is not None:
            figures[f"{name}_fp32"] = getattr(baseline.estimate, name)
    figures |= chosen.estimate.more
    if not chosen.layers:  # what is built needs no runtime beside it
        figures["runtime_bytes"] = runtime_bytes(found.request.profile, chosen.evaluation.candidate.runtime)
    return figures


_UNITS = {
    "accuracy": "fraction",
    "accuracy_fp32": "fraction",
    "latency_ms": "ms",
    "latency_ms_fp32": "ms",
    "flash_bytes": "bytes",
    "ram_bytes": "bytes",
    "energy_uj": "uJ",
}


def _rows(found: Findings) -> tuple[content.CandidateRow, ...]:
    rows = [_row(found, priced) for priced in found.choice.ranked]
    for refusal in found.refused:
        candidate = refusal.candidate
        rows.append(
            content.CandidateRow(
                candidate.id,
                candidate.pattern,
                candidate.level,
                candidate.scheme,
                candidate.runtime,
                refusal.status,
                refusal.reason,
            )
        )
    return tuple(rows)


def _row(found: Findings, priced: Priced) -> content.CandidateRow:
    item, choice = priced.evaluation, found.choice
    candidate, allowed = item.candidate, found.request.max_drop
    excess = dict(priced.excess)
    if not item.keeps(allowed):
        excess["accuracy"] = item.cautious_drop - allowed
    status, reason = _status(priced, choice, allowed, drop_unit(found.bench.metric))
    score = Figure(
        item.score.value,
        found.bench.metric.unit,
        "measured",
        {
            "set": "selection",
            "n": item.score.n,
            "interval": [item.score.low, item.score.high],
            "drop": item.drop,
            "drop_error": item.drop_error,
        },
    )
    return content.CandidateRow(
        candidate.id,
        candidate.pattern,
        candidate.level,
        candidate.scheme,
        candidate.runtime,
        status,
        reason,
        {"accuracy": score, **_estimate(priced.estimate)},
        excess,
        choice.tied if priced is choice.chosen else (),
    )


def _status(priced: Priced, choice: Choice, allowed: float, unit: str) -> tuple[content.Status, str]:
    item = priced.evaluation
    if priced is choice.chosen:
        return "chosen", ""
    if not item.keeps(allowed):
        error = f", standard error {item.drop_error:.2f}" if item.drop_error else ""
        return "too_lossy", f"loses {item.drop:.2f} {unit} on the selection set{error}"
    if "latency_ms" in priced.excess:
        return "too_slow", f"{priced.excess['latency_ms']:.3g} ms over the budget"
    if priced.shortages:
        return "too_big", "; ".join(map(words_of, priced.shortages))
    for name in ("flash_bytes", "ram_bytes"):
        if name in priced.excess:
            return "too_big", f"{name} is {priced.excess[name]:.0f} bytes over the budget"
    if "energy_uj" in priced.excess:
        return "too_much_energy", f"{priced.excess['energy_uj']:.3g} uJ over the budget"
    return "fits", "tied with the chosen one" if priced.id in choice.tied else ""


def drop_unit(metric: Metric) -> str:
    """What a drop is counted in, in short."""
    return "points" if metric.fractional else "%"


def _estimate(estimate: Estimate) -> Mapping[str, Figure]:
    return {name: getattr(estimate, name) for name in FIGURES} | dict(estimate.more)


def layer_rows(layers: tuple[BuiltLayer, ...]) -> tuple[content.LayerRow, ...]:
    """Operators as they were built, for the report."""
    return tuple(
        content.LayerRow(
            id=layer.id,
            kind=layer.kind,
            macs=layer.macs,
            weight_bytes=layer.weight_bytes,
            weight_bits=layer.weight_bits,
            activation_bits=layer.activation_bits,
            scheme=f"w{layer.weight_bits or layer.activation_bits}a{layer.activation_bits}",
            kernel=layer.kernel,
            instructions=layer.instructions,
            cycles=layer.cycles,
        )
        for layer in layers
    )


def memory_of(layers: tuple[BuiltLayer, ...]) -> content.MemoryInfo:
    """Live bytes of operators as they were built."""
    return content.MemoryInfo(
        "tensors and scratch alive at each operator, in the order of execution",
        "proved",
        tuple(content.MemoryStep(layer.id, layer.live_bytes) for layer in layers),
    )


def _layers(bench: Workbench, priced: Priced) -> tuple[content.LayerRow, ...]:
    if priced.layers:
        return layer_rows(priced.layers)
    chosen = priced.evaluation
    graph, _ = pruned(chosen.candidate, bench)
    rows = []
    for layer in describe_layers(graph):
        kept, before = chosen.channels.get(layer.id, (None, None))
        bits = chosen.weight_bits.get(layer.id)
        activation = chosen.activation_bits.get(layer.id, 32)
        # A weight tells what is multiplied; the output alone may be float after integers, or integers after float.
        in_float = activation == 32 if bits is None else bits != 8
        rows.append(
            content.LayerRow(
                id=layer.id,
                kind=layer.kind,
                macs=layer.macs or 0,
                weight_bytes=layer.weights * (bits or 32) // 8,
                weight_bits=bits,
                activation_bits=activation,
                scheme=("fp16" if bits == 16 else "fp32") if in_float else chosen.candidate.scheme,
                channels=kept,
                channels_before=before,
                in_float=in_float,
            )
        )
    return tuple(rows)


def _memory(bench: Workbench, priced: Priced) -> content.MemoryInfo:
    if priced.layers:
        return memory_of(priced.layers)
    chosen = priced.evaluation
    graph, _ = pruned(chosen.candidate, bench)
    operators = find_operators(graph)
    widths = {name: chosen.activation_bits.get(item.id, 32) for item in operators for name in item.outputs}
    sizes = activation_bytes(graph, widths)
    return content.MemoryInfo(
        "activations alive at each operator, in the graph's order (the runtime's own buffers not counted)",
        "predicted",
        tuple(content.MemoryStep(item.id, size) for item, size in zip(operators, sizes, strict=True)),
    )

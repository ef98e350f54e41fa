"""The whole of LeanEdge on one page: from a model, data and a device to a proved artifact and its report."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.as_is import build_as_is
from leanedge.assemble import Findings, drop_unit, write_output
from leanedge.cache import digest
from leanedge.candidates import Candidate, Refusal, propose
from leanedge.data.load import load_data
from leanedge.data.sets import three_sets
from leanedge.errors import InputError, OutputError, UsageError, ValidationFailed
from leanedge.evaluate import Evaluation, Workbench, evaluate
from leanedge.export.folder import check_folder
from leanedge.graph.layers import macs
from leanedge.integer_file import is_tflite
from leanedge.load import load_model
from leanedge.metric import resolve_metric, softmax_outputs
from leanedge.mix import mixed_candidates
from leanedge.plan import Choice, Priced, choose
from leanedge.pricing import excess_of, price, price_built
from leanedge.proof import checks_of, prove
from leanedge.report.terminal import silent_steps
from leanedge.request import Request, read_request
from leanedge.state import initial_state, steps_of
from leanedge.target import load_target
from leanedge.way_out import with_way_out

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from leanedge.budget import Budget
    from leanedge.data.samples import Sets
    from leanedge.load import LoadedModel
    from leanedge.pricing import Pricing
    from leanedge.report.content import Report
    from leanedge.report.terminal import RunningStep, Steps
    from leanedge.target import BuildOptions

__all__ = ["Result", "build"]


@dataclass(frozen=True)
class Result:
    """What a build gave.

    Attributes:
        folder: The output folder.
        report: Everything that report.json says.
        exit_code: 0 built and passed, 3 nothing fits, 4 validation failed, 130 interrupted.
    """

    folder: Path
    report: Report
    exit_code: int

    @property
    def artifact(self) -> Path | None:
        """The model file for the device, or None when nothing fits."""
        files = self.report.artifact.files
        return self.folder / files[0].path if files else None

    @property
    def report_html(self) -> Path:
        """The report for people."""
        return self.folder / "report.html"

    def to_dict(self) -> dict[str, Any]:
        """The content of report.json."""
        return self.report.to_dict()

    def summary(self) -> str:
        """The report as Markdown."""
        from leanedge.report.markdown import to_markdown

        return to_markdown(self.report)


def build(
    model: Any = None,
    target: str | Path | None = None,
    data: Any = None,
    *,
    test_data: Any = None,
    budget: str | Budget | None = None,
    max_drop: float | None = None,
    threads: int | None = None,
    output: str | Path | None = None,
    plan: str | Path | None = None,
    objective: str | None = None,
    optimize: str | None = None,
    logits: bool = False,
    require_validation: bool = False,
    seed: int | None = None,
    settings: str | Path | None = None,
    example_input: Any = None,
    steps: Steps | None = None,
) -> Result:
    """Makes the best version of a model that fits a device, proves it, and writes it with its report.

    Args:
        model: Path of an .onnx file (or of an int8 .tflite file, which needs no data), ``package.module:factory``,
            an onnx.ModelProto, or an nn.Module.
        target: A device's name or a profile file; default ``host``, this machine.
        data: Path, ``module:function``, dict of arrays, DataLoader, generator.
        test_data: The test set apart, in the same forms.
        budget: ``latency=20ms,ram=64MB,flash=8MB`` or a Budget.
        max_drop: Percentage points of a fractional metric, else relative percent. Default 1.
        threads: Threads on the device; default its cores.
        output: Folder to write; default ``dist/<target>``.
        plan: A plan.json to build again.
        objective: ``latency`` or ``accuracy``; default ``accuracy`` where a budget is given.
        optimize: What kernels are chosen for on a microcontroller: ``speed`` (default), ``balanced`` or ``size``.
        logits: Leave out the final softmax of a .tflite model.
        require_validation: A check that could not be made is a failure.
        seed: Of everything random. Default 0.
        settings: A leanedge.yaml; default the one in the current folder, or beside the model file.
        example_input: For an nn.Module: a tensor, or a tuple of them, of the shape it takes.
        steps: Where steps are shown; default nowhere.

    Raises:
        LeanEdgeError: Of the kind that says what is wrong; see `leanedge.errors`.
    """
    options = dict(locals())
    steps = steps or silent_steps()
    request = read_request(model, options)
    check_folder(request.output)
    if is_tflite(request.model):
        built = build_as_is(request, steps)
        return Result(request.output, built, 3 if built.chosen is None else 0 if built.verdict.passed else 4)
    loaded = _load(request, example_input, steps)
    bench, data_sha256 = _prepare(request, loaded, steps)
    candidates, refused = _propose(request, loaded, data_sha256)
    made, failed, interrupted = _make(candidates, bench, steps)
    building = request.options_for(loaded.name, loaded.where, loaded.source_sha256)
    priced, unknown, notes = _price(made, bench, request, building, steps, interrupted)
    choice = choose(priced, request.budget, request.max_drop, request.objective, drop_unit(bench.metric))
    choice = with_way_out(choice, request.profile)
    proof = None
    if choice.chosen is not None:
        with steps.step("Proving the choice") as step:
            proof = prove(choice.chosen.evaluation, bench, request.profile, step.say, emulated=not interrupted)
            proof = replace(proof, checks=(*checks_of(choice.chosen.evidence), *proof.checks))
            step.done(_passed(proof.checks))
    baseline = _baseline(priced)
    with steps.step("Writing the output") as step:
        report = write_output(
            Findings(
                request,
                loaded,
                bench,
                data_sha256,
                choice,
                baseline,
                proof,
                (*refused, *failed, *unknown),
                notes,
                interrupted,
            )
        )
        step.done(str(request.output))
    return Result(request.output, report, _exit_code(report, choice, interrupted))


def _load(request: Request, example_input: Any, steps: Steps) -> LoadedModel:
    with steps.step("Reading the model") as step:
        loaded = load_model(request.model, request.settings.input_shapes, example_input=example_input)
        parameters = sum(array.size for array in loaded.graph.constants.values())
        step.done(f"{loaded.name}: {len(loaded.graph.nodes)} nodes, {parameters:,} parameters")
    return loaded


def _prepare(request: Request, loaded: LoadedModel, steps: Steps) -> tuple[Workbench, str]:
    """Reads the data, splits it, finds the metric. Also returns the hash of all samples."""
    graph, settings = loaded.graph, request.settings
    with steps.step("Reading the data") as step:
        initial = initial_state(graph, settings.state)
        source = load_data(request.data, graph.inputs, settings)
        test = None if request.test_data is None else load_data(request.test_data, graph.inputs, settings, "test data")
        sets = _few_enough(three_sets(source, request.seed, test), macs(graph))
        softmax = softmax_outputs(graph)
        metric = resolve_metric(settings, source.samples.labels, graph.outputs, softmax)
        if test is not None:
            resolve_metric(settings, test.samples.labels, graph.outputs, softmax)  # are its labels in range?
        parts = [source, *([test] if test else [])]
        data_sha256 = digest([[dict(p.samples.inputs), p.samples.labels, p.samples.groups, p.test] for p in parts])
        bench = Workbench(
            graph=graph,
            sets=sets,
            steps=steps_of(graph, sets.calibration, settings.state_links, initial),
            metric=metric,
            state=settings.state_links,
            initial=initial,
            seed=request.seed,
            max_drop=request.max_drop,
        )
        step.done(
            f"{len(sets.calibration)} calibration, {len(sets.selection)} selection, {len(sets.test)} test samples; "
            f"metric {metric.name}"
        )
    for note in sets.notes:
        steps.say(note)
    return bench, data_sha256


SELECTION_MACS = 50_000_000_000
LEAST_SELECTION = 200


def _few_enough(sets: Sets, work: int) -> Sets:
    """Fewer selection samples for a large model, as every candidate is run on all of them; their order is spread."""
    wanted = max(LEAST_SELECTION, SELECTION_MACS // max(1, work))
    if len(sets.selection) <= wanted:
        return sets
    note = f"selection: {wanted} of {len(sets.selection)} samples, as one inference takes {work / 1e6:,.0f} M MACs"
    return replace(sets, selection=sets.selection.take(np.arange(wanted)), notes=(*sets.notes, note))


def _propose(
    request: Request, loaded: LoadedModel, data_sha256: str
) -> tuple[tuple[Candidate, ...], tuple[Refusal, ...]]:
    """Candidates, the float baseline first; with a plan only the baseline and the plan's own."""
    candidates, refused = propose(loaded.graph, request.profile)
    plan = request.plan
    if plan is None:
        return candidates, refused
    for what, ours, theirs in (
        ("model", loaded.source_sha256, plan.model_sha256),
        ("data", data_sha256, plan.data_sha256),
        ("target", request.profile.name, plan.target),
        ("seed", request.seed, plan.seed),
    ):
        if ours != theirs:
            raise UsageError(
                f"the plan was made with another {what} ({theirs})",
                where="--plan",
                allowed=f"the {what} it was made with; here it is {ours}",
                hint=f"give that {what}, or build without --plan",
            )
    return tuple(dict.fromkeys((candidates[0], plan.candidate))), ()


def _make(
    candidates: tuple[Candidate, ...], bench: Workbench, steps: Steps
) -> tuple[list[Evaluation], list[Refusal], bool]:
    """Makes and scores each candidate, as many at once as there are cores; after Ctrl-C what is made so far stands."""
    results: dict[Candidate, Evaluation | Refusal] = {}
    # What a cut loses in float comes first: it tells which cuts need not be tried in other schemes.
    floats = [item for item in candidates if (item.scheme, item.kind) == ("fp32", candidates[0].kind)]
    rest = [item for item in candidates if item not in floats]
    interrupted = False
    with steps.step("Making and scoring candidates", total=len(candidates)) as step:
        try:
            _ = bench.key, bench.reference_score  # once, before the threads ask for them
            _attempt_all(floats, bench, results, step)
            hopeful = []
            for candidate in rest:
                reason = _no_hope(candidate, results, floats, bench.max_drop)
                if reason:
                    results[candidate] = Refusal(candidate, reason, "not_tried")
                    step.advance()
                else:
                    hopeful.append(candidate)
            _attempt_all(hopeful, bench, results, step)
            for extra in mixed_candidates(results, bench):
                results[extra] = _attempt(extra, bench)
        except KeyboardInterrupt:
            interrupted = True
            if not any(isinstance(item, Evaluation) for item in results.values()):
                raise
            for candidate in candidates:
                results.setdefault(candidate, Refusal(candidate, "the build was interrupted", "not_tried"))
        ordered = [results[item] for item in (*candidates, *(item for item in results if item not in candidates))]
        made = [item for item in ordered if isinstance(item, Evaluation)]
        failed = [item for item in ordered if isinstance(item, Refusal)]
        cached = sum(item.from_cache for item in made)
        step.done(f"{len(made)} made{f' ({cached} from the cache)' if cached else ''}, {len(failed)} not")
    if not made:
        raise ValidationFailed("no candidate could be made: " + "; ".join(item.reason for item in failed))
    return made, failed, interrupted


def _attempt_all(
    candidates: list[Candidate], bench: Workbench, results: dict[Candidate, Evaluation | Refusal], step: RunningStep
) -> None:
    """Fills `results`. Runtimes and numpy let go of Python's lock, so threads use the cores."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        waiting = {pool.submit(_attempt, candidate, bench): candidate for candidate in candidates}
        try:
            for done in as_completed(waiting):
                results[waiting[done]] = done.result()
                step.advance()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            for future, candidate in waiting.items():
                if future.done() and not future.cancelled() and future.exception() is None:
                    results[candidate] = future.result()
            raise


HOPELESS = 2.0
"""A cut whose float model already loses so many times the allowed drop is not tried in other schemes."""


def _no_hope(
    candidate: Candidate, results: Mapping[Candidate, Evaluation | Refusal], floats: list[Candidate], max_drop: float
) -> str:
    if candidate.pattern == "dense":
        return ""
    same = next((results[item] for item in floats if item.level == candidate.level), None)
    if isinstance(same, Refusal):
        return same.reason
    if same is None or same.drop <= HOPELESS * max_drop:
        return ""
    return f"this cut loses {same.drop:.2f} even in fp32, where {max_drop:g} is allowed"


_ALONE = threading.Lock()


def _attempt(candidate: Candidate, bench: Workbench) -> Evaluation | Refusal:
    try:
        with _ALONE if load_target(candidate.kind).one_at_a_time else nullcontext():
            return evaluate(candidate, bench)
    except OutputError:
        raise  # the disk is full: no candidate's fault
    except ValidationFailed as error:
        return Refusal(candidate, str(error), "failed")
    except InputError as error:
        return Refusal(candidate, str(error), "refused")


def _price(
    made: list[Evaluation], bench: Workbench, request: Request, options: BuildOptions, steps: Steps, interrupted: bool
) -> tuple[list[Priced], list[Refusal], tuple[str, ...]]:
    with steps.step("Pricing them for the device") as step:
        if all(load_target(item.candidate.kind).build for item in made):
            pricing = price_built(made, request.profile, options)
            made = [
                replace(item, artifact=pricing.built[item.candidate.id].artifact)
                for item in made
                if item.candidate.id in pricing.built
            ]
        else:
            one = bench.sets.selection.take(np.arange(1))
            pricing = price(made, one, bench.initial, request.profile, request.threads, count=not interrupted)
        priced, unknown = _against_budget(made, pricing, request.budget, interrupted)
        unknown += pricing.refused
        step.done(request.profile.title)
    for note in pricing.notes:
        steps.say(note)
    return priced, unknown, pricing.notes


def _against_budget(
    made: list[Evaluation], pricing: Pricing, budget: Budget, interrupted: bool
) -> tuple[list[Priced], list[Refusal]]:
    """Prices with what is over the budget; refuses candidates of which a limited figure is not known.

    Raises:
        UsageError: It is known of none, and not because the build was interrupted.
    """
    priced, unknown, why = [], [], None
    for item in made:
        estimate = pricing.estimates[item.candidate.id]
        built = pricing.built.get(item.candidate.id)
        try:
            extra = (built.layers, built.evidence, built.shortages) if built else ()
            priced.append(Priced(item, estimate, excess_of(budget, estimate, built), *extra))
        except UsageError as error:
            unknown.append(Refusal(item.candidate, error.message))
            why = why or error
    if why is not None and not priced and not interrupted:
        raise why
    return priced, unknown


def _baseline(priced: list[Priced]) -> Priced | None:
    """The float model as the device's fastest runtime runs it: what there would be without compression."""
    floats = [r for r in priced if (r.evaluation.candidate.scheme, r.evaluation.candidate.pattern) == ("fp32", "dense")]

    def latency(row: Priced) -> float:
        value = row.estimate.latency_ms.value
        return float("inf") if value is None else value

    return min(floats, key=latency, default=None)


def _passed(checks: tuple[Any, ...]) -> str:
    failed = [check.name for check in checks if check.passed is False]
    left = [check.name for check in checks if check.passed is None]
    text = f"failed: {', '.join(failed)}" if failed else "passed"
    return f"{text}; not checked: {', '.join(left)}" if left else text


def _exit_code(report: Report, choice: Choice, interrupted: bool) -> int:
    if interrupted:
        return 130
    if choice.chosen is None:
        return 3
    return 0 if report.verdict.passed else 4

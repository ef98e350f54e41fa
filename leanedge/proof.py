"""Opens the test set, once, for the chosen artifact and for the float model, and has the artifact checked."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.cache import code_version, digest, find_json, keep_json, today
from leanedge.evaluate import pruned, runtime_versions
from leanedge.figures import Figure
from leanedge.graph.layers import describe_layers
from leanedge.graph.run import float_runner
from leanedge.metric import Score
from leanedge.report.content import Check, Verdict
from leanedge.target import Trial, load_target
from leanedge.validate import (
    Emulation,
    Proving,
    Tolerance,
    compare,
    emulate,
    makers_of,
    samples_to_emulate,
    shaped,
    tolerance_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from leanedge.evaluate import Evaluation, Workbench
    from leanedge.profile import DeviceProfile
    from leanedge.target import Artifact, Evidence

__all__ = ["Proof", "checks_of", "prove", "proving_of", "verdict_of"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Proof:
    """What the test set and the validation showed.

    Attributes:
        accuracy: Of the chosen artifact on the test set.
        accuracy_fp32: Of the float model on the test set.
        checks: Every check.
        evidence: Runtime -> versions of what ran in emulation.
    """

    accuracy: Figure
    accuracy_fp32: Figure
    checks: tuple[Check, ...]
    evidence: Mapping[str, Mapping[str, str]]


def prove(
    chosen: Evaluation,
    bench: Workbench,
    profile: DeviceProfile,
    say: Callable[[str], None],
    emulated: bool = True,
) -> Proof:
    """Scores the chosen artifact and the float model on the test set, and validates the artifact.

    Args:
        chosen: What ships.
        bench: The float model and the sets.
        profile: The device.
        say: Is told what is being done.
        emulated: False after Ctrl-C: emulation is left out, and the checks say so.
    """
    key = digest(
        _files(chosen.artifact),
        bench.key,
        dict(bench.sets.test.inputs),
        bench.sets.test.labels,
        profile.model_dump(mode="json"),
        bench.max_drop,
        chosen.score.value,
        runtime_versions(),
        code_version(),
    )

    def produce() -> Mapping[str, Any]:
        say("test set")
        reference = bench.run(float_runner(bench.graph), bench.sets.test)
        target = load_target(chosen.candidate.kind)
        outputs = bench.run(target.open(chosen.artifact, 1), bench.sets.test)
        labels = bench.sets.test.labels
        ours, theirs = bench.metric.score(outputs, labels, reference), bench.metric.score(reference, labels, reference)
        proving = proving_of(chosen, bench)
        checks = [_accuracy_check(bench, theirs, ours, outputs, reference)]
        checks.append(_own_process_check(chosen.artifact, proving, profile, outputs))
        evidence: Mapping[str, Mapping[str, str]] = {}
        can_emulate = profile.emulator is not None or target.build is not None
        if emulated and can_emulate:
            say("running it in the emulated device")
            emulation = emulate(chosen.artifact, proving, profile)
            checks += [*emulation.checks, *_emulated_accuracy(bench, emulation, reference)]
            evidence = emulation.versions
        elif emulated and profile.name != "host":
            reason = f"not checked: {profile.name} has no emulator; validate on the device itself"
            checks.append(Check("emulator.outputs", None, reason))
        elif not emulated and can_emulate:
            checks.append(Check("emulator.outputs", None, "not checked: the build was interrupted"))
        return {
            "accuracy": asdict(replace(ours, per_sample=None)),
            "accuracy_fp32": asdict(replace(theirs, per_sample=None)),
            "checks": [asdict(check) for check in checks],
            "evidence": {name: dict(versions) for name, versions in evidence.items()},
            "complete": emulated and all(check.passed is not None for check in checks),
        }

    found, from_cache = _kept(key, produce)
    checks = tuple(Check(**check) for check in found["checks"])
    if from_cache:
        checks = tuple(
            Check(check.name, check.passed, f"{check.detail} (cached, {found['date']})", check.rule) for check in checks
        )
    return Proof(
        _accuracy(bench, Score(**found["accuracy"])),
        _accuracy(bench, Score(**found["accuracy_fp32"])),
        checks,
        found["evidence"],
    )


def checks_of(evidence: tuple[Evidence, ...]) -> tuple[Check, ...]:
    """What was checked while an artifact was built, as checks of the verdict."""
    return tuple(Check(item.name, item.passed, item.detail, item.rule) for item in evidence)


def verdict_of(checks: tuple[Check, ...], require_validation: bool) -> Verdict:
    """Passed when no check failed and, where validation is required, none was left out."""
    failed = any(check.passed is False for check in checks)
    left_out = any(check.passed is None for check in checks)
    return Verdict(not failed and not (require_validation and left_out), checks)


def _kept(key: str, produce: Callable[[], Mapping[str, Any]]) -> tuple[dict[str, Any], bool]:
    """The evidence filed under `key`, with its date; evidence with checks left out is not kept."""
    found = find_json("proof", key)
    if found is not None:
        return found, True
    made = {**produce(), "date": today()}
    if made["complete"]:
        return keep_json("proof", key, made), False
    return made, False


def _files(artifact: Artifact) -> list[bytes]:
    return [(artifact.folder / name).read_bytes() for name in artifact.files]


def _accuracy(bench: Workbench, score: Score) -> Figure:
    detail: dict[str, Any] = {
        "metric": bench.metric.name,
        "set": "test",
        "n": score.n,
        "interval": [score.low, score.high],
    }
    if bench.sets.same_data:
        detail["note"] = "selected on the same data"
    return Figure(score.value, bench.metric.unit, "measured", detail)


def proving_of(chosen: Evaluation, bench: Workbench, instructions: int | None = None) -> Proving:
    """Test samples to validate with, and the rule for each output."""
    graph, _ = pruned(chosen.candidate, bench)
    quantized = any(bits == 8 for bits in chosen.activation_bits.values())
    if instructions is None:
        work = sum(layer.macs or 0 for layer in describe_layers(graph))
        instructions = max(100_000, int(work * (0.4 if quantized else 0.7)))
    samples = bench.sets.test.take(np.arange(samples_to_emulate(len(bench.sets.test), instructions)))
    exact = chosen.artifact.integer_outputs
    rounding: dict[str, float] = {}
    if quantized and any(info.name not in exact for info in graph.outputs):
        ours = bench.run(load_target(chosen.candidate.kind).open(chosen.artifact, 1), samples)
        theirs = bench.run(float_runner(graph), samples)
        rounding = {name: _largest_part(ours[name], theirs[name]) for name in ours}
    return Proving(
        samples,
        bench.initial,
        {
            info.name: tolerance_for(graph, info.name, exact, quantized, rounding.get(info.name, 0.0))
            for info in graph.outputs
        },
        makers_of(graph),
    )


def _largest_part(ours: Array, theirs: Array) -> float:
    """The largest difference, as a fraction of the largest magnitude; 0 where it can't be told."""
    if ours.dtype.kind != "f" or ours.shape != theirs.shape or not np.isfinite(ours).all():
        return 0.0
    scale = float(np.abs(ours).max(initial=0.0)) or 1.0
    largest = float(np.abs(ours.astype(np.float64) - theirs).max(initial=0.0))
    return largest / scale if np.isfinite(largest) else 0.0


def _accuracy_check(
    bench: Workbench, before: Score, after: Score, outputs: Mapping[str, Array], reference: Mapping[str, Array]
) -> Check:
    """Fails when the loss on the test set is above what is allowed by more than chance explains."""
    metric, max_drop = bench.metric, bench.max_drop
    drop = metric.drop(before, after)
    low, high = _drop_interval(bench, outputs, reference)
    unit = "points" if metric.fractional else "%"
    change = f"loses {drop:.2f} {unit} [{low:.2f}, {high:.2f}]"
    detail = f"{metric.name} {after.value:.4g} after {before.value:.4g}: {change}"
    rule = f"at most {max_drop:g} {unit}, or not more by chance (95 % paired bootstrap), {after.n} test samples"
    return Check("test.accuracy", drop <= max_drop or low <= max_drop, detail, rule)


def _drop_interval(
    bench: Workbench, outputs: Mapping[str, Array], reference: Mapping[str, Array], rounds: int = 200
) -> tuple[float, float]:
    rng = np.random.default_rng(bench.seed)
    test, metric = bench.sets.test, bench.metric
    drops = []
    for _ in range(rounds):
        index = rng.integers(0, len(test), len(test))
        labels = None if test.labels is None else test.labels[index]
        theirs = {name: array[index] for name, array in reference.items()}
        ours = {name: array[index] for name, array in outputs.items()}
        before = metric.score(theirs, labels, theirs, interval=False)
        drops.append(metric.drop(before, metric.score(ours, labels, theirs, interval=False)))
    low, high = np.percentile(drops, [2.5, 97.5])
    return float(low), float(high)


def _emulated_accuracy(bench: Workbench, emulation: Emulation, reference: Mapping[str, Array]) -> list[Check]:
    """The metric of the emulated outputs and the labels, against the same samples here."""
    checks = []
    metric = bench.metric
    for runtime, (expected, found) in emulation.outputs.items():
        number = len(next(iter(found.values())))
        floats = {name: array[:number] for name, array in reference.items()}
        labels = None if bench.sets.test.labels is None else bench.sets.test.labels[:number]
        name = f"emulator.{runtime}.accuracy"
        if nan := [output for output, array in found.items() if array.dtype.kind == "f" and np.isnan(array).any()]:
            checks.append(Check(name, False, f"{', '.join(nan)}: NaN in emulation", "a number can be scored"))
            continue
        here = metric.score(shaped(expected, floats), labels, floats, interval=False)
        there = metric.score(shaped(found, floats), labels, floats, interval=False)
        # One sample that lies on the edge may fall to the other side of it in float arithmetic, no more. A cosine has
        # no edge: there it is the loss that is allowed at all.
        allowed = bench.max_drop if metric.name == "cosine" else 100 / number if metric.fractional else 0.1
        checks.append(
            Check(
                name,
                metric.drop(here, there) <= allowed,
                f"{metric.name} {there.value:.4g} in emulation, {here.value:.4g} here, on {number} samples",
                f"at most {allowed:.3g} worse than here{'' if metric.name == 'cosine' else ' (one sample)'}",
            )
        )
    return checks


def _own_process_check(
    artifact: Artifact, proving: Proving, profile: DeviceProfile, outputs: Mapping[str, Array]
) -> Check:
    """The device-side runner, in a process of its own, gives what scoring saw."""
    trial = Trial({"model": artifact}, artifact.runtime, proving.samples, "host", initial=proving.initial)
    trace = load_target(artifact.kind).run(trial, profile)
    expected = {name: array[: len(proving.samples)] for name, array in outputs.items()}
    found = shaped(trace.observations["model"].outputs, expected)
    rule = "bit for bit: the same machine, runtime and options"
    passed, words = compare(expected, found, dict.fromkeys(expected, Tolerance(0.0, rule)))
    ran = f"{trace.versions['runtime']} ({trace.versions['kernels']} kernels)"
    return Check("host.outputs", passed, f"{len(proving.samples)} samples, {ran}: {words}", rule)

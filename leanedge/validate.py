"""Does the artifact do what the model does, and does the device's runtime do what this machine's does?

Two different questions: the first is about the quantizer and the exporter, the second about the platform.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.errors import MissingProgram, ValidationFailed
from leanedge.graph.layers import describe_layers
from leanedge.graph.operators import find_operators
from leanedge.report.content import Check
from leanedge.target import Artifact, Pair, Target, Trial, load_target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.data.samples import Samples
    from leanedge.graph.model import Graph
    from leanedge.metric import Metric
    from leanedge.profile import DeviceProfile

__all__ = ["Emulation", "Tolerance", "compare", "emulate", "tolerance_for"]

Array = np.ndarray[Any, Any]

EMULATED_INSTRUCTIONS = 600_000_000
"""Emulation stays near ten seconds: about so many instructions are spent on samples."""


@dataclass(frozen=True)
class Tolerance:
    """How far two runs of one artifact may be apart.

    Attributes:
        relative: Largest difference allowed, as a fraction of the output's largest magnitude; 0 is bit for bit.
        rule: The rule in words.
    """

    relative: float
    rule: str


@dataclass(frozen=True)
class Emulation:
    """What the emulated device showed.

    Attributes:
        checks: One a runtime and question.
        instructions: Runtime -> instructions of one inference.
        versions: Runtime -> versions of what ran.
        samples: How many samples were run.
    """

    checks: tuple[Check, ...]
    instructions: Mapping[str, int]
    versions: Mapping[str, Mapping[str, str]]
    samples: int


def tolerance_for(graph: Graph, output: str, integer_outputs: tuple[str, ...], quantized: bool) -> Tolerance:
    """The rule an output falls under.

    Integer kernels all the way: equal bit for bit. Float kernels: two orders of summing n products differ by about
    sqrt(n) units in the last place (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2), the layers'
    errors add up, and four times that is allowed. Where float values are quantized again on the way, one of them may
    round to the next integer: then each such layer may be off by one step of 255, adding up as independent errors.
    """
    if output in integer_outputs:
        return Tolerance(0.0, "bit for bit: integer kernels up to here")
    layers = [layer for layer in describe_layers(graph) if layer.macs]
    depth = max(1, len(layers))
    widest = max((layer.macs / max(1, int(np.prod(layer.output_shape))) for layer in layers), default=1.0)
    if quantized:
        return Tolerance(
            float(np.sqrt(depth)) / 255,
            f"within sqrt({depth} layers)/255 of the largest magnitude: float values are rounded to integers on the way",
        )
    relative = 4 * depth * float(np.sqrt(widest)) * 2.0**-23
    return Tolerance(
        relative,
        f"within 4 x {depth} layers x sqrt({widest:.0f} products) x 2^-23 = {relative:.1e} of the largest magnitude",
    )


def compare(
    expected: Mapping[str, Array], found: Mapping[str, Array], tolerances: Mapping[str, Tolerance]
) -> tuple[bool, str]:
    """Compares outputs; for classifiers the flips of the largest value are counted as well.

    Returns:
        Whether every output keeps its tolerance, and what was seen in words.
    """
    passed, words = True, []
    for name, tolerance in tolerances.items():
        ours, theirs = np.asarray(expected[name]), np.asarray(found[name])
        if ours.shape != theirs.shape:
            return False, f"{name}: shape {theirs.shape} where {ours.shape} was expected"
        if tolerance.relative == 0.0 or ours.dtype.kind not in "fc":
            different = int((ours != theirs).sum())
            passed &= different == 0
            words.append(f"{name}: {'equal bit for bit' if not different else f'{different} of {ours.size} differ'}")
            continue
        scale = float(np.abs(ours).max()) or 1.0
        worst = float(np.abs(ours - theirs).max()) / scale
        # Not "worst > tolerance": a NaN must fail.
        passed &= worst <= tolerance.relative
        text = f"{name}: largest difference {worst:.1e} of full scale"
        if ours.ndim > 1 and ours.shape[-1] > 1:
            flips = int((ours.argmax(-1) != theirs.argmax(-1)).sum())
            text += f", {flips} of {ours[..., 0].size} top-1 flips"
        words.append(text)
    return passed, "; ".join(words)


def emulate(
    artifact: Artifact,
    graph: Graph,
    samples: Samples,
    metric: Metric,
    profile: DeviceProfile,
    *,
    quantized: bool,
    instructions: int | None,
    reference: Mapping[str, Array],
) -> Emulation:
    """Runs the artifact in the emulated device with every runtime it may have, against this machine.

    Args:
        artifact: What ships.
        graph: The compressed graph it came from.
        samples: The test set; some of it is run.
        metric: For the accuracy of the emulated outputs.
        profile: The device.
        quantized: Whether any operator computes in integers.
        instructions: Of one inference if they are known, to choose how many samples are run.
        reference: The float model's outputs on `samples`.
    """
    number = min(len(samples), 64, max(4, EMULATED_INSTRUCTIONS // (instructions or EMULATED_INSTRUCTIONS // 8)))
    some = samples.take(np.arange(number))
    tolerances = {
        info.name: tolerance_for(graph, info.name, artifact.integer_outputs, quantized) for info in graph.outputs
    }
    target = load_target(artifact.kind)
    checks: list[Check] = []
    counts: dict[str, int] = {}
    versions: dict[str, Mapping[str, str]] = {}
    for pair in target.pairs:
        name = f"emulator.{pair.device_runtime}"
        here = Trial({"model": artifact}, pair.host_runtime, some, "host", kernels=pair.host_kernels)
        there = Trial(
            {"model": artifact}, pair.device_runtime, some, "emulator", kernels=pair.device_kernels, count=True
        )
        try:
            on_host = target.run(here, profile)
            on_device = target.run(there, profile)
        except MissingProgram as error:
            checks.append(Check(f"{name}.outputs", None, f"not checked: {error.message}; to do: {error.hint}"))
            continue
        except ValidationFailed as error:
            checks.append(Check(f"{name}.runs", False, str(error)))
            continue
        seen, expected = on_device.observations["model"], on_host.observations["model"].outputs
        versions[pair.device_runtime] = on_device.versions
        if seen.instructions is not None:
            counts[pair.device_runtime] = seen.instructions
        passed, words = compare(expected, seen.outputs, tolerances)
        if not passed:
            words += f"; {first_difference(target, artifact, some.take(np.arange(1)), pair, profile)}"
        rule = "; ".join(dict.fromkeys(tolerance.rule for tolerance in tolerances.values()))
        detail = f"{number} samples, {on_device.versions['runtime']} ({on_device.versions['kernels']}): {words}"
        checks.append(Check(f"{name}.outputs", passed, detail, rule))
        checks.append(_accuracy_check(name, metric, some, expected, seen.outputs, reference, number))
    return Emulation(tuple(checks), counts, versions, number)


def _accuracy_check(
    name: str,
    metric: Metric,
    some: Samples,
    expected: Mapping[str, Array],
    found: Mapping[str, Array],
    reference: Mapping[str, Array],
    number: int,
) -> Check:
    """The metric of the emulated outputs and the labels, against the same samples here."""
    float_outputs = {key: array[:number] for key, array in reference.items()}
    here = metric.score(_as_reference(expected, float_outputs), some.labels, float_outputs)
    there = metric.score(_as_reference(found, float_outputs), some.labels, float_outputs)
    worse = metric.drop(here, there)
    # One sample that lies on the edge may fall to the other side of it in float arithmetic, no more.
    allowed = 100 / number if metric.fractional else 0.1
    detail = f"{metric.name} {there.value:.4g} in emulation, {here.value:.4g} here, on {number} samples"
    return Check(f"{name}.accuracy", worse <= allowed, detail, f"at most {allowed:.3g} worse than here")


def _as_reference(found: Mapping[str, Array], like: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of a trial in the shapes of the float model's (a trial drops a batch axis of 1)."""
    return {name: np.asarray(found[name]).reshape(array.shape) for name, array in like.items()}


def first_difference(target: Target, artifact: Artifact, one: Samples, pair: Pair, profile: DeviceProfile) -> str:
    """Names the first inner tensor at which the device and this machine differ, by bisection over shorter models."""
    names = target.boundaries(artifact)
    low, high = 0, len(names) - 1  # names[high] differs
    with tempfile.TemporaryDirectory(prefix="leanedge-bisect-") as work:

        def differs(place: int) -> tuple[bool, str]:
            cut = target.prefix(artifact, names[place], Path(work))
            runs = [
                target.run(Trial({"model": cut}, runtime, one, where, kernels=kernels), profile)  # type: ignore[arg-type]
                for runtime, where, kernels in (
                    (pair.host_runtime, "host", pair.host_kernels),
                    (pair.device_runtime, "emulator", pair.device_kernels),
                )
            ]
            ours, theirs = (next(iter(run.observations["model"].outputs.values())) for run in runs)
            if np.array_equal(ours, theirs):
                return False, ""
            place_of = np.unravel_index(int(np.argmax(np.abs(ours - theirs))), ours.shape)
            index = tuple(int(axis) for axis in place_of)
            return True, f"at {index}: {ours[index]:.7g} here, {theirs[index]:.7g} there"

        seen = ""
        while low < high:
            middle = (low + high) // 2
            apart, words = differs(middle)
            if apart:
                high, seen = middle, words
            else:
                low = middle + 1
    return f"first difference in tensor {names[high]} {seen}".rstrip()


def operator_ids(graph: Graph) -> tuple[str, ...]:
    """Ids of the skeleton's operators, in order."""
    return tuple(operator.id for operator in find_operators(graph))

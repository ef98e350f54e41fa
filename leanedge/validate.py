"""Does the artifact do what the model does, and does the device's runtime do what this machine's does?

Two different questions: the first is about the quantizer and the exporter, the second about the platform.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from leanedge.errors import MissingProgram, ValidationFailed
from leanedge.graph.layers import describe_layers
from leanedge.report.content import Check
from leanedge.target import Artifact, Pair, Target, Trial, load_target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.data.samples import Samples
    from leanedge.graph.model import Graph
    from leanedge.profile import DeviceProfile

__all__ = ["Emulation", "Proving", "Tolerance", "compare", "emulate", "samples_to_emulate", "tolerance_for"]

Array = np.ndarray[Any, Any]
Where = Literal["host", "emulator"]

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
        outputs: Runtime -> (outputs here, outputs in emulation).
    """

    checks: tuple[Check, ...]
    instructions: Mapping[str, int]
    versions: Mapping[str, Mapping[str, str]]
    outputs: Mapping[str, tuple[Mapping[str, Array], Mapping[str, Array]]]


@dataclass(frozen=True)
class Proving:
    """Samples to check an artifact with, and how far outputs may be apart.

    Attributes:
        samples: What is run.
        initial: State input -> its first value (streaming models).
        tolerances: Output -> its rule.
    """

    samples: Samples
    initial: Mapping[str, Array]
    tolerances: Mapping[str, Tolerance]


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
    widest = max(((layer.macs or 0) / max(1, int(np.prod(layer.output_shape or ()))) for layer in layers), default=1.0)
    if quantized:
        rule = f"within sqrt({depth} layers)/255 of the largest magnitude: floats are rounded to integers on the way"
        return Tolerance(float(np.sqrt(depth)) / 255, rule)
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


def emulate(artifact: Artifact, proving: Proving, profile: DeviceProfile) -> Emulation:
    """Runs the artifact in the emulated device with every runtime that it may have, against this machine.

    A check that could not be made has ``passed=None`` and says what would make it possible.
    """
    target = load_target(artifact.kind)
    checks: list[Check] = []
    counts: dict[str, int] = {}
    versions: dict[str, Mapping[str, str]] = {}
    outputs: dict[str, tuple[Mapping[str, Array], Mapping[str, Array]]] = {}
    for pair in target.pairs:
        name = f"emulator.{pair.device_runtime}.outputs"
        try:
            on_host = target.run(_trial(artifact, proving, pair.host_runtime, "host", pair.host_kernels), profile)
            there = _trial(artifact, proving, pair.device_runtime, "emulator", pair.device_kernels)
            on_device = target.run(there, profile)
        except MissingProgram as error:
            checks.append(Check(name, None, f"not checked: {error.message}; to do: {error.hint}"))
            continue
        except ValidationFailed as error:
            checks.append(Check(name, False, str(error), "the runtime runs it"))
            continue
        seen, expected = on_device.observations["model"], on_host.observations["model"].outputs
        versions[pair.device_runtime] = on_device.versions
        outputs[pair.device_runtime] = (expected, seen.outputs)
        if seen.instructions is not None:
            counts[pair.device_runtime] = seen.instructions
        passed, words = compare(expected, seen.outputs, proving.tolerances)
        if not passed:
            words += f"; {first_difference(target, artifact, proving, pair, profile)}"
        rule = "; ".join(dict.fromkeys(tolerance.rule for tolerance in proving.tolerances.values()))
        ran = f"{on_device.versions['runtime']} ({on_device.versions['kernels']} kernels)"
        checks.append(Check(name, passed, f"{len(proving.samples)} samples, {ran}: {words}", rule))
    return Emulation(tuple(checks), counts, versions, outputs)


def _trial(artifact: Artifact, proving: Proving, runtime: str, where: Where, kernels: str) -> Trial:
    return Trial(
        {"model": artifact},
        runtime,
        proving.samples,
        where,
        initial=proving.initial,
        kernels=kernels,
        count=where == "emulator",
    )


def samples_to_emulate(total: int, instructions: int | None) -> int:
    """How many samples emulation can run in about ten seconds: at most 64, at least 4 (if there are so many)."""
    return min(total, 64, max(4, EMULATED_INSTRUCTIONS // (instructions or EMULATED_INSTRUCTIONS // 8)))


def first_difference(target: Target, artifact: Artifact, proving: Proving, pair: Pair, profile: DeviceProfile) -> str:
    """Names the first inner tensor at which the device and this machine differ, by bisection over shorter models."""
    one = replace(proving, samples=proving.samples.take(np.arange(1)))
    allowed = max(tolerance.relative for tolerance in proving.tolerances.values())
    names = target.boundaries(artifact)
    low, high, seen = 0, len(names) - 1, ""  # names[high] differs
    with tempfile.TemporaryDirectory(prefix="leanedge-bisect-") as work:

        def difference(place: int) -> str:
            """Where the runs of the model that ends at that tensor differ, empty when they don't."""
            cut = replace(target.prefix(artifact, names[place], Path(work)), state={})
            ours, theirs = (
                next(iter(target.run(trial, profile).observations["model"].outputs.values()))
                for trial in (
                    _trial(cut, one, pair.host_runtime, "host", pair.host_kernels),
                    _trial(cut, one, pair.device_runtime, "emulator", pair.device_kernels),
                )
            )
            apart = np.abs(ours.astype(np.float64) - theirs)
            if not (apart > allowed * np.abs(ours).max()).any():
                return ""
            index = tuple(int(axis) for axis in np.unravel_index(int(np.argmax(apart)), ours.shape))
            return f"at {index}: {ours[index]:.7g} here, {theirs[index]:.7g} there"

        while low < high:
            middle = (low + high) // 2
            words = difference(middle)
            if words:
                high, seen = middle, words
            else:
                low = middle + 1
    return f"the first tensor that differs is {names[high]} {seen}".rstrip()

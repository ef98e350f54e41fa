"""Does the device's runtime do what this machine's does? About the platform, not about the quantizer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from leanedge.errors import LeanEdgeError, MissingProgram, ValidationFailed
from leanedge.report.content import Check
from leanedge.target import Artifact, Pair, Target, Trial, load_target
from leanedge.validate.difference import first_difference
from leanedge.validate.tolerance import compare

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.data.samples import Samples
    from leanedge.profile import DeviceProfile
    from leanedge.validate.difference import Maker
    from leanedge.validate.tolerance import Tolerance

__all__ = ["Emulation", "Proving", "emulate", "samples_to_emulate"]

Array = np.ndarray[Any, Any]
Where = Literal["host", "emulator"]

REFERENCE = "reference"
"""Kernels that are exact, slow, and alike everywhere."""

EMULATED_INSTRUCTIONS = 600_000_000
"""Emulation stays near ten seconds: about so many instructions are spent on samples."""


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
        makers: Graph value -> what made it, so that a difference can be named.
    """

    samples: Samples
    initial: Mapping[str, Array]
    tolerances: Mapping[str, Tolerance]
    makers: Mapping[str, Maker] = field(default_factory=dict)


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
        some = _affordable(proving, pair)
        try:
            on_host = target.run(_trial(artifact, some, pair.host_runtime, "host", pair.host_kernels), profile)
            there = _trial(artifact, some, pair.device_runtime, "emulator", pair.device_kernels)
            on_device = target.run(there, profile)
        except MissingProgram as error:
            checks.append(Check(name, None, f"not checked: {error.message}; to do: {error.hint}"))
            continue
        except ValidationFailed as error:
            checks.append(Check(name, False, str(error), "the runtime runs it"))
            continue
        seen, expected = on_device.observations["model"], on_host.observations["model"].outputs
        versions[pair.device_runtime] = on_device.versions
        if _comparable(expected, seen.outputs, proving):
            outputs[pair.device_runtime] = (expected, seen.outputs)
        if seen.instructions is not None:
            counts[pair.device_runtime] = seen.instructions
        passed, words = compare(expected, seen.outputs, proving.tolerances)
        if not passed:
            words += f"; {_why_apart(target, artifact, proving, pair, profile, (expected, seen.outputs))}"
        rule = "; ".join(dict.fromkeys(tolerance.rule for tolerance in proving.tolerances.values()))
        ran = f"{on_device.versions['runtime']} ({on_device.versions['kernels']} kernels)"
        checks.append(Check(name, passed, f"{len(some.samples)} samples, {ran}: {words}", rule))
    return Emulation(tuple(checks), counts, versions, outputs)


def _affordable(proving: Proving, pair: Pair) -> Proving:
    """Fewer samples for reference kernels, which take ten to twenty times the instructions of the fast ones."""
    if pair.device_kernels != REFERENCE:
        return proving
    number = max(2, len(proving.samples) // 16)
    return replace(proving, samples=proving.samples.take(np.arange(min(number, len(proving.samples)))))


def _comparable(ours: Mapping[str, Array], theirs: Mapping[str, Array], proving: Proving) -> bool:
    return all(name in theirs and ours[name].shape == theirs[name].shape for name in proving.tolerances)


def _why_apart(
    target: Target,
    artifact: Artifact,
    proving: Proving,
    pair: Pair,
    profile: DeviceProfile,
    outputs: tuple[Mapping[str, Array], Mapping[str, Array]],
) -> str:
    """`first_difference`, or why it could not be found: the check has failed already, with or without the place."""
    if not _comparable(*outputs, proving):
        return "the outputs are not alike, so the place where they part was not looked for"
    try:
        return first_difference(target, artifact, proving, pair, profile, outputs)
    except LeanEdgeError as error:
        return f"the place where they part was not found: {error.message}"


def _trial(artifact: Artifact, proving: Proving, runtime: str, where: Where, kernels: str) -> Trial:
    return Trial(
        {"model": artifact},
        runtime,
        proving.samples,
        where,
        initial=proving.initial,
        kernels=kernels,
        count=where == "emulator" and kernels != REFERENCE,
    )


def samples_to_emulate(total: int, instructions: int | None) -> int:
    """How many samples emulation can run in about ten seconds: at most 64, at least 4 (if there are so many)."""
    return min(total, 64, max(4, EMULATED_INSTRUCTIONS // (instructions or EMULATED_INSTRUCTIONS // 8)))

"""An artifact with what is needed to check it again: samples, the outputs that were seen, the rules, the profile."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, get_args
from zipfile import BadZipFile

import numpy as np

from leanedge.data.samples import Samples
from leanedge.errors import InputError, ProfileError, UsageError, ValidationFailed
from leanedge.export.folder import MANIFEST
from leanedge.profile import DeviceProfile
from leanedge.report.content import Check, Verdict
from leanedge.target import Artifact, Trial, load_target
from leanedge.validate import Maker, Proving, Tolerance, compare, emulate, shaped
from leanedge.yaml_file import parse

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from leanedge.report.terminal import Steps

__all__ = ["keep_for_revalidation", "revalidate"]

Array = np.ndarray[Any, Any]
Run = Callable[[Samples], dict[str, Array]]
Place = Literal["host", "emulator"]

_SAMPLES, _RULES, _ARTIFACT, _PROFILE = "samples.npz", "rules.json", "artifact.json", "profile.json"
_MOST_BYTES = 2_000_000
"""Samples of about so many bytes are kept: the artifact should not drown in them."""


def keep_for_revalidation(folder: Path, artifact: Artifact, proving: Proving, run: Run, profile: DeviceProfile) -> None:
    """Writes beside the artifact what `revalidate` reads.

    Args:
        folder: The output folder.
        artifact: What ships; its files are in `folder`.
        proving: Samples and rules.
        run: Samples to the artifact's outputs on this machine, which are kept as the expected ones.
        profile: The device.
    """
    size = sum(array[:1].nbytes for array in proving.samples.inputs.values())
    number = max(1, min(len(proving.samples), _MOST_BYTES // max(1, size)))
    samples = proving.samples.take(np.arange(number))
    arrays = {f"input:{name}": array for name, array in samples.inputs.items()}
    arrays |= {f"initial:{name}": array for name, array in proving.initial.items()}
    arrays |= {f"output:{name}": array for name, array in run(samples).items()}
    np.savez_compressed(folder / _SAMPLES, **arrays)  # type: ignore[arg-type]  # its stub takes a flag first
    rules = {
        "schema": 1,
        "streaming": proving.samples.streaming,
        "tolerances": {name: asdict(tolerance) for name, tolerance in proving.tolerances.items()},
        "makers": {value: asdict(maker) for value, maker in proving.makers.items()},
    }
    (folder / _RULES).write_text(json.dumps(rules, indent=2, sort_keys=True) + "\n")
    (folder / _ARTIFACT).write_text(artifact.to_json())
    (folder / _PROFILE).write_text(json.dumps(profile.model_dump(mode="json", by_alias=True), indent=2) + "\n")


def revalidate(folder: Path, on: str, steps: Steps) -> Verdict:
    """Checks an artifact that was built before: its files, its outputs here, and its outputs in emulation.

    Args:
        folder: An output folder of a build.
        on: ``host`` or ``emulator``.
        steps: Where progress is shown.

    Raises:
        UsageError: Not such a folder, or an unknown place.
    """
    if on not in get_args(Place):
        raise UsageError(f"can't validate on {on!r}", where="--on", allowed=", ".join(get_args(Place)))
    artifact, proving, outputs, profile = _read(folder)
    with steps.step("Checking the files") as step:
        checks = [_files_check(folder, artifact)]
        step.done(checks[0].detail)
    with steps.step("Running it on this machine") as step:
        checks.append(_host_check(artifact, proving, outputs, profile))
        step.done(checks[-1].detail)
    if on == "emulator":
        with steps.step("Running it in the emulated device") as step:
            found = emulate(artifact, proving, profile)
            checks += found.checks
            step.done(", ".join(found.versions) or "not checked")
    # What was asked for and could not be done is no pass.
    return Verdict(all(check.passed for check in checks), tuple(checks))


def _read(folder: Path) -> tuple[Artifact, Proving, dict[str, Array], DeviceProfile]:
    missing = [name for name in (_SAMPLES, _RULES, _ARTIFACT, _PROFILE, MANIFEST) if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            f"is not an output folder of leanedge build: {missing[0]} is missing",
            where=str(folder),
            hint="give the folder that build wrote, dist/<target>",
        )
    profile = parse(folder / _PROFILE, DeviceProfile, ProfileError)
    try:
        artifact = Artifact.from_json((folder / _ARTIFACT).read_text(encoding="utf-8"), folder)
        rules = json.loads((folder / _RULES).read_text(encoding="utf-8"))
        with (folder / _SAMPLES).open("rb") as file, np.load(file) as arrays:
            kept = {name: arrays[name] for name in arrays.files}
        proving = Proving(
            Samples(_of("input", kept), streaming=bool(rules["streaming"])),
            _of("initial", kept),
            {
                name: Tolerance(float(entry["relative"]), str(entry["rule"]))
                for name, entry in rules["tolerances"].items()
            },
            {
                value: Maker(str(entry["operator"]), str(entry["kind"]), tuple(entry["reads"]))
                for value, entry in rules["makers"].items()
            },
        )
        outputs = _of("output", kept)
        _check_names(artifact, proving, outputs)
    except _DAMAGE as error:
        raise InputError(f"is damaged: {error}", where=str(folder), hint="build it again") from error
    return artifact, proving, outputs, profile


_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, RuntimeError, BadZipFile, zlib.error)
"""What json and numpy raise for text and archives that were cut short or changed."""


def _check_names(artifact: Artifact, proving: Proving, outputs: Mapping[str, Array]) -> None:
    for what, found, wanted in (
        ("inputs", {*proving.samples.inputs, *artifact.state}, set(artifact.input_layouts)),
        ("initial states", set(proving.initial), set(artifact.state)),
        ("outputs", set(outputs), set(artifact.output_layouts)),
        ("rules", set(proving.tolerances), set(artifact.output_layouts)),
    ):
        if found != wanted:
            raise ValueError(f"{what} are {', '.join(sorted(found)) or 'none'}, not {', '.join(sorted(wanted))}")
    if not proving.tolerances or not artifact.files:
        raise ValueError("there is nothing to check")


def _of(kind: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    prefix = f"{kind}:"
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _files_check(folder: Path, artifact: Artifact) -> Check:
    rule = "SHA-256 of every file as in the manifest"
    try:
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        wrong = [item["path"] for item in listed if not _matches(folder / item["path"], item["sha256"])]
        unlisted = {*artifact.files, _SAMPLES, _RULES, _ARTIFACT, _PROFILE} - {item["path"] for item in listed}
    except (ValueError, KeyError, TypeError, OSError) as error:
        return Check("files", False, f"{MANIFEST} is damaged: {error}", rule)
    parts = [f"changed or missing: {', '.join(wrong)}"] if wrong else []
    parts += [f"not in the manifest: {', '.join(sorted(unlisted))}"] if unlisted else []
    return Check("files", not parts, "; ".join(parts) or f"{len(listed)} files match", rule)


def _matches(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def _host_check(artifact: Artifact, proving: Proving, outputs: Mapping[str, Array], profile: DeviceProfile) -> Check:
    trial = Trial({"model": artifact}, artifact.runtime, proving.samples, "host", initial=proving.initial)
    try:
        trace = load_target(artifact.kind).run(trial, profile)
    except ValidationFailed as error:
        return Check("host.outputs", False, str(error), "the runtime runs it")
    passed, words = compare(outputs, shaped(trace.observations["model"].outputs, outputs), proving.tolerances)
    rule = "; ".join(dict.fromkeys(tolerance.rule for tolerance in proving.tolerances.values()))
    return Check("host.outputs", passed, f"{len(proving.samples)} samples, {trace.versions['runtime']}: {words}", rule)

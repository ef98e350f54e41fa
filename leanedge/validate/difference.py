"""Where two runs of one artifact part: the first operator whose result differs though what it reads doesn't."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.data.samples import Samples
from leanedge.graph.operators import find_operators
from leanedge.target import Trial
from leanedge.validate.tolerance import apart, values_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from leanedge.graph.model import Graph
    from leanedge.profile import DeviceProfile
    from leanedge.target import Artifact, Pair, Target
    from leanedge.validate.emulation import Proving

__all__ = ["Maker", "first_difference", "makers_of"]

Array = np.ndarray[Any, Any]

AT_ONCE = 8
"""Shortened models in one run of the emulator, whose start takes seconds."""


@dataclass(frozen=True)
class Maker:
    """What made a Graph value: the operator's id, its kind, and the values that it reads."""

    operator: str
    kind: str
    reads: tuple[str, ...]


def makers_of(graph: Graph) -> dict[str, Maker]:
    """Graph value -> what made it; values inside an operator included."""
    makers = {
        name: Maker(operator.id, operator.kind, operator.inputs)
        for operator in find_operators(graph)
        for name in operator.nodes
    }
    return {value: makers[str(node.name)] for value, node in graph.producer.items()}


def first_difference(
    target: Target,
    artifact: Artifact,
    proving: Proving,
    pair: Pair,
    profile: DeviceProfile,
    outputs: tuple[Mapping[str, Array], Mapping[str, Array]],
) -> str:
    """Names the first operator at which the device and this machine differ: all that it reads is equal in both.

    The model is cut short at inner tensors and run again on the first sample (of a streaming model: step) at which the
    outputs differ, several cuts a run; only tensors that lead to that output are looked at.

    Args:
        target: The artifact's kind.
        artifact: What was run.
        proving: Samples, rules, and which operator made which tensor.
        pair: The two runtimes that were compared.
        profile: The device.
        outputs: Of all samples, (here, in emulation); some value is apart.
    """
    output, place = _first_apart(proving, *outputs)
    one = _alone(artifact, proving, outputs[0], place)
    relative = proving.tolerances[output].relative
    seen: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="leanedge-difference-") as work:

        def look(names: Sequence[str]) -> None:
            """Fills `seen`: tensor -> where the runs of the model that ends there differ, empty when they don't."""
            new = [name for name in names if name not in seen]
            if not new:
                return
            cuts = {
                name: replace(target.prefix(artifact, name, Path(work) / str(len(seen) + number)), state={})
                for number, name in enumerate(new)
            }
            here, there = (
                target.run(trial, profile)
                for trial in (
                    Trial(cuts, pair.host_runtime, one, "host", kernels=pair.host_kernels),
                    Trial(cuts, pair.device_runtime, one, "emulator", kernels=pair.device_kernels),
                )
            )
            for name in new:
                ours, theirs = (next(iter(trace.observations[name].outputs.values()))[0] for trace in (here, there))
                seen[name] = _parting(ours, theirs, relative)

        cut = target.prefix(artifact, output, Path(work) / "whole")
        found = _search(target.boundaries(cut), proving.makers, seen, look)
    sample = f"sample {place[0]}" + (f", step {place[1]}" if proving.samples.streaming else "")
    if not found:
        return f"{sample}, run alone, gives equal {output} on both: the difference depends on what ran before"
    value, maker = _made_by(found, proving.makers)
    if maker is None:
        where = f"the model's input {value}" if value else "an operator of the runtime's"
    else:
        where = f"operator {maker.operator} ({maker.kind})"
    return f"the two part in {where}: tensor {found}, {sample}, {seen[found]}; all that it reads is equal"


def _first_apart(proving: Proving, ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> tuple[str, list[int]]:
    """The output that differs first, and where: [sample], or [sample, step] of a streaming model."""
    axes = 2 if proving.samples.streaming else 1
    first = {}
    for name, tolerance in proving.tolerances.items():
        bad = apart(ours[name], theirs[name], tolerance.relative)
        if bad.any():
            first[name] = [int(axis) for axis in np.argwhere(bad)[0][:axes]]
    return min(first.items(), key=lambda item: item[1])


def _alone(artifact: Artifact, proving: Proving, ours: Mapping[str, Array], place: list[int]) -> Samples:
    """That sample only; of a streaming model that step, with the state that this machine had there."""
    sample = place[0]
    if not proving.samples.streaming:
        return proving.samples.take(np.arange(sample, sample + 1))
    step = place[1]
    inputs = {name: array[sample : sample + 1, step] for name, array in proving.samples.inputs.items()}
    for name, output in artifact.state.items():
        state = ours[output][sample, step - 1] if step else proving.initial[name]
        inputs[name] = np.asarray(state)[None]
    return Samples(inputs)


def _parting(ours: Array, theirs: Array, relative: float) -> str:
    if ours.shape != theirs.shape:
        return f"shape {ours.shape} here, {theirs.shape} in emulation"
    bad = apart(ours, theirs, relative)
    return f"{values_at(ours, theirs, bad, 'here', 'in emulation')} (shape {ours.shape})" if bad.any() else ""


def _search(
    names: Sequence[str], makers: Mapping[str, Maker], seen: Mapping[str, str], look: Callable[[Sequence[str]], None]
) -> str:
    """A tensor that differs though what its operator reads doesn't; empty when the last one doesn't differ.

    Args:
        names: Tensors in execution order.
        makers: Graph value -> what made it.
        seen: What `look` fills in.
        look: Compares the two runs at tensors.
    """
    low, high = 0, len(names) - 1
    while low < high or names[high] not in seen:
        picks = sorted({round(pick) for pick in np.linspace(low, max(low, high - 1), AT_ONCE)} | {high})
        look([names[pick] for pick in picks])
        differing = [pick for pick in picks if seen[names[pick]]]
        if not differing:
            return ""
        low = max((pick + 1 for pick in picks if pick < differing[0]), default=low)
        high = differing[0]
    found = names[high]
    while True:  # in a model with branches, tensors that run before it may be on another one
        _, maker = _made_by(found, makers)
        before = [
            name
            for name in names[: names.index(found)]
            for value, other in [_made_by(name, makers)]
            if maker is not None and (value in maker.reads or other is maker)
        ]
        look(before)
        differing_names = [name for name in before if seen[name]]
        if not differing_names:
            return found
        found = differing_names[0]


def _made_by(tensor: str, makers: Mapping[str, Maker]) -> tuple[str, Maker | None]:
    """The Graph value that an artifact's tensor holds or prepares, and what made that; exporters append ``:`` or ``.``.

    None for a model input; an empty value for a tensor that has another name than any of the Graph's.
    """
    values = {*makers, *(value for maker in makers.values() for value in maker.reads)}
    held = [value for value in values if tensor == value or tensor.startswith((f"{value}:", f"{value}."))]
    value = max(held, key=len, default="")
    return value, makers.get(value)

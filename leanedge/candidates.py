"""Which combinations of pattern, scheme and runtime to make for a model on a device, and why others are not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from leanedge.errors import ProfileError, nearest
from leanedge.graph.operators import find_operators
from leanedge.target import load_target, missing_modules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.graph.model import Graph
    from leanedge.graph.operators import Kind
    from leanedge.names import Pattern, Scheme
    from leanedge.profile import DeviceProfile

__all__ = ["LEVELS", "Candidate", "Refusal", "propose"]

LEVELS = (0.25, 0.5, 0.7)
"""Fractions of the cuttable MACs that channel pruning tries to remove."""


@dataclass(frozen=True, order=True)
class Candidate:
    """One way to make the model for a device.

    Attributes:
        scheme: How numbers are stored and computed.
        pattern: What is cut out.
        level: Fraction of the cuttable MACs removed; 0 for dense.
        kind: Target kind that exports and runs it.
        runtime: Runtime that decides its figures.
        float_operators: Operators kept in float (``mixed`` only), sorted.
    """

    scheme: Scheme
    pattern: Pattern
    level: float
    kind: str
    runtime: str
    float_operators: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Short and unique within a build: ``w8a8/channel-0.50/onnxruntime``."""
        cut = self.pattern if self.pattern == "dense" else f"{self.pattern}-{self.level:.2f}"
        kept = f"-{len(self.float_operators)}float" if self.float_operators else ""
        return f"{self.scheme}{kept}/{cut}/{self.runtime}"


@dataclass(frozen=True)
class Refusal:
    """A combination that is not made, or could not be, and the reason in words."""

    candidate: Candidate
    reason: str
    status: Literal["refused", "failed", "not_tried"] = "refused"


def propose(
    graph: Graph,
    profile: DeviceProfile,
) -> tuple[tuple[Candidate, ...], tuple[Refusal, ...]]:
    """Lists candidates, the float baseline of the first runtime first.

    Args:
        graph: The model.
        profile: The device: its runtimes, and what each one's kernels gain from.

    Raises:
        ProfileError: A runtime of the profile does not belong to its target kind.
    """
    kinds = {operator.kind for operator in find_operators(graph)}
    attends = any(
        o.kind in ("linear", "matmul") and len(graph.shape(o.output) or ()) > 2 for o in find_operators(graph)
    )
    candidates: list[Candidate] = []
    refusals: list[Refusal] = []
    seen: set[str] = set()
    for entry in profile.runtimes:
        if entry.target in seen:
            continue  # the same files in a second runtime: validated with it, but no candidate of its own
        seen.add(entry.target)
        target = load_target(entry.target)
        if entry.runtime not in target.runtimes:
            raise ProfileError(
                f"{entry.runtime} does not run what the target kind {entry.target} makes",
                where=f"{profile.name}: runtimes",
                allowed=", ".join(target.runtimes),
                hint=nearest(entry.runtime, target.runtimes),
            )
        absent = missing_modules(target.needs)
        for scheme in target.schemes:
            if scheme in ("mixed", "w8a8_pt"):
                continue  # mixed is made when w8a8 loses too much; per tensor never beats per channel where both exist
            whole = Candidate(scheme, "dense", 0.0, entry.target, entry.runtime)
            reason = _why_not(scheme, absent, kinds, attends)
            if reason:
                refusals.append(Refusal(whole, reason))
                continue
            candidates.append(whole)
            cuts = [Candidate(scheme, "channel", level, entry.target, entry.runtime) for level in LEVELS]
            if "channel" in target.patterns:
                candidates += cuts
            else:
                refusals += [Refusal(cut, f"{entry.runtime} gains nothing from fewer channels") for cut in cuts]
    return tuple(candidates), tuple(refusals)


def _why_not(scheme: Scheme, absent: Sequence[str], kinds: set[Kind], attends: bool) -> str:
    """Why a scheme is not offered for this model on this runtime; empty when it is."""
    if absent:
        return f"not installed on this machine: {', '.join(absent)}"
    if scheme != "w8a8_dynamic":
        return ""
    if not kinds & {"linear", "matmul"}:
        return "no linear or attention layer that a dynamic range would help"
    if not attends and "conv" in kinds:
        return "a convolutional model: static ranges are faster and as exact"
    return ""

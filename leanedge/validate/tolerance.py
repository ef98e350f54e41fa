"""How far two runs of one artifact may be apart, by which rule, and where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.graph.layers import describe_layers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.graph.model import Graph

__all__ = ["Tolerance", "apart", "compare", "shaped", "tolerance_for", "values_at"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Tolerance:
    """How far two runs of one artifact may be apart.

    Attributes:
        relative: Largest difference allowed, as a fraction of the output's largest magnitude; 0 is bit for bit.
        rule: The rule in words.
    """

    relative: float
    rule: str


def tolerance_for(
    graph: Graph, output: str, integer_outputs: tuple[str, ...], quantized: bool, rounding: float = 0.0
) -> Tolerance:
    """The rule an output falls under.

    Integer kernels all the way: equal bit for bit. Float kernels: two orders of summing n products differ by about
    sqrt(n) units in the last place (Higham, Accuracy and Stability of Numerical Algorithms, section 4.2), the layers'
    errors add up, and four times that is allowed. Where float values are quantized again on the way, one of them may
    round to the next integer: then each such layer may be off by one step of 255, adding up as independent errors.
    Where the rounding to integers itself moves the output further than that, as far is allowed: a range that is found
    at run time differs in its last bit, and then every value is rounded anew; two roundings of the same values are no
    further apart than either is from the values.

    Args:
        graph: What the artifact computes.
        output: Of the graph.
        integer_outputs: Outputs up to which all is integer.
        quantized: Whether some activations are rounded to integers.
        rounding: Largest difference between the artifact's output here and the float model's, as a fraction of the
            output's largest magnitude; 0 where it is not known.
    """
    if output in integer_outputs:
        return Tolerance(0.0, "bit for bit: integer kernels up to here")
    layers = [layer for layer in describe_layers(graph) if layer.macs]
    depth = max(1, len(layers))
    widest = max(((layer.macs or 0) / max(1, int(np.prod(layer.output_shape or ()))) for layer in layers), default=1.0)
    if quantized:
        steps = float(np.sqrt(depth)) / 255
        why = "floats are rounded to integers on the way"
        if rounding > steps:
            return Tolerance(
                rounding, f"within {rounding:.1e} of the largest magnitude, what rounding itself does: {why}"
            )
        return Tolerance(steps, f"within sqrt({depth} layers)/255 of the largest magnitude: {why}")
    relative = 4 * depth * float(np.sqrt(widest)) * 2.0**-23
    return Tolerance(
        relative,
        f"within 4 x {depth} layers x sqrt({widest:.0f} products) x 2^-23 = {relative:.1e} of the largest magnitude",
    )


def compare(
    expected: Mapping[str, Array], found: Mapping[str, Array], tolerances: Mapping[str, Tolerance]
) -> tuple[bool, str]:
    """Compares outputs; for classifiers the flips of the largest value are counted as well.

    Equal are values within the tolerance, and infinities of one sign. NaN equals nothing, itself included.

    Returns:
        Whether every output keeps its tolerance, and what was seen in words.
    """
    passed, words = True, []
    for name, tolerance in tolerances.items():
        if name not in found:
            passed = False
            words.append(f"{name}: missing, there is {', '.join(found) or 'nothing'}")
            continue
        ours, theirs = np.asarray(expected[name]), np.asarray(found[name])
        if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
            passed = False
            words.append(f"{name}: {theirs.dtype} {theirs.shape} where {ours.dtype} {ours.shape} was expected")
            continue
        bad = apart(ours, theirs, tolerance.relative)
        passed &= not bad.any()
        words.append(f"{name}: {_seen(ours, theirs, bad, tolerance)}")
    return passed, "; ".join(words)


def shaped(found: Mapping[str, Array], like: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of a trial in the shapes of the model's own (a trial drops a batch axis of 1), where they can be."""
    return {
        name: np.asarray(found[name]).reshape(array.shape) if found[name].size == array.size else found[name]
        for name, array in like.items()
        if name in found
    }


def apart(ours: Array, theirs: Array, relative: float) -> Array:
    """Where two arrays of one shape are not equal: bools of that shape.

    Args:
        ours: What is expected.
        theirs: What was found.
        relative: Difference allowed as a fraction of the largest finite magnitude in `ours`. It is for floats:
            integers, and everything where it is 0, must be equal.
    """
    if relative == 0.0 or ours.dtype.kind != "f":
        unequal: Array = ours != theirs
        return unequal
    with np.errstate(invalid="ignore"):
        near = np.abs(ours.astype(np.float64) - theirs) <= relative * _full_scale(ours)
    far: Array = ~(near | (ours == theirs))  # not "differs by more": a NaN must be apart
    return far


def _full_scale(ours: Array) -> float:
    """The largest finite magnitude, 1 for an array of zeros."""
    magnitudes = np.abs(ours[np.isfinite(ours)].astype(np.float64))
    return float(magnitudes.max(initial=0.0)) or 1.0


def _seen(ours: Array, theirs: Array, bad: Array, tolerance: Tolerance) -> str:
    if not bad.any() and (tolerance.relative == 0.0 or ours.dtype.kind != "f"):
        return "equal bit for bit"
    text = ""
    if bad.any():
        text = (
            f"{int(bad.sum())} of {bad.size} values differ, first {values_at(ours, theirs, bad, 'expected', 'found')}"
        )
    if tolerance.relative == 0.0 or ours.dtype.kind != "f":
        return text
    both = np.isfinite(ours) & np.isfinite(theirs)
    worst = float(np.abs(ours[both].astype(np.float64) - theirs[both]).max(initial=0.0)) / _full_scale(ours)
    text += f"{', ' if text else ''}largest difference {worst:.1e} of full scale"
    if ours.ndim > 1 and ours.shape[-1] > 1:
        flips = int((ours.argmax(-1) != theirs.argmax(-1)).sum())
        text += f", {flips} of {ours[..., 0].size} top-1 flips"
    return text


def values_at(ours: Array, theirs: Array, bad: Array, here: str, there: str) -> str:
    """``at (0, 2): 1.5 here, 1.25 there`` of the first place that is marked."""
    index = tuple(int(axis) for axis in np.argwhere(bad)[0])
    return f"at {index}: {ours[index]:.9g} {here}, {theirs[index]:.9g} {there}"

"""Calibration samples as single steps: a streaming model's sequences are unrolled by running it in float."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.errors import DataError
from leanedge.graph.run import float_runner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from leanedge.data.samples import Samples
    from leanedge.graph.model import Graph

__all__ = ["steps"]

Array = np.ndarray[Any, Any]
_MOST_STEPS = 256


def steps(
    graph: Graph, samples: Samples, state: Mapping[str, str], reset: Mapping[str, Array]
) -> Sequence[Mapping[str, Array]]:
    """Every sample as the inputs of one run.

    Of a streaming model's steps at most 256 are kept, evenly spaced, each with the state that reached it.

    Raises:
        DataError: An input has no data.
    """
    missing = [info.name for info in graph.inputs if info.name not in samples.inputs and info.name not in state]
    if missing:
        raise DataError(
            f"input {missing[0]} has no calibration data",
            allowed=", ".join(info.name for info in graph.inputs),
            hint="give it as a key of the .npz, or name the output that feeds it (state: in leanedge.yaml)",
        )
    if not samples.streaming:
        return list(samples)
    run = float_runner(graph)
    length = next(iter(samples.inputs.values())).shape[1]
    stride = max(1, len(samples) * length // _MOST_STEPS)
    first = {
        info.name: np.asarray(reset.get(info.name, np.zeros(info.shape)), info.dtype).reshape(info.shape)
        for info in graph.inputs
        if info.name in state
    }
    found: list[Mapping[str, Array]] = []
    number = 0
    for sequence in samples:
        now = dict(first)
        for index in range(length):
            step = {**{name: array[index] for name, array in sequence.items()}, **now}
            if number % stride == 0:
                found.append(step)
            number += 1
            made = run(step)
            now = {name: made[output] for name, output in state.items()}
    return found

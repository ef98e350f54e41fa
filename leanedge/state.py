"""Streaming models: one step a call, the state that comes out goes in again at the next step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.data.samples import Samples
from leanedge.errors import SettingsError, nearest
from leanedge.graph.run import float_runner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from leanedge.graph.model import Graph
    from leanedge.settings import StateSettings

__all__ = ["initial_state", "steps_of", "stream"]

Array = np.ndarray[Any, Any]

_WHERE = "leanedge.yaml: state"


def initial_state(graph: Graph, state: Mapping[str, StateSettings]) -> dict[str, Array]:
    """The state before the first step, after the mapping was checked against the model.

    Returns:
        State input -> array of the input's shape and dtype, every element its `reset`.

    Raises:
        SettingsError: An unknown input or output, unequal shapes or dtypes, no input left, a reset that the dtype
            can't hold.
    """
    inputs, outputs = {info.name: info for info in graph.inputs}, {info.name: info for info in graph.outputs}
    found = {}
    for name, entry in state.items():
        where = f"{_WHERE}.{name}"
        if name not in inputs:
            raise SettingsError(
                f"the model has no input {name!r}", where=where, allowed=", ".join(inputs), hint=nearest(name, inputs)
            )
        if entry.output not in outputs:
            raise SettingsError(
                f"the model has no output {entry.output!r}",
                where=where,
                allowed=", ".join(outputs),
                hint=nearest(entry.output, outputs),
            )
        source, target = outputs[entry.output], inputs[name]
        if (source.shape, source.dtype) != (target.shape, target.dtype):
            raise SettingsError(
                f"the output {source.name} is {source.dtype} {source.shape}, the input {target.dtype} {target.shape}",
                where=where,
                allowed="equal shapes and dtypes",
                hint="a dynamic axis is fixed by leanedge.yaml's inputs.*.shape",
            )
        reset = np.asarray(entry.reset)
        if target.dtype.kind != "f" and reset.astype(target.dtype) != reset:
            raise SettingsError(f"reset {entry.reset} is no {target.dtype}", where=where, allowed="a whole number")
        found[name] = np.full(target.shape, entry.reset, target.dtype)
    if state and len(state) == len(inputs):
        raise SettingsError(
            "every input is state: nothing is left to feed", where=_WHERE, allowed="one input at least without state"
        )
    return found


def stream(
    run: Callable[[Mapping[str, Array]], dict[str, Array]],
    samples: Samples,
    state: Mapping[str, str],
    initial: Mapping[str, Array],
) -> dict[str, Array]:
    """Runs every sequence step by step, the state carried from step to step and reset between sequences.

    Args:
        run: Takes one step's inputs, state included, and gives outputs by name.
        samples: Streaming samples, (n, steps, *shape), without the state inputs.
        state: State input -> the output that feeds it.
        initial: `initial_state`.

    Returns:
        Output -> (n, steps, *shape of one run's output), the states included.
    """
    rows: list[dict[str, Array]] = []
    for sample in samples:
        steps = list(_walk(run, sample, state, initial))
        rows.append({name: np.stack([outputs[name] for _, outputs in steps]) for name in steps[0][1]})
    return {name: np.stack([row[name] for row in rows]) for name in (rows[0] if rows else ())}


def steps_of(graph: Graph, samples: Samples, state: Mapping[str, str], initial: Mapping[str, Array]) -> Samples:
    """Sequences as single steps, each with the state that the float model has there: what calibration reads.

    Labels of one axis are repeated over the steps, of two axes flattened. A step belongs to its sequence's group (each
    sequence is its own where there are no groups).

    Returns:
        Samples of n x steps, all of the graph's inputs, not streaming. Without state: `samples` themselves.
    """
    if not state:
        return samples
    run = float_runner(graph)
    found: dict[str, list[Array]] = {info.name: [] for info in graph.inputs}
    for sample in samples:
        for inputs, _ in _walk(run, sample, state, initial):
            for name, array in inputs.items():
                found[name].append(array)
    count = next(iter(samples.inputs.values())).shape[1]
    labels = samples.labels
    if labels is not None:
        per_step = labels.ndim > 1 and labels.shape[1] == count
        labels = labels.reshape(-1, *labels.shape[2:]) if per_step else np.repeat(labels, count, axis=0)
    groups = np.repeat(np.arange(len(samples)) if samples.groups is None else samples.groups, count)
    return Samples({name: np.stack(arrays) for name, arrays in found.items()}, labels, groups)


def _walk(
    run: Callable[[Mapping[str, Array]], dict[str, Array]],
    sample: Mapping[str, Array],
    state: Mapping[str, str],
    initial: Mapping[str, Array],
) -> Iterator[tuple[dict[str, Array], dict[str, Array]]]:
    """(inputs with state, outputs) of each step."""
    carried = dict(initial)
    for step in range(len(next(iter(sample.values())))):
        inputs = {**{name: array[step] for name, array in sample.items()}, **carried}
        outputs = run(inputs)
        carried = {name: outputs[source] for name, source in state.items()}
        yield inputs, outputs

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
    from leanedge.settings import Settings

__all__ = ["check_state", "initial_state", "steps_of", "stream"]

Array = np.ndarray[Any, Any]

_WHERE = "leanedge.yaml: state"


def check_state(graph: Graph, settings: Settings) -> None:
    """Checks leanedge.yaml's `state` against the model.

    Raises:
        SettingsError: An unknown input or output, unequal shapes or dtypes, no input left to feed, a reset value that
            the dtype can't hold.
    """
    inputs, outputs = {info.name: info for info in graph.inputs}, {info.name: info for info in graph.outputs}
    for name, entry in settings.state.items():
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
        if target.dtype.kind != "f" and not float(entry.reset).is_integer():
            raise SettingsError(f"reset {entry.reset} is no {target.dtype}", where=where, allowed="a whole number")
    if settings.state and len(settings.state) == len(inputs):
        raise SettingsError(
            "every input is state: nothing is left to feed", where=_WHERE, allowed="one input at least without state"
        )


def initial_state(graph: Graph, settings: Settings) -> dict[str, Array]:
    """The state before the first step: state input -> array of its shape and dtype, every element its `reset`.

    Raises:
        SettingsError: As `check_state`.
    """
    check_state(graph, settings)
    inputs = {info.name: info for info in graph.inputs}
    return {
        name: np.full(inputs[name].shape, entry.reset, inputs[name].dtype) for name, entry in settings.state.items()
    }


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


def steps_of(graph: Graph, samples: Samples, settings: Settings) -> Samples:
    """Sequences as single steps, each with the state that the float model has there: what calibration reads.

    Labels of one axis are repeated over the steps, of two axes flattened. A step belongs to its sequence's group (each
    sequence is its own where there are no groups).

    Returns:
        Samples of n x steps, all of the graph's inputs, not streaming. Without state: `samples` themselves.
    """
    if not settings.state:
        return samples
    run, initial = float_runner(graph), initial_state(graph, settings)
    found: dict[str, list[Array]] = {info.name: [] for info in graph.inputs}
    for sample in samples:
        for inputs, _ in _walk(run, sample, settings.state_links, initial):
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

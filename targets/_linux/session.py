"""An artifact opened on this machine, in this process, by the device-side runner's own code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.errors import ValidationFailed

from .runner import RunnerError, open_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from leanedge.target import Artifact

__all__ = ["open_artifact"]

Array = np.ndarray[Any, Any]


def open_artifact(
    artifact: Artifact, threads: int, kernels: str = ""
) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """A function that runs one inference, arrays in the source model's layout.

    Args:
        artifact: Of a Linux kind.
        threads: Threads of the runtime.
        kernels: As `runner.open_model` takes it.

    Raises:
        ValidationFailed: The runtime refuses the file; when run, the runtime fails on it.
    """
    try:
        session = open_model(artifact.runtime, artifact.model_path, threads, kernels)
    except RunnerError as error:
        raise ValidationFailed(f"its runtime refuses it: {error}", where=str(artifact.model_path)) from error

    def run(sample: Mapping[str, Array]) -> dict[str, Array]:
        fed = {name: _moved(sample[name], turn) for name, turn in artifact.input_layouts.items()}
        try:
            made = session.run(fed)
        except Exception as error:  # each runtime has errors of its own
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ValidationFailed(
                f"{artifact.runtime} fails while it runs: {reason}", where=str(artifact.model_path)
            ) from error
        return {name: _moved(array, artifact.output_layouts[name]) for name, array in made.items()}

    return run


def _moved(array: Array, permutation: tuple[int, ...] | None) -> Array:
    return array if permutation is None else np.ascontiguousarray(array.transpose(permutation))

"""Samples: what calibration, choosing and testing read, one array an input, axis 0 the samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Samples", "Sets"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Samples:
    """Samples that fit the model: already cast to its dtypes and shaped as its inputs.

    Attributes:
        inputs: Model input -> (n, *the input's static shape, batch axis of 1 included); for a streaming model
            (n, steps, *shape) and its state inputs left out.
        labels: (n,) integer classes, or (n, ...) float targets, or None.
        groups: (n,) integer ids; samples of one group never cross sets. None: each its own.
        streaming: True when axis 1 is steps.
    """

    inputs: Mapping[str, Array]
    labels: Array | None = None
    groups: Array | None = None
    streaming: bool = False

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Each sample as the model takes it: input -> array."""
        for index in range(len(self)):
            yield {name: array[index] for name, array in self.inputs.items()}

    def take(self, indices: Array) -> Samples:
        """The samples at `indices`, in that order."""
        return Samples(
            {name: array[indices] for name, array in self.inputs.items()},
            None if self.labels is None else self.labels[indices],
            None if self.groups is None else self.groups[indices],
            self.streaming,
        )


@dataclass(frozen=True)
class Sets:
    """The three disjoint sets.

    Attributes:
        calibration: For ranges, least squares, reconstruction.
        selection: For choosing.
        test: Opened once, for the chosen artifact and for fp32.
        notes: What the report must say of them, e.g. "selected on the same data".
        same_data: True when there were too few samples for three sets.
    """

    calibration: Samples
    selection: Samples
    test: Samples
    notes: tuple[str, ...] = ()
    same_data: bool = False

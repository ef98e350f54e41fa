"""How far an operator's output may overlap an input of it, for kernels that write their output from first to last."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["first_reads_of_window", "sequential_lead"]

Array = np.ndarray[Any, Any]


def sequential_lead(first_reads: Array, input_elements: int, input_bytes: int = 1, output_bytes: int = 1) -> int:
    """The least `input address - output address` at which nothing is overwritten before it was read for the last time.

    Args:
        first_reads: For each output element in the order of memory, which is that of writing: the lowest input element
            that it is computed from; `input_elements` where it reads none.
        input_elements: How many the input has.
        input_bytes: Size of an input element.
        output_bytes: Size of an output element.

    >>> sequential_lead(np.arange(8), 8)  # element by element: in place
    0
    >>> sequential_lead(np.array([0, 2, 4, 6]), 8)  # every second: the output may begin one byte after the input
    -1
    """
    lowest_later = np.minimum.accumulate(np.ravel(first_reads)[::-1])[::-1][1:].astype(np.int64)
    written = (np.arange(lowest_later.size, dtype=np.int64) + 1) * output_bytes
    lead = int((written - lowest_later * input_bytes).max(initial=-input_elements * input_bytes))
    return max(lead, -input_elements * input_bytes)


def first_reads_of_window(
    input_size: tuple[int, int], output_size: tuple[int, int], strides: tuple[int, int], starts: tuple[int, int]
) -> Array:
    """(output rows, output columns): the lowest input pixel in each window, whose first is at -`starts`.

    Dilation moves only what follows the first tap inside the image, so that this is a lower bound with dilation.
    """
    rows, columns = (
        np.clip(np.arange(output_size[axis]) * strides[axis] - starts[axis], 0, input_size[axis] - 1)
        for axis in range(2)
    )
    return np.asarray(rows[:, None] * input_size[1] + columns[None, :])

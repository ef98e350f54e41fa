"""How far an operator's output may overlap an input of it, for kernels that write their output from first to last."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["channel_block_ends", "first_reads_of_window", "sequential_lead"]

Array = np.ndarray[Any, Any]


def sequential_lead(
    first_reads: Array, input_elements: int, input_bytes: int = 1, output_bytes: int = 1, ends: Array | None = None
) -> int:
    """The least `input address - output address` at which nothing is overwritten before it was read for the last time.

    Args:
        first_reads: For each output element in the order of memory, which is that of writing: the lowest input element
            that it is computed from; `input_elements` where it reads none.
        input_elements: How many the input has.
        input_bytes: Size of an input element.
        output_bytes: Size of an output element.
        ends: Where each run of output elements ends that is computed as a whole before any of it is written; by default
            each is a run of its own.

    >>> sequential_lead(np.arange(8), 8)  # element by element: in place
    0
    >>> sequential_lead(np.array([0, 2, 4, 6]), 8)  # every second: the output may begin one byte after the input
    -1
    """
    lowest_later = np.minimum.accumulate(np.ravel(first_reads)[::-1])[::-1].astype(np.int64)
    ends = np.arange(1, lowest_later.size) if ends is None else ends[ends < lowest_later.size]
    least = -input_elements * input_bytes
    return int((ends * output_bytes - lowest_later[ends] * input_bytes).max(initial=least))


def channel_block_ends(pixels: int, channels: int, block: int) -> Array:
    """Ends of the runs of a kernel that goes through each pixel `block` channels at a time.

    >>> channel_block_ends(2, 5, 3)
    array([ 3,  5,  8, 10])
    """
    within = np.append(np.arange(block, channels, block), channels)
    return np.asarray((np.arange(pixels)[:, None] * channels + within[None, :]).ravel())


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

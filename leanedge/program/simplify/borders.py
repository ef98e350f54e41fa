"""What a window's taps add where some of them lie in padding: one sum for each way that a window can reach into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from leanedge.program.types import ConvOptions, ProgramTensor

__all__ = ["border_sums"]

Array = np.ndarray[Any, Any]


def border_sums(taps: Array, options: ConvOptions, source: ProgramTensor, out: ProgramTensor) -> Array:
    """Sums of the taps that lie inside of the image, over all positions of the window.

    Args:
        taps: (outputs, kernel height, kernel width), int64.
        options: Of the convolution.
        source: Its input.
        out: Its output.

    Returns:
        (patterns, outputs): each pattern of taps inside that occurs at some position, once.
    """
    rows, columns = (
        _inside(source.shape[axis + 1], out.shape[axis + 1], taps.shape[axis + 1], options, axis) for axis in (0, 1)
    )
    sums: Array = np.einsum("rt,cu,otu->rco", rows, columns, taps, optimize=True)
    return sums.reshape(-1, len(taps))


def _inside(size: int, out: int, kernel: int, options: ConvOptions, axis: int) -> Array:
    """(patterns, kernel): 1 where the tap lies inside along that axis."""
    before, after = options.pads[2 * axis : 2 * axis + 2]
    stride = options.strides[axis]
    # Positions that reach into the padding on either side, and one more; all between see the whole window.
    near, far = min(out, before // stride + 2), max(0, out - after // stride - 2)
    first = np.concatenate([np.arange(near), np.arange(far, out)])[:, None] * stride - before
    places = first + np.arange(kernel) * options.dilations[axis]
    return np.unique((places >= 0) & (places < size), axis=0).astype(np.int64)

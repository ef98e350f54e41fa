"""Sliding windows over channels-last images, for integers and floats alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from leanedge.program.types import ConvOptions, TransposeConvOptions

__all__ = ["convolve", "depthwise_convolve", "spread", "windows"]

Array = np.ndarray[Any, Any]


def windows(
    image: Array,
    kernel: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
    pads: tuple[int, int, int, int],
    shape: tuple[int, ...],
    fill: float,
) -> Array:
    """What each output position sees: (batch, out height, out width, kernel height, kernel width, channels).

    Args:
        image: (batch, height, width, channels).
        kernel: Height and width.
        strides: Vertical, horizontal.
        dilations: Vertical, horizontal.
        pads: Top, bottom, left, right.
        shape: Of the output, (batch, height, width, ...).
        fill: What stands in the padding.
    """
    top, bottom, left, right = pads
    padded = np.pad(image, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    span = tuple((kernel[axis] - 1) * dilations[axis] + 1 for axis in range(2))
    view = np.lib.stride_tricks.sliding_window_view(padded, span, axis=(1, 2))
    view = view[:, :: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]]
    seen: Array = view[:, : shape[1], : shape[2]].transpose(0, 1, 2, 4, 5, 3)
    return seen


def convolve(image: Array, weights: Array, options: ConvOptions, shape: tuple[int, ...]) -> Array:
    """Sums of products of a (possibly grouped) convolution; integers stay exact.

    Args:
        image: (batch, height, width, channels), zero point subtracted.
        weights: (outputs, height, width, channels of a group).
        options: Strides, dilations, pads.
        shape: Of the output.
    """
    outputs, height, width, depth = weights.shape
    groups = image.shape[3] // depth
    seen = windows(image, (height, width), options.strides, options.dilations, options.pads, shape, 0)
    # float64 holds every sum of int8 products exactly (below 2^53), and its matrix product is fast.
    rows = seen.astype(np.float64)
    parts = []
    for group in range(groups):
        columns = weights[group * outputs // groups : (group + 1) * outputs // groups].astype(np.float64)
        part = rows[..., group * depth : (group + 1) * depth].reshape(-1, height * width * depth)
        parts.append(part @ columns.reshape(outputs // groups, -1).T)
    total = np.concatenate(parts, axis=1).reshape(shape)
    return total.astype(np.int64) if image.dtype.kind == "i" else total


def depthwise_convolve(image: Array, weights: Array, options: ConvOptions, shape: tuple[int, ...]) -> Array:
    """Sums of products where each output channel sees one input channel; `weights` (1, height, width, outputs)."""
    _, height, width, outputs = weights.shape
    repeated = np.repeat(image, outputs // image.shape[3], axis=3)
    seen = windows(repeated, (height, width), options.strides, options.dilations, options.pads, shape, 0)
    total = np.zeros(shape, np.int64 if image.dtype.kind == "i" else np.float64)
    for row in range(height):
        for column in range(width):
            total += seen[:, :, :, row, column] * weights[0, row, column].astype(total.dtype)
    return total


def spread(image: Array, weights: Array, options: TransposeConvOptions, shape: tuple[int, ...]) -> Array:
    """Sums of products of a transposed convolution; `weights` (outputs, height, width, channels)."""
    batch, rows, columns, _ = image.shape
    outputs, height, width, _ = weights.shape
    top, _, left, _ = options.pads
    full = np.zeros(
        (batch, (rows - 1) * options.strides[0] + height, (columns - 1) * options.strides[1] + width, outputs)
    )
    for row in range(height):
        for column in range(width):
            part = image.astype(np.float64) @ weights[:, row, column].astype(np.float64).T
            down = slice(row, row + (rows - 1) * options.strides[0] + 1, options.strides[0])
            across = slice(column, column + (columns - 1) * options.strides[1] + 1, options.strides[1])
            full[:, down, across] += part
    total = full[:, top : top + shape[1], left : left + shape[2]]
    return total.astype(np.int64) if image.dtype.kind == "i" else total

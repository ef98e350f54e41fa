"""Rounds weights so that the layer's output changes least, not the weights themselves (GPTQ).

Column by column, each rounding error is made good by the columns that are not yet rounded, by the covariance of the
layer's already quantized inputs (Frantar et al. 2022, "GPTQ", algorithm 1, columns in order of decreasing variance).
The covariance is centred where the layer has a bias, because bias correction takes the mean away afterwards. A row
keeps the nearest integers where those leave less error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.graph.model import attribute

if TYPE_CHECKING:
    from collections.abc import Mapping

    from leanedge.graph.model import Graph
    from leanedge.graph.operators import Operator

__all__ = ["Moments", "gptq_rows", "patches", "rows_of", "rows_to_weight", "takes_patches"]

Array = np.ndarray[Any, Any]
_LARGEST = 127
_DAMPING = 0.01
_MOST_COLUMNS = 2304
"""Above it (3x3 over 256 channels) inverting the covariance costs more than it gains."""

_MOST_PATCHES = 8192


class Moments:
    """Running sums of a layer's input patches, for each group, about the mean of the first ones added."""

    def __init__(self) -> None:
        self.count = 0
        self._shift: Array | None = None
        self._sum: Array = np.zeros(1)
        self._products: Array = np.zeros(1)

    def add(self, rows: Array) -> None:
        """Adds (groups, patches, columns)."""
        if self._shift is None:
            self._shift = rows.mean(axis=1, keepdims=True)
        shifted = rows - self._shift  # else float32 sums of products would cancel to noise
        self._sum = self._sum + shifted.sum(axis=1, dtype=np.float64)
        self._products = self._products + np.matmul(shifted.transpose(0, 2, 1), shifted).astype(np.float64)
        self.count += rows.shape[1]

    def covariance(self, centred: bool) -> Array:
        """(groups, columns, columns); about the mean, or about 0."""
        assert self._shift is not None
        mean = self._sum / self.count
        about = self._products / self.count - mean[:, :, None] * mean[:, None, :]
        if not centred:
            whole = mean + self._shift[:, 0].astype(np.float64)
            about = about + whole[:, :, None] * whole[:, None, :]
        symmetric: Array = (about + about.transpose(0, 2, 1)) / 2
        return symmetric


def takes_patches(graph: Graph, operator: Operator) -> bool:
    """Whether this layer's weights can be rounded by covariance: its kind, and not too wide."""
    assert operator.weight is not None
    shape = graph.constants[operator.weight].shape
    if operator.kind == "conv":
        node = graph.node_by_name[operator.id]
        return attribute(node, "auto_pad", "NOTSET") in ("NOTSET", "VALID", "") and np.prod(shape[1:]) <= _MOST_COLUMNS
    if operator.kind == "linear":
        return bool(shape[1 - (operator.channel_axis or 0)] <= _MOST_COLUMNS)
    return False


def patches(
    graph: Graph, operator: Operator, inputs: Mapping[str, Array], samples: int, generator: np.random.Generator
) -> Array:
    """(groups, patches, columns) of what the layer's weights multiply, at random places of one sample.

    Args:
        graph: Where the operator is.
        operator: A ``conv`` or ``linear``.
        inputs: Its inputs for that sample.
        samples: How many samples there are, so that all together make enough and not too many patches.
        generator: Picks the places.
    """
    array = inputs[operator.inputs[0]]
    assert operator.weight is not None
    weight = graph.constants[operator.weight]
    if operator.kind == "linear":
        rows = array.reshape(-1, array.shape[-1])
        return rows[None, _some(len(rows), rows.shape[1], samples, generator)]
    node = graph.node_by_name[operator.id]
    group, kernel = int(attribute(node, "group", 1)), weight.shape[2:]
    rank = len(kernel)
    strides, dilations = attribute(node, "strides", [1] * rank), attribute(node, "dilations", [1] * rank)
    pads = attribute(node, "pads", [0] * 2 * rank)
    padded = np.pad(array[0], [(0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=tuple(range(1, rank + 1)))
    steps = [slice(None)] + [slice(None, None, step) for step in (*strides, *dilations)]
    windows = windows[tuple(steps)]
    places = windows.shape[1 : rank + 1]
    chosen = np.unravel_index(_some(int(np.prod(places)), int(np.prod(weight.shape[1:])), samples, generator), places)
    index: tuple[Any, ...] = (slice(None), *chosen)
    taken = np.moveaxis(windows[index], 1, 0)  # (patches, channels, kernel...)
    grouped = taken.reshape(len(taken), group, -1)
    return np.ascontiguousarray(grouped.transpose(1, 0, 2))


def _some(available: int, columns: int, samples: int, generator: np.random.Generator) -> Array:
    wanted = -(-min(_MOST_PATCHES, max(2048, 6 * columns)) // samples)
    if wanted >= available:
        return np.arange(available)
    return np.sort(generator.choice(available, wanted, replace=False))


def rows_of(graph: Graph, operator: Operator, weight: Array) -> Array:
    """The weight as (groups, rows, columns), columns as `patches` has them."""
    if operator.kind == "linear":
        return (weight if operator.channel_axis == 0 else weight.T)[None]
    group = int(attribute(graph.node_by_name[operator.id], "group", 1))
    return weight.reshape(group, weight.shape[0] // group, -1)


def rows_to_weight(operator: Operator, rows: Array, shape: tuple[int, ...]) -> Array:
    """The inverse of `rows_of`."""
    if operator.kind == "linear" and operator.channel_axis == 1:
        return np.ascontiguousarray(rows[0].T)
    return rows.reshape(shape)


def gptq_rows(rows: Array, scale: Array, covariance: Array) -> tuple[Array, Array]:
    """Integers for each row, given its scale.

    Args:
        rows: (groups, rows, columns) real weights.
        scale: (groups, rows) scale of each row.
        covariance: (groups, columns, columns) of what the columns multiply.

    Returns:
        (groups, rows, columns) int8 in [-127, 127], and (groups, rows) the expected squared error that they leave.
    """
    nearest = np.clip(np.rint(rows / scale[..., None]), -_LARGEST, _LARGEST)
    compensated = _compensated(rows, scale, covariance)
    errors = [_error(rows - integers * scale[..., None], covariance) for integers in (nearest, compensated)]
    chosen = np.where((errors[1] < errors[0])[..., None], compensated, nearest)
    return chosen.astype(np.int8), np.minimum(*errors)


def _error(difference: Array, covariance: Array) -> Array:
    """(groups, rows) the quadratic form of each row's difference."""
    error: Array = (np.matmul(difference, covariance) * difference).sum(axis=-1)
    return error


def _compensated(rows: Array, scale: Array, covariance: Array) -> Array:
    columns = rows.shape[-1]
    variance = np.einsum("gii->gi", covariance)
    order = np.argsort(-variance.sum(axis=0), kind="stable")  # one order for all groups
    factor = _inverse_factor(covariance[:, order][:, :, order])
    left = rows[..., order].astype(np.float64)
    integers = np.empty_like(left)
    block = 64
    for start in range(0, columns, block):
        end = min(start + block, columns)
        errors = np.empty((*left.shape[:2], end - start))
        for column in range(start, end):
            now = np.clip(np.rint(left[..., column] / scale), -_LARGEST, _LARGEST)
            integers[..., column] = now
            error = (left[..., column] - now * scale) / factor[:, column, column][:, None]
            errors[..., column - start] = error
            left[..., column + 1 : end] -= error[..., None] * factor[:, None, column, column + 1 : end]
        left[..., end:] -= np.matmul(errors, factor[:, start:end, end:])
    back = np.empty_like(integers)
    back[..., order] = integers
    return back


def _inverse_factor(covariance: Array) -> Array:
    """Upper factor of the damped inverse: its row i says how the later columns make good an error in column i."""
    variance = np.einsum("gii->gi", covariance).mean(axis=1)
    identity = np.eye(covariance.shape[-1])
    damping = _DAMPING
    while True:
        damped = covariance + (damping * np.maximum(variance, 1e-12))[:, None, None] * identity
        try:
            lower = np.linalg.cholesky(np.linalg.inv(damped))
        except np.linalg.LinAlgError:  # too few patches for so many columns: lean more on nearest rounding
            damping *= 10
            continue
        upper: Array = lower.transpose(0, 2, 1)
        return upper

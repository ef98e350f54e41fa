"""How an array of the Graph lies in the Program: cut, split into axes, transposed, merged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Arrangement", "channels_last", "like", "same_order"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Arrangement:
    """program_array = graph_array[cut].reshape(split).transpose(order).reshape(shape).

    Attributes:
        split: Shape of the Graph's array, or a finer one.
        order: Permutation of the axes of `split`.
        shape: Shape in the Program.
        cut: (axis, start, stop) taken from the Graph's array first, or None.
    """

    split: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]
    cut: tuple[int, int, int] | None = None

    @classmethod
    def same(cls, shape: tuple[int, ...]) -> Arrangement:
        """Nothing moves."""
        return cls(shape, tuple(range(len(shape))), shape)

    @classmethod
    def permuted(cls, shape: tuple[int, ...], order: tuple[int, ...]) -> Arrangement:
        """Only the axes are permuted."""
        return cls(shape, order, tuple(shape[axis] for axis in order))

    @property
    def moves(self) -> bool:
        """False where the Program's array equals the Graph's."""
        return self.order != tuple(range(len(self.order))) or self.split != self.shape

    def apply(self, array: Array) -> Array:
        """The Graph's array as the Program has it."""
        if self.cut is not None:
            axis, start, stop = self.cut
            array = np.take(array, np.arange(start, stop), axis=axis)
        moved: Array = np.ascontiguousarray(array.reshape(self.split).transpose(self.order).reshape(self.shape))
        return moved

    def undo(self, array: Array, shape: tuple[int, ...]) -> Array:
        """The Program's array as the Graph has it, of that shape; not for a cut one."""
        if self.cut is not None:
            raise ValueError("a cut array can't be put back")
        middle = tuple(self.split[axis] for axis in self.order)
        moved: Array = np.ascontiguousarray(array.reshape(middle).transpose(np.argsort(self.order)).reshape(shape))
        return moved

    def axis(self, graph_axis: int) -> int:
        """Where an axis of the Graph's array went. Only for arrangements that merge no axes."""
        if len(self.shape) == len(self.split):
            return self.order.index(graph_axis)
        if self == channels_last(self.split):
            return {0: 0, 1: 3, 2: 2}[graph_axis]
        raise ValueError(f"{self} has merged its axes")


def channels_last(shape: tuple[int, ...]) -> Arrangement:
    """(N, C, H, W) as (N, H, W, C); (N, C, L) as (N, 1, L, C)."""
    if len(shape) == 4:
        return Arrangement.permuted(shape, (0, 2, 3, 1))
    if len(shape) == 3:
        batch, channels, length = shape
        return Arrangement(shape, (0, 2, 1), (batch, 1, length, channels))
    raise ValueError(f"rank {len(shape)} has no channels-last form")


def same_order(
    source: Arrangement, source_shape: tuple[int, ...], target: Arrangement, target_shape: tuple[int, ...]
) -> bool:
    """True where a Graph reshape moves no number in the Program: its memory holds them in the same order."""
    count = int(np.prod(source_shape, dtype=np.int64))
    numbers = np.arange(count)
    before = source.apply(numbers.reshape(source_shape)).ravel()
    return bool(np.array_equal(before, target.apply(numbers.reshape(target_shape)).ravel()))


def like(layout: Arrangement, shape: tuple[int, ...]) -> Arrangement:
    """How an operand of an element-wise kind, or a part of a concatenation, lies beside an array laid out so.

    Args:
        layout: Of the result.
        shape: The operand's, of the same rank (put 1s in front).
    """
    if not layout.moves:
        return Arrangement.same(shape)
    if len(layout.split) == len(layout.shape):
        return Arrangement.permuted(shape, layout.order)
    if len(layout.split) == 3 and layout == channels_last(layout.split):
        return channels_last(shape)
    # A flattened image: its columns are merged axes.
    columns = int(np.prod(layout.split[1:], dtype=np.int64))
    if shape[-1] != columns:
        return Arrangement.same(shape)
    return Arrangement((shape[0], *layout.split[1:]), layout.order, shape)

"""What the generated code of a depthwise layer is made from: which weights share a word, how a plane is laid out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..requantize import Requantization
    from .view import View

__all__ = ["GROUP", "Plan", "Words"]

Array = np.ndarray[Any, Any]

GROUP = 4
"""Channels that are gathered at a time: the bytes of a word."""


@dataclass(frozen=True)
class Words:
    """Which weights stand in which register: pairs of vertical neighbours, and single ones for what is left.

    Attributes:
        halves: For each word its (low, high) taps as (row, column); None for nothing.
    """

    halves: tuple[tuple[tuple[int, int] | None, tuple[int, int] | None], ...]

    @classmethod
    def of(cls, kernel: tuple[int, int], *, both_parities: bool, neighbours: bool = True) -> Words:
        """Words for output rows that begin on even rows of the plane, or on even and on odd ones.

        Args:
            kernel: Height and width.
            both_parities: Whether output rows begin on odd rows too.
            neighbours: Whether weights below each other meet pixels below each other: there is no dilation.
        """
        height, width = kernel
        if not neighbours:
            taps = [(row, column) for row in range(height) for column in range(width)]
            return cls(_two_by_two(taps))
        first = [0, 1] if both_parities else [0]
        pairs: list[tuple[tuple[int, int] | None, tuple[int, int] | None]] = [
            ((row, column), (row + 1, column))
            for begin in first
            for row in range(begin, height - 1, 2)
            for column in range(width)
        ]
        held = {tap for pair in pairs for tap in pair}
        alone = {height - 1} if height % 2 else set()
        if both_parities:
            alone |= {0} | ({height - 1} if height % 2 == 0 else set())
        single = [(row, column) for row in sorted(alone) for column in range(width) if (row, column) not in held]
        return cls((*pairs, *_two_by_two(single)))

    def pair(self, tap: tuple[int, int]) -> int:
        """The word that holds this tap low and the one below it high."""
        return self.halves.index((tap, (tap[0] + 1, tap[1])))

    def half(self, tap: tuple[int, int]) -> tuple[int, str]:
        """A word that holds this tap, and where: ``B`` low, ``T`` high."""
        for number, (low, high) in enumerate(self.halves):
            if tap in (low, high):
                return number, "B" if tap == low else "T"
        raise KeyError(tap)

    def array(self, weights: Array) -> Array:
        """int32 (channels, words) of scaled weights (kernel height, kernel width, channels)."""
        zero = np.zeros(weights.shape[2], np.int64)
        columns = []
        for low, high in self.halves:
            bottom, top = (zero if tap is None else weights[tap] for tap in (low, high))
            columns.append((bottom & 0xFFFF) | (top << 16))
        return np.stack(columns, axis=1).astype(np.uint32).view(np.int32)


def _two_by_two(taps: Sequence[tuple[int, int]]) -> tuple[tuple[tuple[int, int], tuple[int, int] | None], ...]:
    return tuple((tap, taps[i + 1] if i + 1 < len(taps) else None) for i, tap in enumerate(taps) if i % 2 == 0)


@dataclass(frozen=True)
class Plan:
    """Everything that the generated code of a layer is made from.

    Attributes:
        prefix: Of all C names.
        view: The image.
        channels: Of the input.
        multiplier: Output channels of an input channel.
        pad: What padding holds.
        words: Weights, two a word.
        streamed: Whether these are too many for registers.
        requantization: From sums to int8.
        rows_at_once: Output rows of a block.
        columns_at_once: Output columns of a block.
        strip: Groups of rows that are computed between two gatherings; None for the whole plane at once.
    """

    prefix: str
    view: View
    channels: int
    multiplier: int
    pad: int
    words: Words
    streamed: bool
    requantization: Requantization
    rows_at_once: int
    columns_at_once: int
    strip: int | None

    @property
    def pad_word(self) -> int:
        """Two padding values of 16 bits."""
        return (self.pad & 0xFFFF) * 0x10001

    @property
    def lanes(self) -> int:
        """Channels that are gathered together."""
        return GROUP if self.channels >= GROUP else 1

    @property
    def width(self) -> int:
        """Words of a row of a plane."""
        return (self.view.out_columns - 1) * self.view.stride[1] + self.view.span[1]

    @property
    def gathered(self) -> int:
        """Columns of the image that the plane holds."""
        return min(self.view.columns, self.width - self.view.left)

    def pairs_of(self, rows: int) -> int:
        """Pairs of rows that so many output rows see."""
        return (self.view.stride[0] * (rows - 1) + self.view.span[0] - 1) // 2 + 1

    @property
    def groups(self) -> int:
        """Whole groups of output rows."""
        return self.view.out_rows // self.rows_at_once

    @property
    def rest(self) -> int:
        """Output rows after the last whole group."""
        return self.view.out_rows % self.rows_at_once

    @property
    def step(self) -> int:
        """Pairs of rows from one group of output rows to the next."""
        return max(self.rows_at_once * self.view.stride[0] // 2, 1)

    @property
    def overlap(self) -> int:
        """Pairs of rows that a group shares with the next."""
        return max(self.pairs_of(self.rows_at_once) - self.step, 0)

    @property
    def plane_rows(self) -> int:
        """Pairs of rows in a plane."""
        if self.strip is None:
            return self.pairs_of(self.view.out_rows)
        return self.overlap + self.step * self.strip

    @property
    def plane_words(self) -> int:
        """Words of a channel's plane."""
        return self.plane_rows * self.width

    def kind_of_pair(self, pair: int) -> str:
        """Which rows of a pair are in the image: ``both``, ``low``, ``high`` or ``none``."""
        row = 2 * pair - self.view.top
        low, high = 0 <= row < self.view.rows, 0 <= row + 1 < self.view.rows
        return {(True, True): "both", (True, False): "low", (False, True): "high", (False, False): "none"}[low, high]

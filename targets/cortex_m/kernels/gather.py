"""What a window's bytes become before they are multiplied: pairs of 16-bit numbers, two windows side by side.

SXTB16 widens bytes 0 and 2 of a word to one pair, bytes 1 and 3 (rotated) to another. What is left over at the ends of
the window's rows is paired by PKHBT, so that no pair but the last may have an empty half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

from .assembly import add_constant

__all__ = ["Gather", "gather"]

_MOST_OFFSET = 4088
"""Below the reach of LDR with an immediate offset."""


@dataclass(frozen=True)
class Gather:
    """How a window is read.

    Attributes:
        words: (byte offset in memory, index of its first byte in the window) of each word.
        singles: The same of single bytes.
        pairs: What stands in the (low, high) half of each pair: index in the window, or None for what is multiplied
            by 0. Two pairs a word, then the singles two by two.
    """

    words: tuple[tuple[int, int], ...]
    singles: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[int | None, int | None], ...]

    def instructions(self, store: Callable[[int, str, str], list[str]]) -> list[str]:
        """Reads and widens two windows, at r0 and r1.

        Args:
            store: Instructions that keep pair number n of the two windows, given in two registers.

        All registers but sp are lost.
        """
        lines: list[str] = []
        moved = 0
        for at in range(0, len(self.words), 2):
            batch = self.words[at : at + 2]
            if batch[-1][0] - moved > _MOST_OFFSET:
                lines += _move(batch[0][0] - moved)
                moved = batch[0][0]
            raw = (("r2", "r3"), ("r4", "r5"))
            for (offset, _), pixels in zip(batch, raw, strict=False):
                lines += [f"ldr {r}, [r{pixel}, #{offset - moved}]" for pixel, r in enumerate(pixels)]
            wide = (("r6", "r7"), ("r8", "r9"), ("r10", "r11"), ("r12", "lr"))
            for number in range(len(batch)):
                for half in (0, 1):
                    rotated = ", ror #8" if half else ""
                    for source, r in zip(raw[number], wide[2 * number + half], strict=True):
                        lines.append(f"sxtb16 {r}, {source}{rotated}")
            for number in range(2 * len(batch)):
                lines += store(2 * at + number, *wide[number])
        for number in range(0, len(self.singles), 2):
            batch = self.singles[number : number + 2]
            place = 2 * len(self.words) + number // 2
            for (offset, _), pixels in zip(batch, (("r2", "r3"), ("r4", "r5")), strict=False):
                if not 0 <= offset - moved <= _MOST_OFFSET:
                    lines += _move(offset - moved)
                    moved = offset
                lines += [f"ldrsb {r}, [r{pixel}, #{offset - moved}]" for pixel, r in enumerate(pixels)]
            if len(batch) == 2:
                lines += ["pkhbt r2, r2, r4, lsl #16", "pkhbt r3, r3, r5, lsl #16"]
            lines += store(place, "r2", "r3")
        return lines


def _move(nbytes: int) -> list[str]:
    return [*add_constant("r0", "r0", nbytes, "r2"), *add_constant("r1", "r1", nbytes, "r2")]


def gather(segments: Sequence[tuple[int, int]]) -> Gather:
    """How to read a window that lies in memory as segments of (byte offset, length); it is never read beyond."""
    words: list[tuple[int, int]] = []
    singles: list[tuple[int, int]] = []
    pairs: list[tuple[int | None, int | None]] = []
    start = 0
    for offset, length in segments:
        whole = length // 4
        for word in range(whole):
            words.append((offset + 4 * word, start + 4 * word))
            k = start + 4 * word
            pairs += [(k, k + 2), (k + 1, k + 3)]
        rest = list(range(4 * whole, length))
        singles += [(offset + at, start + at) for at in rest]
        start += length
    for number in range(0, len(singles), 2):
        low = singles[number][1]
        pairs.append((low, singles[number + 1][1] if number + 1 < len(singles) else None))
    return Gather(tuple(words), tuple(singles), tuple(pairs))

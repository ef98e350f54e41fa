"""Requantization for cores without a long multiplication (Armv6-M): thirteen instructions, bit for bit TFLM's.

The sum is moved and clamped first, to the distance a from the last sum that still gives the lowest result. Then

    t = a x high + (a x low >> split) + constant       result = (t >> 23) + lowest

fits 32 bits with 27 bits or so of multiplier. TFLM rounds ties below the output's zero point the other way, which
lowers t there (`drop` below `turn`) in layers that go below it. The constant is chosen from the interval in which
every step of the result is where TFLM's is; where there is none, neighbours of the multiplier are tried.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .requantize import steps, sum_range

if TYPE_CHECKING:
    from leanedge.program.weighted import WeightedLayer

__all__ = ["DistanceRequantization", "distance_requantization"]

Array = np.ndarray[Any, Any]

_SHIFT = 23
_CHANGES = (0, 1, -1, 2, -2, 4, -4, 8, -8, 16, -16, 32, -32)


@dataclass(frozen=True, eq=False)
class DistanceRequantization:
    """How the sums of a layer's channels become int8.

    Attributes:
        base: int64 (channels,) what is subtracted from each sum: it belongs into the bias.
        words: int32 (channels, 4): largest distance, high and low multiplier, constant; where `signed` also turn, drop.
        split: Bits of the low multiplier.
        signed: Whether results below the zero point occur.
        lowest: What is added to the result.
    """

    base: Array
    words: Array
    split: int
    signed: bool
    lowest: int

    def instructions(self, total: str, target: str) -> list[str]:
        """Leaves the result of the sum in `total` (r8 to r12 or r1) in r6.

        r2 to r5 hold the first four words, `turn` is in lr and `drop` at `target`; r1, r6 and flags are lost.
        """
        lines = [] if total == "r1" else [f"mov r1, {total}"]
        lines += ["asrs r6, r1, #31", "bics r1, r6", "cmp r1, r2", "bls 1f", "mov r1, r2", "1:"]
        lines += ["mov r6, r1", "muls r6, r3, r6"]
        if self.signed:
            lines += ["cmp r1, lr", "bhs 2f", f"ldr r7, {target}", "subs r6, r6, r7", "2:"]
        lines += ["muls r1, r4, r1", f"lsrs r1, r1, #{self.split}", "adds r6, r6, r1", "adds r6, r6, r5"]
        return [*lines, f"lsrs r6, r6, #{_SHIFT}", f"adds r6, #{self.lowest & 255}"]


def distance_requantization(layer: WeightedLayer) -> DistanceRequantization | None:
    """The words of each channel, or None where no function of this form has TFLM's steps."""
    low, high = sum_range(layer)
    thresholds = steps(layer)
    if not thresholds.shape[1]:
        return None  # every result is the same: nothing to compute
    base = np.clip(thresholds[:, 0] - 1, low, high)
    reach = np.clip(thresholds[:, -1], low, high) - base
    if (np.abs(low) >= 1 << 31).any() or (np.abs(high) >= 1 << 31).any() or (reach >= 1 << 24).any():
        return None
    split = min(14, 32 - int(reach.max()).bit_length())
    slopes = layer.multiplier * 2.0 ** (layer.power.astype(float) - 31)
    # Only what lies below the zero point, and is not clamped, can fall to the other side of a tie.
    signed = layer.output_zero > layer.low and bool((layer.power < 0).any())
    words = []
    for channel, slope in enumerate(slopes):
        found = _words(layer, thresholds[channel], (int(base[channel]), int(reach[channel])), slope, split, channel)
        if found is None:
            return None
        words.append(found if signed else found[:4])
    if not words:
        return None
    return DistanceRequantization(
        base, np.array(words, np.int64).astype(np.uint32).view(np.int32), split, signed, layer.low
    )


def _words(
    layer: WeightedLayer, thresholds: Array, limits: tuple[int, int], slope: float, split: int, channel: int
) -> tuple[int, ...] | None:
    base, reach = limits
    values = np.arange(1, len(thresholds) + 1, dtype=np.int64) << _SHIFT
    reached, passed = thresholds <= base + reach, thresholds > base
    if not (reached & passed).any():
        return 0, 0, 0, int(reached.sum()) << _SHIFT, 0, 0
    # A result below the zero point starts one unit of TFLM's first rounding later.
    index = layer.output_zero - layer.low
    falls = index > 0 and layer.power[channel] < 0
    drop = round(2.0 ** layer.power[channel] * 2**_SHIFT) if falls else 0
    turn = int(np.clip(thresholds[min(index, len(thresholds) - 1)] - base, 0, reach)) if falls else 0
    ideal = round(slope * 2.0 ** (_SHIFT + split))

    def lifted(distance: Array, multiplier: int) -> Array:
        high, low = multiplier >> split, multiplier & ((1 << split) - 1)
        return np.asarray(distance * high + ((distance * low) >> split) - np.where(distance < turn, drop, 0))

    for change in _CHANGES:
        multiplier = ideal + change
        if not 0 <= multiplier >> split < 1 << 31:
            continue
        at, before = np.clip(thresholds - base, 0, reach), np.clip(thresholds - 1 - base, 0, reach)
        least = (values - lifted(at, multiplier))[reached].max(initial=drop)
        last = int(lifted(np.array([reach]), multiplier)[0])
        # The furthest sum has the last result that is reached, no more.
        most = (values - 1 - lifted(before, multiplier))[passed].min(
            initial=((int(reached.sum()) + 1) << _SHIFT) - 1 - last
        )
        if least <= most and reach * (multiplier >> split) < 1 << 32:
            low = multiplier & ((1 << split) - 1)
            return reach, multiplier >> split, low, int(least + most) // 2, turn, drop
    return None

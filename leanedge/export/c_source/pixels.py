"""How a raw pixel becomes an integer input: an offset where that is exact, else a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.program.simulate.real import quantize

if TYPE_CHECKING:
    from leanedge.program.types import ProgramTensor
    from leanedge.settings import InputSettings

__all__ = ["PixelRule", "pixel_offset", "pixel_tables", "stated_pixels"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PixelRule:
    """A pixel (0 to 255) becomes (pixel x scale - mean) / std, each one number or one a channel.

    Attributes:
        scale: Multiplied with, first.
        mean: Subtracted.
        std: Divided by, last.
        color: Order of the channels: ``RGB``, ``BGR``, ``gray``, or empty.
    """

    scale: tuple[float, ...] = (1.0,)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    color: str = ""


def stated_pixels(entry: InputSettings) -> PixelRule | None:
    """The rule of an input's settings; None where they state no arithmetic."""
    if not entry.has_arithmetic:
        return None

    def numbers(stated: float | tuple[float, ...] | None, default: float) -> tuple[float, ...]:
        return stated if isinstance(stated, tuple) else (default if stated is None else stated,)

    return PixelRule(numbers(entry.scale, 1.0), numbers(entry.mean, 0.0), numbers(entry.std, 1.0), entry.color or "")


def pixel_tables(rule: PixelRule, tensor: ProgramTensor) -> Array:
    """int8 (channels or 1, 256): what each pixel becomes, by the float arithmetic of LeanEdge's data and `quantize`."""
    pixels = np.arange(256, dtype=np.float32)[None, :]
    scale, mean, std = (np.asarray(part, np.float32)[:, None] for part in (rule.scale, rule.mean, rule.std))
    return quantize((pixels * scale - mean) / std, tensor)


def pixel_offset(tables: Array) -> int | None:
    """The offset that turns every pixel of every channel into its integer, if there is one.

    >>> pixel_offset(np.arange(-128, 128, dtype=np.int8)[None, :])
    -128
    """
    offsets = tables.astype(np.int64) - np.arange(256)
    return int(offsets[0, 0]) if (offsets == offsets[0, 0]).all() else None

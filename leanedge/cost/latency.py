"""Predicted latency on a device that is not at hand: executed instructions times a constant.

The instructions of one inference are counted under emulation with one thread (waiting threads spin, so more threads
are not repeatable); the constant belongs to a cell (device, runtime, dtype, threads) of the profile and holds what the
threads share. Where it comes from, and its error, is in the cell; ``benchmarks/pi_latency.py`` fits it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from leanedge.figures import Figure, unavailable

if TYPE_CHECKING:
    from leanedge.names import Scheme
    from leanedge.profile import DeviceProfile, LatencyCell

__all__ = ["dtypes_of", "find_cell", "predict_latency"]

Dtype = Literal["fp32", "int8"]

_DTYPES: dict[str, tuple[Dtype, ...]] = {
    "fp32": ("fp32",),
    "fp16": ("fp32",),
    "w8a8": ("int8",),
    "w8a8_pt": ("int8",),
    "w8a8_dynamic": ("fp32", "int8"),
    "mixed": ("fp32", "int8"),
}
"""What the arithmetic of a scheme is done in. Two dtypes: the constant lies between those of both cells."""


def dtypes_of(scheme: Scheme) -> tuple[Dtype, ...]:
    """What the bulk of the arithmetic is done in: one dtype, or two that share the work."""
    return _DTYPES[scheme]


def find_cell(profile: DeviceProfile, runtime: str, dtype: Dtype, threads: int) -> LatencyCell | None:
    """The profile's constant for that runtime, dtype and number of threads, or None."""
    for cell in profile.latency:
        if (cell.runtime, cell.dtype, cell.threads) == (runtime, dtype, threads):
            return cell
    return None


def predict_latency(
    profile: DeviceProfile, runtime: str, scheme: Scheme, instructions: int, threads: int | None = None
) -> Figure:
    """Milliseconds of one inference at batch 1.

    Args:
        profile: The device.
        runtime: The runtime, as the runner names it.
        scheme: The candidate's scheme.
        instructions: Executed instructions of one inference, counted with one thread.
        threads: Threads on the device, by default all its cores.

    Returns:
        Kind ``predicted``; `detail` holds the cell, the interval ``low_ms`` to ``high_ms`` (9 of 10 published rows
        lie in it), on how many models it stands, its leave-one-model-out error, what is borrowed, and ``decides``.
        Unavailable, with the reason, where the profile has no such cell.
    """
    used = profile.threads if threads is None else threads
    dtypes = dtypes_of(scheme)
    cells = [cell for dtype in dtypes if (cell := find_cell(profile, runtime, dtype, used))]
    if len(cells) < len(dtypes):
        return unavailable("ms", _why_not(profile, runtime, dtypes, used))
    # The geometric mean of the two constants; the interval reaches to both ends.
    constant = math.exp(sum(math.log(cell.ns_per_instruction) for cell in cells) / len(cells))
    low = min(cell.ns_per_instruction * cell.low for cell in cells)
    high = max(cell.ns_per_instruction * cell.high for cell in cells)
    borrowed = [cell.borrowed for cell in cells if cell.borrowed]
    errors = [cell.error for cell in cells if cell.error is not None]
    detail = {
        "by": "counted instructions x constant",
        "cells": [f"{profile.name} {runtime} {cell.dtype} x{cell.threads}" for cell in cells],
        "instructions": instructions,
        "ns_per_instruction": constant,
        "threads": used,
        "low_ms": instructions * low * 1e-6,
        "high_ms": instructions * high * 1e-6,
        "models": min(cell.models for cell in cells),
        "error": max(errors) if len(errors) == len(cells) else None,
        "borrowed": "; ".join(borrowed) or None,
        "decides": len(cells) == 1 and cells[0].decides,
        "source": cells[0].source,
    }
    return Figure(instructions * constant * 1e-6, "ms", "predicted", detail)


def _why_not(profile: DeviceProfile, runtime: str, dtypes: tuple[Dtype, ...], threads: int) -> str:
    if not profile.latency:
        return f"no published latency to predict from for {profile.name}: its profile has no latency cells"
    known = sorted({(cell.dtype, cell.threads) for cell in profile.latency if cell.runtime == runtime})
    shown = ", ".join(f"{dtype} x{number}" for dtype, number in known) or "none"
    wanted = " and ".join(f"{dtype} x{threads}" for dtype in dtypes)
    return f"{profile.name} has no constant for {runtime} {wanted} (it has: {shown})"

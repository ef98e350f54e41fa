"""From published latencies and counted instructions to one constant a cell, with its error; what a thin cell borrows.

A cell is (device, runtime, dtype, threads). Everything is done on logarithms: errors of latency are factors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["FULL", "Cell", "Constant", "Fit", "Point", "constants", "fit"]

FULL = 4
"""Models that a cell needs to stand on its own."""

_T90 = (6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.90, 1.86, 1.83, 1.81, 1.80, 1.78, 1.77, 1.76, 1.75)
"""Two-sided 90 % quantiles of Student's t for 1 to 15 degrees of freedom."""


class Cell(NamedTuple):
    """What a constant belongs to."""

    device: str
    runtime: str
    dtype: str
    threads: int

    def __str__(self) -> str:
        return f"{self.device} {self.runtime} {self.dtype} x{self.threads}"


@dataclass(frozen=True)
class Point:
    """One published row with its count."""

    cell: Cell
    network: str
    latency_ms: float
    instructions: int

    @property
    def log_ns(self) -> float:
        """Logarithm of nanoseconds an instruction."""
        return math.log(1e6 * self.latency_ms / self.instructions)


@dataclass(frozen=True)
class Fit:
    """The constant of a cell's own rows.

    Attributes:
        log_ns: Mean over models of the logarithm of nanoseconds an instruction.
        sigma: Standard deviation of one model, or None for a single one.
        models: How many.
        errors: Model -> relative error when the others predict it.
    """

    log_ns: float
    sigma: float | None
    models: int
    errors: Mapping[str, float]

    @property
    def error(self) -> float | None:
        """Median of the leave-one-model-out errors."""
        return median(abs(value) for value in self.errors.values()) if self.errors else None


@dataclass(frozen=True)
class Constant:
    """What goes into a profile. `low` and `high` are factors on the prediction (9 of 10 models)."""

    cell: Cell
    ns_per_instruction: float
    low: float
    high: float
    error: float | None
    models: int
    borrowed: str | None

    @property
    def decides(self) -> bool:
        return self.models >= FULL


def fit(points: Iterable[Point]) -> Fit:
    """Fits one cell; several rows of one model count as one."""
    logs: dict[str, list[float]] = {}
    for point in points:
        logs.setdefault(point.network, []).append(point.log_ns)
    means = {network: sum(values) / len(values) for network, values in logs.items()}
    values = list(means.values())
    mean = sum(values) / len(values)
    errors = {}
    if len(values) > 1:
        for network, value in means.items():
            others = (sum(values) - value) / (len(values) - 1)
            errors[network] = math.exp(others - value) - 1
    sigma = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Fit(mean, sigma, len(values), errors)


def constants(points: Iterable[Point], wanted: Iterable[Cell]) -> list[Constant]:
    """A constant for each wanted cell: its own where it has 4 models, else from the nearest such cell, moved.

    The move from one cell to another is by an additive model of the logarithms (device + runtime and dtype + threads),
    fitted on all cells that have rows, weighted by their models. How far such moves are wrong is found by leaving out
    each full cell in turn; it widens the interval. The rows that a thin cell has itself are weighed in.
    """
    by_cell: dict[Cell, list[Point]] = {}
    for point in points:
        by_cell.setdefault(point.cell, []).append(point)
    fits = {cell: fit(rows) for cell, rows in by_cell.items()}
    full = {cell: own for cell, own in fits.items() if own.models >= FULL}
    within = math.sqrt(sum(_sigma(own) ** 2 for own in full.values()) / len(full))
    misses = [_moved(cell, {c: f for c, f in fits.items() if c != cell}) for cell in full]
    wrong = [moved[0] - full[cell].log_ns for cell, moved in zip(full, misses, strict=True) if moved]
    between = math.sqrt(sum(value**2 for value in wrong) / len(wrong))
    found = []
    for cell in wanted:
        own = fits.get(cell)
        if own is not None and own.models >= FULL:
            reach = _T90[min(own.models - 1, len(_T90)) - 1] * _sigma(own) * math.sqrt(1 + 1 / own.models)
            found.append(_constant(cell, own.log_ns, reach, own, None))
            continue
        moved = _moved(cell, {c: f for c, f in fits.items() if c != cell})
        if moved is None:
            continue
        log_ns, nearest = moved
        variance = between**2
        said = f"constant of {nearest}, moved by the differences between cells with rows"
        if own is not None:
            weight = own.models / within**2
            log_ns = (weight * own.log_ns + log_ns / between**2) / (weight + 1 / between**2)
            variance = 1 / (weight + 1 / between**2)
            said += f"; weighed with {own.models} {'model' if own.models == 1 else 'models'} of its own"
        reach = _T90[1] * math.sqrt(within**2 + variance)
        said += f"; such moves were wrong by a factor of {math.exp(between):.2f} (RMS over {len(wrong)} cells)"
        found.append(_constant(cell, log_ns, reach, own, said))
    return found


def _constant(cell: Cell, log_ns: float, reach: float, own: Fit | None, borrowed: str | None) -> Constant:
    return Constant(
        cell=cell,
        ns_per_instruction=math.exp(log_ns),
        low=math.exp(-reach),
        high=math.exp(reach),
        error=own.error if own else None,
        models=own.models if own else 0,
        borrowed=borrowed,
    )


def _sigma(own: Fit) -> float:
    assert own.sigma is not None
    return own.sigma


def _moved(cell: Cell, fits: Mapping[Cell, Fit]) -> tuple[float, Cell] | None:
    """The nearest full cell's constant, moved to `cell`; None where no row tells of its device, runtime or dtype."""
    effects = _effects(fits)
    near = [other for other, own in fits.items() if own.models >= FULL]
    if any(key not in effects for key in _keys(cell)) or not near:
        return None
    nearest = min(near, key=lambda other: (_distance(cell, other), str(other)))
    move = sum(effects[key] for key in _keys(cell)) - sum(effects[key] for key in _keys(nearest))
    return fits[nearest].log_ns + move, nearest


def _distance(one: Cell, other: Cell) -> int:
    """The silicon matters most, then the arithmetic, then the kernels, then how many cores share the work."""
    return (
        8 * (one.device != other.device)
        + 4 * (one.dtype != other.dtype)
        + 2 * (one.runtime != other.runtime)
        + (one.threads != other.threads)
    )


def _keys(cell: Cell) -> tuple[tuple[str, ...], ...]:
    return ("device", cell.device), ("kernels", cell.runtime, cell.dtype), ("threads", str(cell.threads))


def _effects(fits: Mapping[Cell, Fit]) -> dict[tuple[str, ...], float]:
    """Least squares on the cells' constants, each weighted by its number of models (at most a full cell's)."""
    keys = sorted({key for cell in fits for key in _keys(cell)})
    index = {key: number for number, key in enumerate(keys)}
    matrix = np.zeros((len(fits), len(keys)))
    target = np.zeros(len(fits))
    for row, (cell, own) in enumerate(fits.items()):
        weight = math.sqrt(min(own.models, FULL))
        for key in _keys(cell):
            matrix[row, index[key]] = weight
        target[row] = weight * own.log_ns
    solution = np.linalg.lstsq(matrix, target, rcond=None)[0]
    return {key: float(solution[number]) for key, number in index.items()}

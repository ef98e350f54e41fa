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
        log_ns: Median over models of the logarithm of nanoseconds an instruction: a single row can't drag it.
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
    errors = {}
    if len(values) > 1:
        for network, value in means.items():
            others = median(mean for name, mean in means.items() if name != network)
            errors[network] = math.exp(others - value) - 1
    sigma = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Fit(median(values), sigma, len(values), errors)


def constants(points: Iterable[Point], wanted: Iterable[Cell]) -> list[Constant]:
    """A constant for each wanted cell: its own where it has 4 models, else weighed with the nearest other one, moved.

    The move from one cell to another is by an additive model of the logarithms (device + runtime and dtype + threads),
    fitted on all cells that have rows, weighted by their models. How far such moves are wrong is found by trying them
    between full cells that are as far apart; it widens the interval.
    """
    by_cell: dict[Cell, list[Point]] = {}
    for point in points:
        by_cell.setdefault(point.cell, []).append(point)
    fits = {cell: fit(rows) for cell, rows in by_cell.items()}
    within = median(_sigma(own) for own in fits.values() if own.models >= FULL)
    published = {cell: {(row.network, row.latency_ms) for row in rows} for cell, rows in by_cell.items()}
    wrong = _wrong_moves(fits, published)
    found = []
    for cell in wanted:
        own = fits.get(cell)
        if own is not None and own.models >= FULL:
            reach = _T90[min(own.models - 1, len(_T90)) - 1] * _sigma(own) * math.sqrt(1 + 1 / own.models)
            found.append(_constant(cell, own.log_ns, reach, own, None))
            continue
        moved = _moved(cell, fits)
        if moved is None and own is None:
            continue
        if moved is None:
            log_ns, variance = own.log_ns, within**2 / own.models
            said = f"the interval, from full cells: it has {_models(own)}, no other cell these kernels"
            found.append(_constant(cell, log_ns, _T90[1] * math.sqrt(within**2 + variance), own, said))
            continue
        log_ns, nearest = moved
        between = _expected(wrong, _distance(cell, nearest))
        # The constant moved, and what each step of the move is known by, are themselves means of few models.
        steps = [_told(key, cell, fits) for key in _keys(cell) if key not in _keys(nearest)]
        variance = between**2 + within**2 * sum(1 / models for models in (fits[nearest].models, *steps))
        said = (
            f"constant of {nearest} ({_models(fits[nearest])}), moved by the differences between cells with rows "
            f"(the least known step from {min(steps)} row{'s' if min(steps) > 1 else ''}); "
            f"such moves were wrong by a factor of {math.exp(between):.2f} (RMS)"
        )
        if own is not None:
            weight = own.models / within**2
            log_ns = (weight * own.log_ns + log_ns / variance) / (weight + 1 / variance)
            variance = 1 / (weight + 1 / variance)
            said += f"; weighed with {_models(own)} of its own"
        found.append(_constant(cell, log_ns, _T90[1] * math.sqrt(within**2 + variance), own, said))
    return found


def _told(key: tuple[str, ...], cell: Cell, fits: Mapping[Cell, Fit]) -> int:
    """In how many rows of other cells a device, a runtime with its dtype, or a number of threads was seen."""
    return sum(own.models for other, own in fits.items() if other != cell and key in _keys(other))


def _models(own: Fit) -> str:
    return f"{own.models} model{'s' if own.models > 1 else ''}"


def _wrong_moves(fits: Mapping[Cell, Fit], published: Mapping[Cell, set[tuple[str, float]]]) -> dict[int, float]:
    """Distance -> RMS error, on logarithms, of moving one full cell's constant to another without its own rows.

    Cells that two runtimes fit on the very same published rows would agree too well: they are not compared.
    """
    full = [cell for cell, own in fits.items() if own.models >= FULL]
    errors: dict[int, list[float]] = {}
    for cell in full:
        others = {other: own for other, own in fits.items() if other != cell}
        effects = _effects(others)
        if any(key not in effects for key in _keys(cell)):
            continue
        for other in full:
            if other != cell and published[cell].isdisjoint(published[other]):
                error = others[other].log_ns + _move(effects, other, cell) - fits[cell].log_ns
                errors.setdefault(_distance(cell, other), []).append(error)
    return {distance: math.sqrt(sum(e**2 for e in some) / len(some)) for distance, some in errors.items()}


def _expected(wrong: Mapping[int, float], distance: int) -> float:
    """What moves of that distance, or of the next longer one that was tried, were wrong by; else the worst of all."""
    longer = [tried for tried in sorted(wrong) if tried >= distance]
    return wrong[longer[0]] if longer else max(wrong.values())


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
    """The nearest other cell's constant, moved to `cell`; None where no row tells of its device, runtime or dtype."""
    others = {other: own for other, own in fits.items() if other != cell}
    effects = _effects(others)
    if any(key not in effects for key in _keys(cell)):
        return None
    nearest = min(others, key=lambda other: (_distance(cell, other), -others[other].models, str(other)))
    return others[nearest].log_ns + _move(effects, nearest, cell), nearest


def _move(effects: Mapping[tuple[str, ...], float], start: Cell, end: Cell) -> float:
    return sum(effects[key] for key in _keys(end)) - sum(effects[key] for key in _keys(start))


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

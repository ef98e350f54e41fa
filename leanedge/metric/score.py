"""A score with its 95 % interval, and the difference of two scores on the same samples."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["RESAMPLES", "Score", "bootstrap", "paired_difference", "wilson"]

Array = np.ndarray[Any, Any]

RESAMPLES = 1000
"""Of the bootstrap; its own error on an end of the interval is then about a tenth of the interval's width."""

_Z = 1.959964  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class Score:
    """What a metric says of a set of samples; plain JSON values throughout.

    Attributes:
        value: The metric's value.
        n: How many samples it is from.
        low: Lower end of the 95 % interval, None when it was not asked for or no resample has a value.
        high: Upper end.
        per_sample: What each sample contributes, where the value is the mean of that (or its square root for rmse):
            1 or 0 for right or wrong, the error, the similarity. None where there is no such thing.
        detail: What else is worth showing, such as the SQNR of each output.
    """

    value: float
    n: int
    low: float | None
    high: float | None
    per_sample: tuple[float, ...] | None = field(default=None, repr=False)
    detail: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.per_sample is not None:
            object.__setattr__(self, "per_sample", tuple(float(value) for value in self.per_sample))

    @property
    def correct(self) -> Array | None:
        """(n,) bool, which samples were right; None unless every sample is either right or wrong."""
        if self.per_sample is None:
            return None
        values = np.asarray(self.per_sample)
        return values == 1 if np.isin(values, (0, 1)).all() else None


def wilson(right: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927).

    >>> tuple(round(end, 4) for end in wilson(90, 100))
    (0.8256, 0.9448)
    """
    share, z2 = right / n, _Z * _Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half) if right else 0.0, min(1.0, middle + half) if right < n else 1.0


def bootstrap(
    statistic: Callable[[Array], float], n: int, seed: int, resamples: int = RESAMPLES
) -> tuple[float | None, float | None]:
    """95 % percentile interval of a statistic (Efron and Tibshirani 1993, chapter 13).

    Args:
        statistic: Takes (n,) sample indices, some more than once; NaN where a resample has no value.
        n: Samples.
        seed: Of the resamples.
        resamples: How many.
    """
    rng = np.random.default_rng(seed)
    values = np.array([statistic(rng.integers(0, n, n)) for _ in range(resamples)])
    values = values[~np.isnan(values)]
    if not len(values):
        return None, None
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def paired_difference(first: Score, second: Score, seed: int = 0) -> tuple[float, float, float]:
    """How much the second's mean per sample is above the first's, with the 95 % interval: (difference, low, high).

    Both are of the same samples in the same order, so that what is hard for both cancels out.

    Raises:
        DataError: One has no per-sample values, or their numbers differ.
    """
    if first.per_sample is None or second.per_sample is None or len(first.per_sample) != len(second.per_sample):
        raise DataError(
            "scores can't be compared sample by sample", allowed="two scores of one per-sample metric on the same set"
        )
    change = np.asarray(second.per_sample) - np.asarray(first.per_sample)
    low, high = bootstrap(lambda index: float(change[index].mean()), len(change), seed)
    assert low is not None  # a mean always has a value
    assert high is not None
    return float(change.mean()), low, high

"""Splits samples into the three disjoint sets: calibration, selection, test. Seeded, stratified, groups kept whole."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from leanedge.data.samples import Samples, Sets
from leanedge.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from leanedge.data.source import Source

__all__ = ["CALIBRATION", "LEAST_FOR_SETS", "LEAST_SAMPLES", "SAME_DATA", "SELECTION", "three_sets"]

Array = np.ndarray[Any, Any]

CALIBRATION = 256
"""Most samples for calibration: ranges and least squares gain nothing beyond."""

SELECTION = 2000
"""Most samples for selection: a 95 % interval of about one point on either side of 95 %."""

LEAST_SAMPLES = 8
"""Fewer are refused: ranges can't be found from them."""

LEAST_FOR_SETS = 30
"""With fewer, the sets are not disjoint."""

SAME_DATA = "selected on the same data"
"""The words that mark an accuracy measured on samples that also served to choose."""

_FRACTIONS = (0.2, 0.3, 0.5)  # calibration, selection, test
_FRACTIONS_WITHOUT_TEST = (0.4, 0.6)  # the test set comes from elsewhere


def three_sets(
    source: Source,
    seed: int,
    test_source: Source | None = None,
    calibration: int = CALIBRATION,
    selection: int = SELECTION,
) -> Sets:
    """Splits a source.

    Samples marked `test` are the test set, or `test_source` is; else half of the samples are. Integer labels are
    spread evenly over the sets, and over every beginning of a set, so that its first samples represent it. Samples of
    one group, and samples that are equal, are in one set.

    Args:
        source: Calibration and selection come from it, the test set too unless it is given apart.
        seed: Of the shuffle; the same seed gives the same sets.
        test_source: The test set apart; samples that `source` marks as test are then left out.
        calibration: Most samples for calibration.
        selection: Most samples for selection.

    Returns:
        The sets, with notes for the report. `same_data` says that the test samples also served to choose.

    Raises:
        DataError: Fewer than `LEAST_SAMPLES` samples beside the test set; labels of another kind in `test_source`.
    """
    samples, notes = source.samples, [*source.notes, *(test_source.notes if test_source else ())]
    rng = np.random.default_rng(seed)
    order = _spread(samples, np.arange(len(samples)), rng)
    marked = source.test[order] if source.test is not None else np.zeros(len(order), bool)
    rest = order[~marked]
    if len(rest) < LEAST_SAMPLES:
        count = "1 sample is" if len(rest) == 1 else f"{len(rest)} samples are"
        beside = " beside the test set" if marked.any() else ""
        raise DataError(
            f"{count} too few{beside}: value ranges and accuracy can't be found from so little",
            where="data",
            allowed=f"at least {LEAST_SAMPLES} samples, or {LEAST_FOR_SETS} for three disjoint sets",
            hint="give more samples of what the model will see",
        )
    test = test_source.samples if test_source is not None else samples.take(order[marked]) if marked.any() else None
    if test_source is not None:
        _check_alike(samples, test_source.samples)
        notes += _about_apart(source, test_source)
    if test is not None and test_source is None:
        notes += _about_crossing(samples, rest, order[marked])
    parts = _split(samples, rest, _FRACTIONS if test is None else _FRACTIONS_WITHOUT_TEST, rng)
    if parts is None:
        same = samples.take(rest)
        calibrate = samples.take(rest[:calibration])
        if test is None:
            notes.append(f"{_too_few(samples, rest)} for three disjoint sets: {SAME_DATA}")
            return Sets(calibrate, same, same, tuple(notes), same_data=True)
        notes.append(f"{_too_few(samples, rest)} for two disjoint sets beside the test set: calibrated and selected on "
                     f"the same {len(rest)}; the {len(test)} test samples are others")  # fmt: skip
        return Sets(calibrate, samples.take(rest[:selection]), test, tuple(notes))
    chosen = [samples.take(parts[0][:calibration]), samples.take(parts[1][:selection])]
    test = test if test is not None else samples.take(parts[2])
    notes.append(_about_sets(chosen[0], chosen[1], test, seed))
    return Sets(chosen[0], chosen[1], test, tuple(notes))


def _spread(samples: Samples, indices: Array, rng: np.random.Generator) -> Array:
    """A shuffle of the indices in which every class is spread evenly (systematic sampling)."""
    shuffled = rng.permutation(indices)
    strata = _strata(samples)[shuffled]
    place = np.empty(len(shuffled))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    return np.asarray(shuffled[np.argsort(place, kind="stable")])


def _strata(samples: Samples) -> Array:
    labels = samples.labels
    if labels is None or labels.ndim != 1 or labels.dtype.kind not in "iu":
        return np.zeros(len(samples), np.int64)
    return np.unique(labels, return_inverse=True)[1]


def _split(samples: Samples, order: Array, fractions: Sequence[float], rng: np.random.Generator) -> list[Array] | None:
    """Indices of each part, in `order`'s order; None where there are too few samples, or groups, for disjoint parts."""
    if len(order) < LEAST_FOR_SETS * len(fractions) / 3:
        return None
    groups = _groups(samples)[order]
    if samples.groups is not None:
        part_of = _parts_of_groups(groups, _strata(samples)[order], fractions, rng)
    else:  # equal samples go where the first of them goes
        ids, first = np.unique(groups, return_index=True)
        part_of = np.zeros(ids[-1] + 1, np.int64)
        part_of[ids] = np.searchsorted(np.cumsum(fractions[:-1]) * len(order), first, side="right")
    parts = [order[np.isin(groups, np.flatnonzero(part_of == part))] for part in range(len(fractions))]
    return parts if all(len(part) >= LEAST_SAMPLES // 2 for part in parts) else None


def _groups(samples: Samples) -> Array:
    """Group ids, counted from 0; without groups, equal samples are one group."""
    if samples.groups is not None:
        return np.unique(samples.groups, return_inverse=True)[1]
    ids: dict[tuple[bytes, ...], int] = {}
    return np.array([ids.setdefault(_identity(samples, index), len(ids)) for index in range(len(samples))])


def _identity(samples: Samples, index: int) -> tuple[bytes, ...]:
    return tuple(hashlib.blake2b(array[index].tobytes(), digest_size=16).digest() for array in samples.inputs.values())


def _parts_of_groups(groups: Array, strata: Array, fractions: Sequence[float], rng: np.random.Generator) -> Array:
    """Group -> part, largest groups first, each to the part whose class counts it brings nearest to its share."""
    present, counts = np.unique(groups, return_counts=True)
    histogram = np.zeros((present.max() + 1, strata.max() + 1))
    np.add.at(histogram, (groups, strata), 1)
    wanted = np.outer(fractions, histogram.sum(axis=0))
    scale = np.sqrt(wanted.sum(axis=1, keepdims=True))
    held = np.zeros_like(wanted)
    part_of = np.full(present.max() + 1, -1)
    shuffled = rng.permutation(len(present))
    for position in shuffled[np.argsort(-counts[shuffled], kind="stable")]:
        group = present[position]
        before = (((wanted - held) / scale) ** 2).sum(axis=1)
        after = (((wanted - held - histogram[group]) / scale) ** 2).sum(axis=1)
        part = int(np.argmin(after - before))
        part_of[group] = part
        held[part] += histogram[group]
    return part_of


def _too_few(samples: Samples, rest: Array) -> str:
    if samples.groups is None or len(rest) >= LEAST_FOR_SETS:
        number = len(np.unique(_groups(samples)[rest]))
        if number < len(rest):
            return f"{len(rest)} samples in {number} groups are too few"
    return f"{len(rest)} samples are too few"


def _check_alike(samples: Samples, test: Samples) -> None:
    def kind(labels: Array | None) -> str:
        if labels is None:
            return "no labels"
        return f"{'integer' if labels.dtype.kind == 'i' else 'float'} labels of shape {('n', *labels.shape[1:])}"

    ours, theirs = kind(samples.labels), kind(test.labels)
    if ours != theirs:
        raise DataError(f"the test data has {theirs}, the data {ours}", where="y", allowed="the same in both")


def _about_sets(calibration: Samples, selection: Samples, test: Samples, seed: int) -> str:
    classes = " stratified by class," if _strata(test).any() else ""
    groups = " groups kept whole," if test.groups is not None else ""
    return (
        f"calibration {len(calibration)}, selection {len(selection)}, test {len(test)} samples:"
        f" disjoint,{classes}{groups} seed {seed}"
    )


def _about_apart(source: Source, test_source: Source) -> list[str]:
    notes = []
    if source.test is not None:
        notes.append(
            f"{int(source.test.sum())} samples that the data marks as test are left out: the test set is apart"
        )
    rest = np.arange(len(source.samples)) if source.test is None else np.flatnonzero(~source.test)
    known = {_identity(source.samples, int(index)) for index in rest}
    equal = sum(_identity(test_source.samples, index) in known for index in range(len(test_source.samples)))
    if equal:
        notes.append(
            f"{equal} of {len(test_source.samples)} test samples are also in the data: the accuracy is flattered"
        )
    return notes


def _about_crossing(samples: Samples, rest: Array, test: Array) -> list[str]:
    """A stated test mask is kept as it is; that it cuts a group, or that samples recur, is said."""
    notes = []
    known = {_identity(samples, int(index)) for index in rest}
    equal = sum(_identity(samples, int(index)) in known for index in test)
    if equal:
        notes.append(f"{equal} of {len(test)} test samples are also among the others: the accuracy is flattered")
    if samples.groups is not None:
        crossing = np.intersect1d(samples.groups[rest], samples.groups[test])
        if len(crossing):
            notes.append(f"{len(crossing)} groups stand on both sides of the test mask: the accuracy is flattered")
    return notes

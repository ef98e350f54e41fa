"""The three sets: disjoint, seeded, stratified, groups kept whole, and honest where there are too few samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanedge.data.samples import Samples
from leanedge.data.sets import LEAST_FOR_SETS, LEAST_SAMPLES, SAME_DATA, three_sets
from leanedge.data.source import Source
from leanedge.errors import DataError


def source(n, classes=0, groups=None, test=None, start=0):
    """Sample i holds the value i, so that a set's samples are told by their values."""
    values = np.arange(start, start + n, dtype=np.float32).reshape(n, 1, 1)
    labels = None if not classes else np.sort(np.arange(n) % classes)  # stored class by class
    return Source(Samples({"x": values}, labels, None if groups is None else np.asarray(groups)), test)


def ids(samples):
    return samples.inputs["x"][:, 0, 0].astype(int).tolist()


def parts(sets):
    return [ids(sets.calibration), ids(sets.selection), ids(sets.test)]


def test_sizes_and_bounds():
    sets = three_sets(source(1000), 0)
    assert [len(part) for part in parts(sets)] == [200, 300, 500]
    assert not sets.same_data
    sets = three_sets(source(20000), 0)
    assert [len(part) for part in parts(sets)] == [256, 2000, 10000]
    assert "calibration 256, selection 2000, test 10000 samples" in sets.notes[-1]
    assert [len(p) for p in parts(three_sets(source(1000), 0, calibration=10, selection=20))] == [10, 20, 500]


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(LEAST_SAMPLES, 300),
    classes=st.integers(0, 5),
    group_count=st.integers(0, 40),
    masked=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_disjoint_seeded_and_groups_kept_whole(n, classes, group_count, masked, seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, group_count, n) if group_count else None
    mask = np.arange(n) >= max(LEAST_SAMPLES, n // 2) if masked else None
    made = source(n, classes, groups, mask)
    sets = three_sets(made, seed)
    assert parts(sets) == parts(three_sets(made, seed))
    calibration, selection, test = (set(part) for part in parts(sets))
    assert calibration
    assert selection
    assert test
    if mask is not None and mask.any():
        assert test == set(np.flatnonzero(mask).tolist())
        assert not sets.same_data
        assert not test & (calibration | selection)
    if sets.same_data:
        assert any(SAME_DATA in note for note in sets.notes)
        assert calibration <= selection == test
    elif any("disjoint, " in note for note in sets.notes):
        assert not calibration & selection
        assert not test & (calibration | selection)
        if groups is not None:
            assert not set(groups[list(calibration)]) & set(groups[list(selection)])
            if mask is None:
                assert not set(groups[list(test)]) & set(groups[list(calibration | selection)])


def test_another_seed_gives_other_sets():
    assert parts(three_sets(source(100), 0)) != parts(three_sets(source(100), 1))


def test_stratified_though_stored_class_by_class():
    sets = three_sets(source(1000, classes=5), 3)
    for part in (sets.calibration, sets.selection, sets.test):
        counts = np.bincount(part.labels, minlength=5)
        assert counts.max() - counts.min() <= 2
        start = np.bincount(part.labels[:50], minlength=5)
        assert start.min() >= 8  # every beginning of a set represents it


def test_rare_class_is_spread():
    made = source(1000)
    labels = np.zeros(1000, np.int64)
    labels[:10] = 1
    made = Source(Samples(made.samples.inputs, labels), None)
    sets = three_sets(made, 0)
    assert [int(part.labels.sum()) for part in (sets.calibration, sets.selection, sets.test)] == [2, 3, 5]


def test_float_labels_are_no_strata():
    made = source(100)
    sets = three_sets(Source(Samples(made.samples.inputs, np.linspace(0, 1, 100))), 0)
    assert len(sets.test) == 50
    assert "stratified" not in sets.notes[-1]


def test_groups_near_their_shares():
    sets = three_sets(source(1000, classes=4, groups=np.random.default_rng(0).integers(0, 50, 1000)), 0)
    assert [round(len(part), -2) for part in parts(sets)] == [200, 300, 500]
    assert "groups kept whole" in sets.notes[-1]


def test_three_groups_fill_three_sets():
    sets = three_sets(source(90, groups=np.repeat([0, 1, 2], 30)), 0)
    assert not sets.same_data
    assert [len(part) for part in parts(sets)] == [30, 30, 30]


def test_too_few_groups():
    sets = three_sets(source(90, groups=np.repeat([0, 1], 45)), 0)
    assert sets.same_data
    assert "90 samples in 2 groups are too few for three disjoint sets: selected on the same data" in sets.notes


def test_too_few_samples():
    sets = three_sets(source(LEAST_FOR_SETS - 1), 0)
    assert sets.same_data
    assert f"29 samples are too few for three disjoint sets: {SAME_DATA}" in sets.notes
    assert sorted(ids(sets.test)) == list(range(29))
    assert not three_sets(source(LEAST_FOR_SETS), 0).same_data


@pytest.mark.parametrize("n", [1, 2, LEAST_SAMPLES - 1])
def test_hardly_any_samples(n):
    with pytest.raises(DataError) as caught:
        three_sets(source(n), 0)
    message = str(caught.value)
    assert ("1 sample is" if n == 1 else f"{n} samples are") + " too few" in message
    assert "at least 8 samples, or 30 for three disjoint sets" in message


def test_hardly_any_samples_beside_the_mask():
    mask = np.ones(100, bool)
    mask[:3] = False
    with pytest.raises(DataError, match="3 samples are too few beside the test set"):
        three_sets(source(100, test=mask), 0)


def test_mask_with_few_others():
    mask = np.ones(100, bool)
    mask[:10] = False
    sets = three_sets(source(100, test=mask), 0)
    assert not sets.same_data
    assert len(sets.test) == 90
    assert "calibrated and selected on the same 10; the 90 test samples are others" in sets.notes[-1]
    assert set(ids(sets.calibration)) == set(ids(sets.selection)) == set(range(10))


def test_mask_that_cuts_groups_is_kept_and_said():
    mask = np.arange(100) >= 50
    groups = np.arange(100) % 10
    sets = three_sets(source(100, groups=groups, test=mask), 0)
    assert sorted(ids(sets.test)) == list(range(50, 100))
    assert "10 groups stand on both sides of the test mask: the accuracy is flattered" in sets.notes
    assert not set(groups[ids(sets.calibration)]) & set(groups[ids(sets.selection)])


def test_test_set_apart():
    apart = source(7, start=1000)
    sets = three_sets(source(100), 0, apart)
    assert ids(sets.test) == list(range(1000, 1007))
    assert [len(part) for part in parts(sets)] == [40, 60, 7]
    mask = np.arange(100) >= 90
    sets = three_sets(source(100, test=mask), 0, apart)
    assert max(ids(sets.calibration) + ids(sets.selection)) < 90
    assert any("10 samples that the data marks as test are left out" in note for note in sets.notes)


def test_test_set_apart_with_other_labels():
    with pytest.raises(DataError, match="the test data has no labels, the data integer labels of shape"):
        three_sets(source(100, classes=3), 0, source(7))


def test_test_set_apart_that_is_not_apart():
    sets = three_sets(source(100), 0, source(10, start=95))
    assert "5 of 10 test samples are also in the data: the accuracy is flattered" in sets.notes
    assert not any("also" in note for note in three_sets(source(100), 0, source(10, start=100)).notes)


def test_equal_samples_stay_together():
    values = (np.arange(200) // 2).astype(np.float32).reshape(200, 1, 1)
    sets = three_sets(Source(Samples({"x": values})), 0)
    found = [set(part) for part in parts(sets)]
    assert not found[0] & found[1]
    assert not found[2] & (found[0] | found[1])
    assert sum(len(part) for part in parts(sets)) == 200


def test_equal_samples_across_the_mask_are_said():
    values = (np.arange(200) % 190).astype(np.float32).reshape(200, 1, 1)
    sets = three_sets(Source(Samples({"x": values}), np.arange(200) >= 100), 0)
    assert "10 of 100 test samples are also among the others: the accuracy is flattered" in sets.notes


def test_all_samples_equal():
    sets = three_sets(Source(Samples({"x": np.zeros((100, 1, 1), np.float32)})), 0)
    assert sets.same_data
    assert "100 samples in 1 groups" in sets.notes[-1]


def test_source_notes_are_kept():
    made = Source(source(100).samples, notes=("so it was read",))
    assert three_sets(made, 0).notes[0] == "so it was read"

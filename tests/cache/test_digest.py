"""Digests: other values, types, shapes or nesting, another digest; equal values, the same."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from leanedge.cache import digest

Array = np.ndarray[Any, Any]

DTYPES = st.sampled_from(
    ["<f4", "<f8", "<f2", "<i1", "<u1", "<i4", "<i8", ">i4", "?", "<c8", "<U2", "<M8[s]", "<M8[D]"]
)
ARRAYS = DTYPES.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.floats(allow_nan=False),
    st.text(max_size=3),
    st.sampled_from(["1", "None", "True", "int:1;", "list0:", ""]),
    st.binary(max_size=3),
    st.sampled_from([np.float32(1), np.float64(1), np.int64(1), np.bool_(True)]),
    ARRAYS,
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=2), st.integers(0, 2)), inner, max_size=3),
        st.frozensets(st.one_of(st.integers(0, 3), st.text(max_size=1)), max_size=3),
    ),
    max_leaves=6,
)


def same(one: Any, other: Any) -> bool:
    """Equal in value, type and nesting, stated independently of the digest."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(repr(one) == repr(other)) if not isinstance(one, frozenset) else one == other


@given(VALUES, VALUES)
def test_digests_are_equal_exactly_when_the_values_are(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) == same(one, other)


@given(ARRAYS, st.data())
def test_another_shape_of_the_same_bytes_is_another_digest(array: Array, data: st.DataObject) -> None:
    shapes = [(*array.shape, 1), (1, *array.shape), (array.size,), tuple(reversed(array.shape))]
    shape = data.draw(st.sampled_from(shapes))
    assume(shape != array.shape)
    assert digest(array.reshape(shape)) != digest(array)


@given(ARRAYS)
def test_the_order_of_memory_does_not_count(array: Array) -> None:
    assert digest(np.asfortranarray(array).reshape(array.shape)) == digest(array)
    if array.ndim:
        assert digest(np.repeat(array, 2, axis=0)[::2]) == digest(array)


@given(st.lists(LEAVES, min_size=2, max_size=4))
def test_how_parts_are_grouped_counts(parts: list[Any]) -> None:
    found = {digest(*parts), digest(parts), digest([parts]), digest(parts[:1], parts[1:]), digest(*parts, None)}
    assert len(found) == 5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.array(3.0), np.array([3.0])),
        (np.zeros((0, 3)), np.zeros((3, 0))),
        (np.zeros(2, np.float32), np.zeros(1, np.float64)),
        (np.zeros(1, ">i4"), np.zeros(1, "<i4")),
        (np.zeros(1, [("a", "<i2"), ("b", "<i2")]), np.zeros(1, [("c", "<i4")])),
        ({1, 2}, [1, 2]),
        ({"1": 0}, {1: 0}),
        ({"a": 1}, [["a", 1]]),
        ("1", 1),
        (1, 1.0),
        (1, True),
        (np.float32(1), np.float64(1)),
        (b"a", "a"),
        (["ab", "c"], ["a", "bc"]),
        ([b"ab", b"c"], [b"a", b"bc"]),
        ([[1], 2], [1, [2]]),
        ([], None),
        ([], {}),
        (0.0, -0.0),
    ],
)
def test_what_looks_alike_differs(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)


def test_lists_and_tuples_are_alike_and_a_dict_has_no_order() -> None:
    assert digest((1, [2])) == digest([1, (2,)])
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest(json.loads(json.dumps({"a": [1, 2]}))) == digest({"a": (1, 2)})


@pytest.mark.parametrize("value", [object(), np.array([object()]), bytearray(b"x"), 1j, [object()]])
def test_what_has_no_digest_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="has no digest"):
        digest(value)


@given(ARRAYS.filter(lambda array: array.size > 0), st.data())
def test_a_changed_element_is_another_digest(array: Array, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, array.nbytes - 1))
    raw = bytearray(array.tobytes())
    raw[place] ^= 1
    changed = np.frombuffer(bytes(raw), array.dtype).reshape(array.shape)
    assert digest(changed) != digest(array)

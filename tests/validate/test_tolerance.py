"""How far two runs may be apart, and that NaN, shapes, types and integers get no benefit of the doubt."""

from __future__ import annotations

import math

import numpy as np
import pytest
import two_sides
from hypothesis import given
from hypothesis import strategies as st

from leanedge.validate import Tolerance, apart, compare, samples_to_emulate, tolerance_for
from leanedge.validate.emulation import EMULATED_INSTRUCTIONS

EXACT, NEAR = Tolerance(0.0, "bit for bit"), Tolerance(1e-3, "within 1e-3")


def compared(ours: object, theirs: object, rule: Tolerance, dtype: object = np.float32) -> tuple[bool, str]:
    return compare({"y": np.asarray(ours, dtype)}, {"y": np.asarray(theirs, dtype)}, {"y": rule})  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", [EXACT, NEAR])
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [([1.0, 2.0], [1.0, math.nan]), ([1.0, math.nan], [1.0, 2.0]), ([math.nan, 2.0], [math.nan, 2.0])],
)
def test_nan_is_never_equal(ours: list[float], theirs: list[float], rule: Tolerance) -> None:
    passed, words = compared(ours, theirs, rule)
    assert not passed
    assert "1 of 2 values differ" in words
    assert "nan" in words


@pytest.mark.parametrize("rule", [EXACT, NEAR])
def test_infinities_are_equal_to_those_of_their_sign_only(rule: Tolerance) -> None:
    assert compared([[1.0, -math.inf]], [[1.0, -math.inf]], rule)[0]
    assert not compared([[1.0, -math.inf]], [[1.0, math.inf]], rule)[0]
    assert not compared([[1.0, -math.inf]], [[1.0, -3e38]], rule)[0]
    assert not compared([[1.0, -3.0]], [[1.0, -math.inf]], rule)[0]


def test_an_infinity_does_not_widen_what_is_allowed_elsewhere() -> None:
    assert not compared([1.0, math.inf], [1.01, math.inf], NEAR)[0]
    assert compared([1.0, math.inf], [1.0009, math.inf], NEAR)[0]


def test_integers_must_be_equal_under_every_rule() -> None:
    for rule in (EXACT, Tolerance(0.5, "half")):
        assert compared([100, 200], [100, 200], rule, np.int64)[0]
        passed, words = compared([100, 200], [100, 201], rule, np.int64)
        assert not passed
        assert words == "y: 1 of 2 values differ, first at (1,): 200 expected, 201 found"
    assert not compared([True], [False], Tolerance(0.5, "half"), np.bool_)[0]


def test_large_integers_are_not_compared_as_floats() -> None:
    assert not compared([2**62], [2**62 + 1], NEAR, np.int64)[0]


def test_shapes_types_and_missing_outputs_fail() -> None:
    ours = {"y": np.zeros((4, 5), np.float32), "z": np.ones(2, np.float32)}
    rules = {"y": NEAR, "z": NEAR}
    for theirs, words in (
        ({**ours, "y": np.zeros((4, 1, 5), np.float32)}, "y: float32 (4, 1, 5) where float32 (4, 5) was expected"),
        ({**ours, "y": np.zeros((4, 5), np.float64)}, "y: float64 (4, 5) where float32 (4, 5) was expected"),
        ({"z": ours["z"]}, "y: missing, there is z"),
    ):
        passed, said = compare(ours, theirs, rules)
        assert not passed
        assert said.startswith(f"{words}; z: largest difference 0.0e+00"), said


def test_empty_outputs_are_equal() -> None:
    for rule in (EXACT, NEAR):
        assert compared(np.zeros((1, 0, 4)), np.zeros((1, 0, 4)), rule)[0]


def test_the_limit_itself_is_allowed() -> None:
    assert not apart(np.array([2.0, -4.0]), np.array([2.0, -2.0]), 0.5).any()
    assert apart(np.array([2.0, -4.0]), np.array([2.0, -1.9]), 0.5).tolist() == [False, True]


def test_flips_of_the_largest_value_are_counted() -> None:
    passed, words = compared([[1.0, 0.9999], [3.0, 1.0]], [[1.0, 1.0001], [3.0, 1.0]], NEAR)
    assert passed
    assert words == "y: largest difference 6.7e-05 of full scale, 1 of 2 top-1 flips"


@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=8),
    st.floats(-1e3, 1e3, width=32),
    st.integers(0, 7),
    st.sampled_from([0.0, 1e-6, 1e-3, 0.1]),
)
def test_a_value_is_apart_exactly_when_it_is_further_than_that_share_of_the_largest(
    ours: list[float], other: float, place: int, relative: float
) -> None:
    here = np.array(ours, np.float32)
    there = here.copy()
    there[place % len(here)] = np.float32(other)
    scale = float(np.abs(here).max()) or 1.0
    expected = np.abs(here.astype(np.float64) - there) > relative * scale
    assert (apart(here, there, relative) == expected).all()


def test_the_rule_of_an_output_follows_from_its_kernels() -> None:
    graph, _ = two_sides.classifier()
    exact = tolerance_for(graph, "logits", ("logits",), quantized=True)
    assert (exact.relative, exact.rule) == (0.0, "bit for bit: integer kernels up to here")

    # conv 1 -> 16 of 3x3: 9 products; depthwise: 9; pointwise: 16; gemm: 32. Four layers, the widest sums 32.
    plain = tolerance_for(graph, "logits", (), quantized=False)
    assert plain.relative == pytest.approx(4 * 4 * math.sqrt(32) * 2**-23)
    assert "4 x 4 layers x sqrt(32 products)" in plain.rule
    assert f"{plain.relative:.1e}" in plain.rule

    mixed = tolerance_for(graph, "logits", ("other",), quantized=True)
    assert mixed.relative == pytest.approx(math.sqrt(4) / 255)
    assert "sqrt(4 layers)/255" in mixed.rule


def test_a_model_without_layers_has_a_tolerance_too() -> None:
    from onnx import helper

    from leanedge.load import load_model

    model = two_sides.model_of([helper.make_node("Tanh", ["x"], ["y"], name="t")], {"x": [1, 3]}, {"y": [1, 3]}, [])
    assert tolerance_for(load_model(model, {}).graph, "y", (), quantized=False).relative == pytest.approx(4 * 2**-23)


@given(st.integers(0, 1000), st.one_of(st.none(), st.integers(0, 10**12)))
def test_samples_in_emulation(total: int, instructions: int | None) -> None:
    number = samples_to_emulate(total, instructions)
    assert min(total, 4) <= number <= min(total, 64)
    if instructions and number > 4:
        assert number * instructions <= EMULATED_INSTRUCTIONS


def test_where_rounding_itself_does_more_as_much_is_allowed() -> None:
    graph, _ = two_sides.classifier()
    steps = tolerance_for(graph, "logits", (), quantized=True)
    assert tolerance_for(graph, "logits", (), quantized=True, rounding=steps.relative) == steps
    wide = tolerance_for(graph, "logits", (), quantized=True, rounding=0.2)
    assert wide.relative == 0.2
    assert "what rounding itself does" in wide.rule
    assert tolerance_for(graph, "logits", ("logits",), quantized=True, rounding=0.2).relative == 0.0
    assert tolerance_for(graph, "logits", (), quantized=False, rounding=0.2).relative < 1e-4

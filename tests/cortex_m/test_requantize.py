"""Requantization in few instructions against TFLM's two roundings, in numpy."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from leanedge.targets.cortex_m.kernels.requantize import requantization, steps, sum_range

from leanedge.program.fixed_point import quantized_multiplier, scale_by
from leanedge.program.weighted import WeightedLayer


@st.composite
def layers(draw, lowest=-16.0, highest=0.0):
    channels, depth = draw(st.integers(1, 5)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    spread = draw(st.sampled_from([0.0, 0.3, 2.0]))
    center = draw(st.floats(lowest, highest))
    pairs = [quantized_multiplier(float(2.0 ** (center + rng.normal() * spread))) for _ in range(channels)]
    zero = draw(st.sampled_from([-128, -128, -100, 0, 7, 127]))
    low = zero if draw(st.booleans()) else -128
    high = draw(st.sampled_from([127, 127, max(low, 60)]))
    weights = rng.integers(-127, 128, (channels, 1, 1, depth)).astype(np.int8)
    weights[rng.random(channels) < 0.1] = 0
    return WeightedLayer(
        "conv_2d",
        (1, 1, depth),
        (1, 1, channels),
        weights,
        rng.integers(-5000, 5000, channels),
        draw(st.integers(-128, 127)),
        zero,
        np.array([pair[0] for pair in pairs]),
        np.array([pair[1] for pair in pairs]),
        low,
        high,
    )


def wanted(layer, sums):
    scaled = scale_by(sums, layer.multiplier[:, None], layer.power[:, None])
    return np.clip(scaled + layer.output_zero, layer.low, layer.high)


def reached_sums(layer):
    """Up to 3000 sums of each channel over its whole range, its ends, and all sums around its steps."""
    low, high = sum_range(layer)
    even = np.linspace(low, high, 3000, axis=1).astype(np.int64)
    near = np.concatenate([steps(layer) + d for d in (-1, 0, 1)], axis=1)
    return np.concatenate([even, np.clip(near, low[:, None], high[:, None])], axis=1)


@given(layers())
@settings(max_examples=50, deadline=None)
def test_equal_to_two_roundings_over_all_sums_that_are_reached(layer):
    sums = reached_sums(layer)
    for least, most in ((0, 8), (8, 8), (1, 1)):
        found = requantization(layer, np.full(len(layer.bias), least), np.full(len(layer.bias), most))
        if found is not None:
            np.testing.assert_array_equal(found.evaluate(sums), wanted(layer, sums), err_msg=found.form)


@given(layers(-12.0, -5.0))
@settings(max_examples=30, deadline=None)
def test_steps_are_where_the_result_rises(layer):
    at = steps(layer)
    values = np.arange(layer.low + 1, layer.high + 1)[None, :]
    near = np.abs(at) < 1 << 24
    assert (wanted(layer, np.where(near, at, 0)) >= values)[near].all()
    assert (wanted(layer, np.where(near, at - 1, 0)) < values)[near].all()


def test_relu_at_the_lowest_zero_point_takes_two_instructions():
    layer = _one_channel(power=-8, zero=-128, low=-128)
    found = requantization(layer, np.array([0]), np.array([8]))
    assert found.form == "floor"
    assert len(found.instructions("r8", [["r0"]], ["r9", "r10", "r11", "r12", "lr"])) == 1 + 2


def test_a_tie_below_the_zero_point_rounds_away_from_it():
    layer = _one_channel(power=-8, zero=0, low=-128)
    found = requantization(layer, np.array([0]), np.array([8]))
    assert found.form == "signed"
    # A multiplier of 2^30 is a half: sums of 256 are half a step, and 127.5 was rounded up by the first rounding.
    assert found.evaluate(np.array([[-256, 256, -255, 255]])).tolist() == [[-1, 1, 0, 1]]
    broken = dataclasses.replace(found, form="floor")
    assert broken.evaluate(np.array([[-256]])).tolist() != [[-1]]


def test_what_would_overflow_is_not_offered():
    layer = _one_channel(power=20, zero=0, low=-128)
    assert requantization(layer, np.array([0]), np.array([8])) is None


def _one_channel(power, zero, low):
    weights = np.full((1, 1, 1, 4), 127, np.int8)
    one = np.array([1 << 30]), np.array([power])
    return WeightedLayer("conv_2d", (1, 1, 4), (1, 1, 1), weights, np.array([0]), 0, zero, *one, low, 127)

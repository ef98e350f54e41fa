"""The arithmetic: ranges, weights, biases, rounding by covariance."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanedge.compress.quantize.calibrate import Histogram, quant_of_range, squared_error
from leanedge.compress.quantize.rounding import gptq_rows
from leanedge.compress.quantize.weights import (
    quantize_bias,
    quantize_constant,
    quantize_weight,
    smallest_weight_scale,
    weight_scale,
)

ends = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)


@given(ends, ends, st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_error_is_at_most_half_a_step_and_zero_is_exact(a: float, b: float, parts: list[float]) -> None:
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    quant = quant_of_range(low, high)
    values = np.array([0.0, *(low + part * (high - low) for part in parts)], np.float32)
    back = quant.dequantize(quant.quantize(values))
    assert back[0] == 0.0
    # The zero point is rounded, which moves the range by up to half a step: that much of an end may saturate.
    inside = (values >= quant.range[0]) & (values <= quant.range[1])
    step = float(quant.scale)
    assert np.all(np.abs(back - values)[inside] <= step * 0.5001 + 1e-30)
    assert np.all(np.abs(back - values) <= step * 1.0001 + 1e-30)


@given(st.floats(0.001, 1e4))
def test_a_relu_range_starts_at_the_lowest_code(high: float) -> None:
    quant = quant_of_range(0.0, high)
    assert int(quant.zero_point) == -128
    assert quant.range[0] == 0.0
    assert quant.range[1] == pytest.approx(high, rel=1e-5)


def test_constant_zero_range_is_usable() -> None:
    quant = quant_of_range(0.0, 0.0)
    assert float(quant.scale) > 0
    assert quant.dequantize(quant.quantize(np.zeros(3, np.float32))).tolist() == [0, 0, 0]


def test_squared_error_is_what_rounding_leaves() -> None:
    data = np.random.default_rng(0).normal(size=200_000).astype(np.float32)
    low, high = float(data.min()), float(data.max())
    counts, edges = np.histogram(data, 2048, (low, high))
    sums, _ = np.histogram(data, edges, weights=data)
    histogram = Histogram(low, high, counts.astype(float), sums)
    for part in (1.0, 0.6, 0.3):
        quant = quant_of_range(low * part, high * part)
        real = float(((quant.dequantize(quant.quantize(data)) - data).astype(float) ** 2).sum())
        assert squared_error(histogram, quant) == pytest.approx(real, rel=0.05)


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 40))
def test_weight_scales_are_no_worse_than_min_max(seed: int, rows: int, columns: int) -> None:
    weight = np.random.default_rng(seed).standard_t(3, (rows, columns)).astype(np.float32)
    rounded = quantize_weight(weight, 0)
    assert rounded.integers.min() >= -127
    assert np.all(rounded.quant.zero_point == 0)
    full = np.abs(weight).max(axis=1, keepdims=True) / 127
    nearest = np.rint(weight / full) * full
    best = rounded.quant.dequantize(rounded.integers)
    assert np.all(((best - weight) ** 2).sum(1) <= ((nearest - weight) ** 2).sum(1) * 1.001 + 1e-12)


def test_weight_scale_of_zeros_is_positive() -> None:
    assert np.all(weight_scale(np.zeros((2, 5))) > 0)


def test_per_channel_axis_is_kept() -> None:
    weight = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    rounded = quantize_weight(weight, 1)
    assert rounded.quant.axis == 1
    assert rounded.quant.scale.shape == (4,)
    assert np.abs(rounded.quant.dequantize(rounded.integers) - weight).max() <= float(rounded.quant.scale.max())


@given(st.integers(0, 1000))
def test_bias_scale_is_input_times_weight_scale(seed: int) -> None:
    random = np.random.default_rng(seed)
    weight = quantize_weight(random.normal(size=(5, 7)).astype(np.float32), 0).quant
    scale, bias = np.float32(random.uniform(1e-4, 1)), random.normal(size=5).astype(np.float32)
    rounded = quantize_bias(bias, scale, weight)
    assert rounded.quant.dtype == "int32"
    assert np.array_equal(rounded.quant.scale, scale * weight.scale)
    error = np.abs(rounded.quant.dequantize(rounded.integers).astype(float) - bias)
    assert np.all(error <= rounded.quant.scale * 0.51 + np.abs(bias) * 1e-6)


def test_a_large_bias_on_tiny_weights_does_not_overflow() -> None:
    bias, scale = np.array([1000.0, 0.1], np.float32), np.float32(1e-3)
    weight = np.full((2, 4), 1e-9, np.float32)
    rounded = quantize_weight(weight, 0, smallest_scale=smallest_weight_scale(bias, scale))
    back = quantize_bias(bias, scale, rounded.quant)
    assert back.quant.dequantize(back.integers) == pytest.approx(bias, rel=1e-3)


@given(st.floats(-100, 100, width=32))
def test_a_scalar_constant_is_exact(value: float) -> None:
    constant = quantize_constant(np.array([value], np.float32))
    assert constant.quant.dequantize(constant.integers)[0] == pytest.approx(value, rel=1e-6, abs=1e-30)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(2, 80))
def test_rounding_by_covariance_never_loses_to_nearest(seed: int, groups: int, columns: int) -> None:
    random = np.random.default_rng(seed)
    mixing = random.normal(size=(columns, columns))
    data = random.normal(size=(groups, 400, columns)) @ mixing
    covariance = np.matmul(data.transpose(0, 2, 1), data) / 400
    rows = random.normal(size=(groups, 4, columns))
    scale = np.abs(rows).max(axis=2) / 7  # coarse, so that rounding matters
    integers, error = gptq_rows(rows, scale, covariance)
    assert np.abs(integers).max() <= 127
    nearest = np.rint(rows / scale[..., None]) * scale[..., None] - rows
    plain = (np.matmul(nearest, covariance) * nearest).sum(-1)
    assert np.all(error <= plain * (1 + 1e-9))
    made = integers * scale[..., None] - rows
    assert (np.matmul(made, covariance) * made).sum(-1) == pytest.approx(error)
    if columns >= 20:
        assert error.sum() < 0.9 * plain.sum()

"""Kernels for Armv6-M, which has neither SIMD nor long multiplication, on an emulated Cortex-M0+."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layers import assert_exact, conv, fully_connected, made
from leanedge.targets.cortex_m.kernels.requantize import steps, sum_range
from leanedge.targets.cortex_m.kernels.thumb1_gemm import five_windows, one_window
from leanedge.targets.cortex_m.kernels.thumb1_requantize import distance_requantization

from leanedge.program.fixed_point import scale_by
from leanedge.program.weighted import weighted_layer

MAKERS = (five_windows, one_window)
CORE = "cortex-m0plus"


@st.composite
def layers(draw):
    activation, zero = draw(st.sampled_from([("relu", -128), ("relu", -90), ("none", 5), ("relu6", -128)]))
    high, wide = draw(st.sampled_from([(1, 1), (1, 1), (3, 3), (1, 2), (2, 1)]))
    return conv(
        (high + draw(st.integers(0, 4)), wide + draw(st.integers(0, 4)), draw(st.integers(1, 9))),
        draw(st.integers(1, 9)),
        kernel=(high, wide),
        strides=(draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        dilations=(draw(st.integers(1, 2)), 1) if high == 1 else (1, 1),
        pads=draw(st.sampled_from([(0, 0, 0, 0), (high - 1, high // 2, wide // 2, wide - 1)])),
        activation=activation,
        zero=zero,
        largest=draw(st.sampled_from([1, 20, 127])),
        spread=draw(st.sampled_from([0.0, 0.3, 2.0])),
        seed=draw(st.integers(0, 1000)),
    )


@given(st.lists(layers(), min_size=10, max_size=10))
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_layer(programs):
    programs = [*programs, conv((1, 7, 3), 4)]
    offers = [(p, kernel) for n, p in enumerate(programs) for kernel in made(p, MAKERS, CORE, f"t{n}")]
    assert_exact(offers, CORE)


def test_networks_layers():
    programs = [
        conv((49, 10, 1), 64, kernel=(10, 4), strides=(2, 2), pads=(4, 5, 1, 1)),
        conv((5, 5, 64), 64),
        conv((6, 6, 16), 16, kernel=(3, 3), pads=(1, 1, 1, 1), activation="none", zero=4),
        conv((2, 3, 7), 300),
        fully_connected(640, 16, activation="relu", zero=-128),
        fully_connected(64, 11),
        fully_connected(3, 2),
        fully_connected(70, 9, rows=4),
    ]
    offers = [(p, kernel) for n, p in enumerate(programs) for kernel in made(p, MAKERS, CORE, f"t{n}")]
    assert len(offers) == len(programs)
    seen = assert_exact(offers, CORE)
    pointwise = next(o for (p, k), o in zip(_placed(offers), seen, strict=True) if p is programs[1])
    assert pointwise.counts.instructions / (25 * 64 * 64) < 3.1


def _placed(offers):
    """Offers as often as `assert_exact` tries each: apart, and at each lead."""
    return [(p, k) for p, k in offers for _ in range(1 + sum(lead is not None for lead in k.leads))]


@given(layers())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_requantization_over_all_sums_that_are_reached(program):
    layer = weighted_layer(program, program.operators[0])
    found = distance_requantization(layer)
    if found is None:
        return
    low, high = sum_range(layer)
    near = np.concatenate([steps(layer) + d for d in (-1, 0, 1)], axis=1)
    even = np.linspace(low, high, 2000, axis=1).astype(np.int64)
    sums = np.concatenate([even, np.clip(near, low[:, None], high[:, None])], axis=1)
    scaled = scale_by(sums, layer.multiplier[:, None], layer.power[:, None]) + layer.output_zero
    np.testing.assert_array_equal(evaluated(found, sums), np.clip(scaled, layer.low, layer.high))


def evaluated(found, sums):
    """What the instructions do, in Python."""
    words = found.words.view(np.uint32).astype(np.int64)
    columns = [words[:, [n]] for n in range(words.shape[1])]
    distance = np.clip(sums - found.base[:, None], 0, columns[0])
    total = distance * columns[1]
    if found.signed:
        total = total - np.where(distance < columns[4], columns[5], 0)
    total = total + ((distance * columns[2] & 0xFFFFFFFF) >> found.split) + columns[3]
    return ((total & 0xFFFFFFFF) >> 23) + found.lowest


def test_only_layers_that_go_below_the_zero_point_pay_for_ties_there():
    linear, clamped = conv((1, 2, 16), 3, activation="none", zero=0), conv((1, 2, 16), 3)
    signed = [distance_requantization(weighted_layer(p, p.operators[0])).signed for p in (linear, clamped)]
    assert signed == [True, False]


@pytest.mark.parametrize("core", ["cortex-m4", "cortex-m33"])
def test_cores_with_simd_have_better_ones(core):
    assert not made(conv((1, 4, 8), 4), MAKERS, core, "t")

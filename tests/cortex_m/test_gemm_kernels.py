"""Kernels made of the two-pixel matrix product, on emulated cores, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layers import assert_exact, conv, made
from leanedge.targets.cortex_m.kernels.pointwise import pointwise_int8, pointwise_int16

from leanedge.program.types import Dense

DSP_CORES = ["cortex-m4", "cortex-m7", "cortex-m33"]
POINTWISE = (pointwise_int16, pointwise_int8)

ACTIVATIONS = st.sampled_from(
    [("relu", -128), ("relu", -90), ("none", 5), ("none", -128), ("relu6", -128), ("relu_n1_to_1", 10)]
)


@st.composite
def pointwise_layers(draw):
    activation, zero = draw(ACTIVATIONS)
    return conv(
        (1, draw(st.integers(2, 9)), draw(st.integers(1, 45))),
        draw(st.integers(1, 14)),
        activation=activation,
        zero=zero,
        largest=draw(st.sampled_from([1, 20, 127])),
        spread=draw(st.sampled_from([0.0, 0.3, 2.0])),
        seed=draw(st.integers(0, 1000)),
    )


@given(st.lists(pointwise_layers(), min_size=8, max_size=8))
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_pointwise_layer(programs):
    offers = [
        (program, kernel)
        for n, program in enumerate(programs)
        for kernel in made(program, POINTWISE, "cortex-m4", f"p{n}")
    ]
    assert offers
    assert_exact(offers, "cortex-m4")


@pytest.mark.parametrize("core", DSP_CORES)
def test_pointwise_of_many_channels(core):
    programs = [conv((3, 3, 70), 24), conv((5, 5, 64), 20), conv((1, 2, 300), 5, activation="none", zero=4)]
    offers = [(p, kernel) for n, p in enumerate(programs) for kernel in made(p, POINTWISE, core, f"p{n}")]
    assert len(offers) == 6
    assert_exact(offers, core)


def test_pointwise_is_shorter_than_published_ones():
    program = conv((25, 5, 64), 64)
    offers = [(program, kernel) for kernel in made(program, POINTWISE, "cortex-m4", "p")]
    counts = {
        kernel.name: seen.counts.instructions / (125 * 64 * 64)
        for (_, kernel), seen in zip(offers, assert_exact(offers, "cortex-m4")[::2], strict=True)
    }
    assert counts["pointwise_int16"] < 0.75
    assert counts["pointwise_int8"] < 0.86


def test_weights_of_minus_128_that_one_half_word_cannot_hold():
    program = conv((1, 4, 8), 4)
    weights = np.full((4, 1, 1, 8), -128, np.int8)
    tensors = {**program.tensors}
    tensors["c0"] = type(tensors["c0"])("c0", weights.shape, "int8", tensors["c0"].quant, Dense(weights))
    program = type(program)(tensors, program.operators, (), ())
    kernels = made(program, POINTWISE, "cortex-m4", "p")
    assert [kernel.name for kernel in kernels] == ["pointwise_int16"]
    assert_exact([(program, kernel) for kernel in kernels], "cortex-m4")


def test_a_core_without_dsp_is_offered_none():
    assert not made(conv((1, 4, 8), 4), POINTWISE, "cortex-m0plus", "p")

"""Kernels made of the two-pixel matrix product, on emulated cores, against the reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layers import assert_exact, conv, fully_connected, made
from leanedge.targets.cortex_m.kernels.compact import convolution_int8_compact, convolution_int8_in_ram
from leanedge.targets.cortex_m.kernels.convolution import convolution_int8, convolution_int16
from leanedge.targets.cortex_m.kernels.fully_connected import (
    fully_connected_int8,
    fully_connected_int8_compact,
    fully_connected_int8_no_scratch,
    fully_connected_int16,
)
from leanedge.targets.cortex_m.kernels.pointwise import pointwise_int8, pointwise_int16

from leanedge.program.types import Dense

DSP_CORES = ["cortex-m4", "cortex-m7", "cortex-m33"]
POINTWISE = (pointwise_int16, pointwise_int8, convolution_int8_compact, convolution_int8_in_ram)
CONVOLUTION = (convolution_int16, convolution_int8, convolution_int8_compact, convolution_int8_in_ram)
FULLY_CONNECTED = (
    fully_connected_int16,
    fully_connected_int8,
    fully_connected_int8_compact,
    fully_connected_int8_no_scratch,
)

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
    assert len(offers) == 12
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
    assert counts["convolution_int8_compact"] < 0.95


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


@st.composite
def convolutions(draw):
    high, wide = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    down, across = (draw(st.integers(1, 2)) if size > 1 else 1 for size in (high, wide))
    reach, breadth = (high - 1) * down + 1, (wide - 1) * across + 1
    pads = draw(st.sampled_from([(0, 0, 0, 0), (high // 2, reach - 1, breadth // 2, wide // 2)]))
    activation, zero = draw(ACTIVATIONS)
    return conv(
        (reach + draw(st.integers(0, 5)), breadth + draw(st.integers(0, 5)), draw(st.integers(1, 6))),
        draw(st.integers(1, 9)),
        kernel=(high, wide),
        strides=(draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        dilations=(down, across),
        pads=pads,
        activation=activation,
        zero=zero,
        seed=draw(st.integers(0, 1000)),
    )


@given(st.lists(convolutions(), min_size=8, max_size=8))
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_convolution(programs):
    programs = [*programs, conv((5, 6, 2), 3, kernel=(2, 3), pads=(1, 0, 1, 1))]
    offers = [(p, kernel) for n, p in enumerate(programs) for kernel in made(p, CONVOLUTION, "cortex-m4", f"c{n}")]
    assert_exact(offers, "cortex-m4")


@pytest.mark.parametrize("core", DSP_CORES)
def test_first_convolutions_and_strided_ones(core):
    programs = [
        conv((49, 10, 1), 64, kernel=(10, 4), strides=(2, 2), pads=(4, 5, 1, 1)),
        conv((24, 24, 3), 8, kernel=(3, 3), strides=(2, 2), pads=(0, 1, 0, 1)),
        conv((8, 8, 16), 32, kernel=(3, 3), strides=(2, 2), pads=(0, 1, 0, 1)),
        conv((9, 7, 16), 12, strides=(2, 2), activation="none", zero=-17),
    ]
    offers = [(p, kernel) for n, p in enumerate(programs) for kernel in made(p, CONVOLUTION, core, f"c{n}")]
    assert len(offers) == 16
    assert_exact(offers, core)


def test_a_grouped_convolution_and_one_of_a_single_pixel_are_left_to_others():
    assert not made(conv((3, 3, 2), 4, kernel=(3, 3)), CONVOLUTION, "cortex-m4", "c")


@given(st.lists(st.tuples(st.integers(1, 150), st.integers(1, 13), ACTIVATIONS), min_size=8, max_size=8))
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_fully_connected(shapes):
    programs = [fully_connected(depth, n, activation=a, zero=z, seed=depth) for depth, n, (a, z) in shapes]
    programs += [conv((1, 1, depth), n, activation=a, zero=z, seed=n) for depth, n, (a, z) in shapes[:3]]
    programs += [fully_connected(252 + 4 * n, n, activation=a, zero=z, seed=n) for _, n, (a, z) in shapes]
    offers = [(p, kernel) for n, p in enumerate(programs) for kernel in made(p, FULLY_CONNECTED, "cortex-m4", f"f{n}")]
    assert_exact(offers, "cortex-m4")


@pytest.mark.parametrize("core", DSP_CORES)
def test_fully_connected_of_an_autoencoder(core):
    programs = [
        fully_connected(640, 128, activation="relu", zero=-128),
        fully_connected(128, 128, activation="relu", zero=-128),
        fully_connected(128, 128, activation="relu", zero=-128, seed=1),
        fully_connected(8, 130),
    ]
    offers = [(p, kernel) for n, p in enumerate(programs) for kernel in made(p, FULLY_CONNECTED, core, f"f{n}")]
    assert len(offers) == 13
    assert_exact(offers, core)
    # One scale for all channels: four bytes a channel are all that the weights do not account for.
    assert made(programs[0], FULLY_CONNECTED[1:2], core, "f")[0].constant_bytes <= 640 * 128 + 4 * 128 + 16


def test_the_least_ram_of_a_fully_connected_is_its_input_and_output():
    kernels = made(fully_connected(640, 128), FULLY_CONNECTED, "cortex-m4", "f")
    assert [kernel.scratch_bytes for kernel in kernels] == [1280, 1280, 1280, 0]
    assert not made(fully_connected(639, 128), FULLY_CONNECTED[3:], "cortex-m4", "f")


def test_all_shapes_share_the_compact_code():
    programs = [conv((3, 3, 16), 8, spread=0.0), conv((5, 4, 16), 12, strides=(2, 1), spread=0.0)]
    offers = [made(p, (convolution_int8_compact,), "cortex-m4", f"c{n}")[0] for n, p in enumerate(programs)]
    assert offers[0].source == offers[1].source
    assert len(offers[0].source.splitlines()) < 300


def test_layers_of_one_shape_share_their_code():
    programs = [fully_connected(64, 8, activation="relu", zero=-128, seed=seed) for seed in (1, 2)]
    sources = {made(p, FULLY_CONNECTED[:1], "cortex-m4", f"f{n}")[0].source for n, p in enumerate(programs)}
    assert len(sources) == 1
